"""Synthesised weights and inputs: every value is a function of its name and index alone.

The twin of `openclip-core/src/weights/synth.rs` (and `synth/`), equal to it bit for bit: integer arithmetic up to a
24-bit integer, then one multiplication and one addition in float32. `conformance/README.md` describes both.

    python synth.py --out conformance/synth.json    # values that the Rust twin's tests compare with
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

# Bumped when any value changes, so that references and generator can't be mixed up.
GENERATOR = 1

U64 = (1 << 64) - 1
# Values made at a time: small enough to stay in cache.
CHUNK = 1 << 16


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    state = 0xCBF29CE484222325
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & U64
    return state


def keys(name: str) -> tuple[int, int]:
    """Two 32-bit keys of a name: its FNV-1a hash through splitmix64's finaliser."""
    z = fnv1a(name.encode())
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & U64
    z ^= z >> 31
    return z & 0xFFFFFFFF, z >> 32


def hash32(name: str, start: int, count: int) -> np.ndarray:
    """Hashes of the counters `start .. start + count` (modulo 2^32) under `name`, as uint32."""
    key0, key1 = keys(name)
    x = np.arange(start, start + count, dtype=np.uint64).astype(np.uint32)
    x *= np.uint32(0x9E3779B9)
    x += np.uint32(key0)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x ^= np.uint32(key1)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def uniform(name: str, start: int, count: int, offset, scale) -> np.ndarray:
    """float32 values `offset + scale * u`, u in [-1, 1) in steps of 2^-23."""
    signed = (hash32(name, start, count).view(np.int32) >> np.int32(8)).astype(np.float32)
    # Scaling by a power of two is exact, so this rounds like scale * (signed * 2^-23).
    signed *= np.float32(scale) * np.float32(2.0**-23)
    signed += np.float32(offset)
    return signed


def stem(name: str) -> str:
    """The name that is hashed: the same in both layouts of the text tower."""
    return name.removeprefix("text.")


def rule(name: str, dims) -> tuple[np.float32, np.float32]:
    """Offset and scale of a parameter, by the first line of the table in conformance/README.md that fits."""
    path = name.split(".")
    last, parent = path[-1], path[-2] if len(path) > 1 else ""

    def spread(offset, scale):
        return np.float32(offset), np.float32(scale)

    def fan_in(gain, fan):
        return np.float32(0.0), np.float32(gain) * np.sqrt(np.float32(3.0) / np.float32(fan))

    if last == "logit_scale":
        return spread(2.639, 0.05)
    if last == "logit_bias":
        return spread(-10.0, 1.0)
    if last == "running_var":
        return spread(1.0, 0.5)
    if last == "head_scale":
        return spread(1.0, 0.5)
    if parent.startswith("layer_scale"):
        return spread(0.1, 0.05)
    if "gamma" in last or "layer_scale" in last:
        return spread(0.5, 0.25)
    if last.endswith("bias") or last == "running_mean":
        return spread(0.0, 0.1)
    if last == "weight" and len(dims) == 1:
        return spread(1.0, 0.25)
    if last == "query" or parent.endswith(("embedding", "embeddings", "embed_tokens", "shared")):
        return spread(0.0, 0.05)
    if len(dims) == 2 and last in ("proj", "text_projection"):
        return fan_in(1.0, dims[0])
    if last in ("in_proj_weight", "q_proj_weight", "k_proj_weight") or parent == "qkv":
        return fan_in(1.5, math.prod(dims[1:]))
    # T5 doesn't scale its scores, so its queries are small.
    if name.endswith(".SelfAttention.q.weight"):
        return fan_in(0.25, math.prod(dims[1:]))
    if last.endswith("weight"):
        return fan_in(1.0, math.prod(dims[1:]))
    return spread(0.0, 0.5) if path[0] == "visual" else spread(0.0, 0.05)


def parameter(name: str, dims, spreads=None) -> np.ndarray:
    """The parameter `name` in dimensions `dims`. `spreads` are offsets and scales by the ends of names, before the rules."""
    own = (spread for end, spread in (spreads or {}).items() if name.endswith(end))
    offset, scale = next((tuple(map(np.float32, spread)) for spread in own), rule(name, dims))
    out = np.empty(math.prod(dims), dtype=np.float32)
    for start in range(0, out.size, CHUNK):
        part = out[start : start + CHUNK]
        part[:] = uniform(stem(name), start, part.size, offset, scale)
    return out.reshape(dims)


# Side of the square blocks of equal colour that an image is a sum of, and their amplitude.
IMAGE_SCALES = ((1024, 0.75), (64, 1.0), (16, 0.5), (4, 0.25), (1, 0.125))


def image(dims) -> np.ndarray:
    """Images `[N, 3, H, W]`, as if already normalised: blocks of noise at several scales, added in order."""
    rows, channels, height, width = dims
    out = np.zeros(dims, dtype=np.float32)
    for side, amplitude in IMAGE_SCALES:
        down, across = -(-height // side), -(-width // side)
        blocks = uniform(f"image.{side}", 0, rows * channels * down * across, 0.0, amplitude)
        blocks = blocks.reshape(rows, channels, down, across)
        out += blocks.repeat(side, 2).repeat(side, 3)[:, :, :height, :width]
    return out


# Names and dimensions that together reach every line of the rules.
SAMPLES = (
    ("logit_scale", []),
    ("logit_bias", [1]),
    ("visual.bn1.running_var", [64]),
    ("visual.bn1.running_mean", [64]),
    ("visual.transformer.resblocks.1.attn.head_scale", [4, 1, 1]),
    ("visual.transformer.resblocks.0.ls_1.gamma", [48]),
    ("visual.trunk.stages.0.blocks.0.layer_scale", [32, 1, 1]),
    ("visual.trunk.stages.0.blocks.0.layer_scale_1.gamma", [32, 1, 1]),
    ("visual.conv1.weight", [24, 3, 8, 8]),
    ("visual.class_embedding", [96]),
    ("visual.positional_embedding", [17, 96]),
    ("visual.trunk.pos_embed", [1, 16, 32]),
    ("visual.trunk.layers.0.attn.relative_position_bias_table", [49, 3]),
    ("visual.trunk.blocks.0.attn.qkv.weight", [96, 32]),
    ("visual.attn_pool.query", [5, 64]),
    ("visual.attn_pool.attn.k_proj_weight", [64, 96]),
    ("visual.attn_pool.attn.v_proj_weight", [64, 96]),
    ("visual.ln_pre.weight", [96]),
    ("visual.proj", [96, 64]),
    ("text.transformer.resblocks.3.attn.in_proj_weight", [192, 64]),
    ("text.transformer.block.1.layer.0.SelfAttention.q.weight", [24, 48]),
    ("text.transformer.resblocks.3.attn.in_proj_bias", [192]),
    ("transformer.resblocks.3.mlp.c_proj.weight", [64, 256]),
    ("text.token_embedding.weight", [500, 64]),
    ("positional_embedding", [77, 64]),
    ("text.cls_emb", [64]),
    ("text.text_projection", [64, 48]),
    ("text.text_projection.weight", [48, 64]),
    ("text.transformer.embeddings.word_embeddings.weight", [100, 32]),
    ("text.transformer.shared.weight", [100, 32]),
)
IMAGE_SAMPLES = ([1, 3, 5, 7], [2, 3, 70, 33])


def digest(values: np.ndarray) -> str:
    return f"{fnv1a(values.astype('<f4').tobytes()):016x}"


def bits(values: np.ndarray) -> list[str]:
    return [f"{value:08x}" for value in values.astype("<f4").reshape(-1).view("<u4")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    out = parser.parse_args().out

    def sample(values):
        return {"first": bits(values.reshape(-1)[:4]), "last": bits(values.reshape(-1)[-1:]), "digest": digest(values)}

    result = {
        "generator": GENERATOR,
        "parameters": [{"name": name, "dims": dims, **sample(parameter(name, dims))} for name, dims in SAMPLES],
        "images": [{"dims": dims, **sample(image(dims))} for dims in IMAGE_SAMPLES],
    }
    lines = [f'  "generator": {GENERATOR}']
    for section in ("parameters", "images"):
        rows = ",\n".join("    " + json.dumps(row) for row in result[section])
        lines.append(f'  "{section}": [\n{rows}\n  ]')
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
