"""Writes checkpoints in the key layouts of other programs to conformance/layouts, and what a reader must make of them.

    python layouts.py [--tokenizer FOLDER]

Models are tiny and random. Of each layout there is a file that its own program saved, or, where the reference has a
conversion, one that this conversion was run on. What the tensors are in the names of open_clip's CustomTextCLIP is in
`expected.json`: dimensions, and the FNV-1a hash of the values in float32. For transformers, to which the reference has no
conversion, it is proven here: open_clip's model with these tensors must give the embeddings that transformers gives.
"""

import argparse
import json
import shutil
import types
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from open_clip.convert import convert_mobile_clip_state_dict, load_big_vision_weights
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import TextTransformer
from timm.layers import HybridEmbed
from timm.models.fastvit import FastVit, RepConditionalPosEnc
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel

from synth import fnv1a

ROOT = Path(__file__).resolve().parents[2] / "conformance"
OUT = ROOT / "layouts"
BUFFERS = ("attn_mask", "position_ids", "num_batches_tracked")


def described(state):
    """Dimensions and digest of every tensor."""
    tensors = {}
    for name, value in state.items():
        if name.rpartition(".")[2] in BUFFERS:
            continue
        values = value.detach().to(torch.float32).contiguous().numpy()
        tensors[name] = {"dims": list(value.shape), "digest": f"{fnv1a(values.tobytes()):016x}"}
    return tensors


def randomise(module, seed=0):
    """Values that tell every tensor, row and column from every other, on a scale that keeps activations sane."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if not value.is_floating_point() or value.numel() == 0 or name.endswith("attn_mask"):
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("logit_scale"):
                value.fill_(2.5)
            elif name.endswith("logit_bias"):
                value.fill_(-9.0)
            elif name.endswith("running_var"):
                value.copy_(noise.abs() + 0.5)
            elif value.ndim < 2:
                value.copy_(0.2 * noise + (1.0 if name.endswith("weight") and "norm" in name.lower() else 0.0))
            else:
                value.copy_(noise / value[0].numel() ** 0.5)
    return module.eval()


def halved(module):
    """Rounded to float16, so that files are small, and computed in float32."""
    return module.half().float()


def same(ours, theirs, what):
    difference = (ours - theirs).abs().max().item()
    assert difference < 1e-5, f"{what}: {difference}"


def attention(state, prefix):
    """Queries, keys and values of transformers as one tensor."""
    return {
        kind: torch.cat([state[f"{prefix}.{part}_proj.{kind}"] for part in "qkv"]) for kind in ("weight", "bias")
    }


NATIVE = {"layer_norm1": "ln_1", "self_attn.out_proj": "attn.out_proj", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
          "mlp.fc2": "mlp.c_proj"}
TRUNK = {"layer_norm1": "norm1", "self_attn.out_proj": "attn.proj", "layer_norm2": "norm2", "mlp.fc1": "mlp.fc1",
         "mlp.fc2": "mlp.fc2"}


def blocks(state, theirs, ours, layers, names, packed):
    """The blocks of an encoder under other names."""
    made = {}
    for layer in range(layers):
        source, target = f"{theirs}.encoder.layers.{layer}", f"{ours}.{layer}"
        for kind, value in attention(state, f"{source}.self_attn").items():
            made[f"{target}.attn.{packed}{kind}"] = value
            for their, our in names.items():
                made[f"{target}.{our}.{kind}"] = state[f"{source}.{their}.{kind}"]
    return made


def text_of(state, layers):
    return {
        "text.token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "text.positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text.ln_final.weight": state["text_model.final_layer_norm.weight"],
        "text.ln_final.bias": state["text_model.final_layer_norm.bias"],
        **blocks(state, "text_model", "text.transformer.resblocks", layers, NATIVE, "in_proj_"),
    }


def texts(length, vocabulary, start, end):
    ids = torch.full((3, length), end)
    for row, count in enumerate((2, 5, length - 2)):
        ids[row, 0] = start
        ids[row, 1 : count + 1] = torch.arange(count) * 7 % (min(start, end) - 1) + 1
    return ids


def clip(tokenizer):
    """A folder as transformers saves a CLIP with its processor, in both formats, and its embeddings of a picture's pixels and texts."""
    vocabulary = json.loads((tokenizer / "vocab.json").read_text())
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    text = dict(vocab_size=len(vocabulary), hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=16, bos_token_id=start, eos_token_id=end, pad_token_id=end)
    vision = dict(hidden_size=24, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3, image_size=32, patch_size=8)
    model = halved(randomise(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))))
    folder = OUT / "hf_clip"
    model.half().save_pretrained(folder)
    model.save_pretrained(folder, safe_serialization=False)
    model.float()
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)

    state = model.state_dict()
    made = {
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "text.text_projection": state["text_projection.weight"].T,
        "logit_scale": state["logit_scale"],
        **blocks(state, "vision_model", "visual.transformer.resblocks", 2, NATIVE, "in_proj_"),
        **text_of(state, 2),
    }
    for kind in ("weight", "bias"):
        made[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        made[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
    reference = CLIP(
        12,
        CLIPVisionCfg(layers=2, width=24, head_width=8, mlp_ratio=44.5 / 24, patch_size=8, image_size=32),
        CLIPTextCfg(context_length=16, vocab_size=len(vocabulary), width=16, heads=2, layers=2, mlp_ratio=2.5,
                    pool_type="eos", eos_id=end),
        quick_gelu=True,
    ).eval()
    reference.load_state_dict({name.removeprefix("text."): value for name, value in made.items()}, strict=True)
    pixels, ids = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), texts(16, len(vocabulary), start, end)
    with torch.no_grad():
        same(reference.encode_image(pixels), model.get_image_features(pixel_values=pixels), "CLIP image")
        same(reference.encode_text(ids), model.get_text_features(input_ids=ids), "CLIP text")
    embeddings(folder, model, processor, CLIPTokenizer.from_pretrained(tokenizer))
    return made


def embeddings(folder, model, processor, tokenizer):
    """A picture, texts, and what transformers makes of them from end to end: embeddings of unit length."""
    row, column = np.mgrid[0:40, 0:48]
    picture = np.stack([row * 5, column * 5, (row * 7 + column * 11) % 256], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(folder / "picture.png", optimize=True)
    sentences = ["a photo of a cat", "Zwei Hunde, drei Katzen!", "the quick brown fox jumps over the lazy dog and then over everything else"]
    ids = tokenizer(sentences, padding="max_length", truncation=True, max_length=16, return_tensors="pt").input_ids
    pixels = processor(Image.open(folder / "picture.png"), return_tensors="pt").pixel_values
    with torch.no_grad():
        image = model.get_image_features(pixel_values=pixels)
        text = model.get_text_features(input_ids=ids)
    unit = lambda rows: [[round(value, 8) for value in row] for row in nn.functional.normalize(rows).tolist()]
    texts = [
        {"text": sentence, "ids": row, "embedding": embedding}
        for sentence, row, embedding in zip(sentences, ids.tolist(), unit(text))
    ]
    lines = ",\n".join(json.dumps(text, ensure_ascii=False) for text in texts)
    (folder / "embeddings.json").write_text(f'{{"image": {unit(image)[0]},\n"texts": [\n{lines}]}}\n')


class Siglip(nn.Module):
    """The reference's model of SigLIP in a size of our own."""

    def __init__(self, vocabulary, act_layer):
        super().__init__()
        trunk = timm.models.VisionTransformer(img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=3, mlp_ratio=22.5 / 12,
                                              class_token=False, global_pool="map", num_classes=0, act_layer=act_layer)
        self.visual = nn.Module()
        self.visual.trunk = trunk
        self.text = TextTransformer(
            context_length=16, vocab_size=vocabulary, width=16, heads=2, layers=2, mlp_ratio=2.5, output_dim=12, no_causal_mask=True,
            pool_type="last", proj_bias=True, act_layer=partial(nn.GELU, approximate="tanh"), norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        self.logit_scale = nn.Parameter(torch.zeros([]))
        self.logit_bias = nn.Parameter(torch.zeros([]))


def siglip():
    text = dict(vocab_size=60, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=16, projection_size=12)
    vision = dict(hidden_size=12, intermediate_size=22, num_hidden_layers=2, num_attention_heads=3, image_size=16, patch_size=4)
    model = halved(randomise(SiglipModel(SiglipConfig(text_config=text, vision_config=vision))))
    folder = OUT / "hf_siglip"
    model.half().save_pretrained(folder)
    model.float()
    SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)

    state = model.state_dict()
    made = {
        "visual.trunk.pos_embed": state["vision_model.embeddings.position_embedding.weight"][None],
        "visual.trunk.attn_pool.latent": state["vision_model.head.probe"],
        "logit_scale": state["logit_scale"][0],
        "logit_bias": state["logit_bias"][0],
        **blocks(state, "vision_model", "visual.trunk.blocks", 2, TRUNK, "qkv."),
        **text_of(state, 2),
    }
    pool, head = "visual.trunk.attn_pool", "vision_model.head"
    for kind in ("weight", "bias"):
        made[f"visual.trunk.patch_embed.proj.{kind}"] = state[f"vision_model.embeddings.patch_embedding.{kind}"]
        made[f"visual.trunk.norm.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        made[f"text.text_projection.{kind}"] = state[f"text_model.head.{kind}"]
        packed = state[f"{head}.attention.in_proj_{kind}"]
        made[f"{pool}.q.{kind}"], made[f"{pool}.kv.{kind}"] = packed[:12], packed[12:]
        made[f"{pool}.proj.{kind}"] = state[f"{head}.attention.out_proj.{kind}"]
        made[f"{pool}.norm.{kind}"] = state[f"{head}.layernorm.{kind}"]
        made[f"{pool}.mlp.fc1.{kind}"] = state[f"{head}.mlp.fc1.{kind}"]
        made[f"{pool}.mlp.fc2.{kind}"] = state[f"{head}.mlp.fc2.{kind}"]
    reference = Siglip(60, partial(nn.GELU, approximate="tanh")).eval()
    reference.load_state_dict(made, strict=True)
    pixels, ids = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.randint(60, (3, 16))
    with torch.no_grad():
        same(reference.visual.trunk(pixels), model.get_image_features(pixel_values=pixels), "SigLIP image")
        same(reference.text(ids), model.get_text_features(input_ids=ids), "SigLIP text")
    return made


def flax_block(arrays, prefix, width, heads, hidden, random):
    """A block, or the attention and MLP of a pooling head, in Flax's names and shapes."""
    for part in ("query", "key", "value"):
        arrays[f"{prefix}MultiHeadDotProductAttention_0/{part}/kernel"] = random(width, heads, width // heads)
        arrays[f"{prefix}MultiHeadDotProductAttention_0/{part}/bias"] = random(heads, width // heads)
    arrays[f"{prefix}MultiHeadDotProductAttention_0/out/kernel"] = random(heads, width // heads, width)
    arrays[f"{prefix}MultiHeadDotProductAttention_0/out/bias"] = random(width)
    for place, (rows, columns) in enumerate(((width, hidden), (hidden, width))):
        arrays[f"{prefix}MlpBlock_0/Dense_{place}/kernel"] = random(rows, columns)
        arrays[f"{prefix}MlpBlock_0/Dense_{place}/bias"] = random(columns)


def flax_encoder(arrays, prefix, layers, width, heads, hidden, norms, random):
    for layer in range(layers):
        block = f"{prefix}encoderblock_{layer}/"
        flax_block(arrays, block, width, heads, hidden, random)
        for norm in range(norms):
            arrays[f"{block}LayerNorm_{norm}/scale"] = random(width)
            arrays[f"{block}LayerNorm_{norm}/bias"] = random(width)
    arrays[f"{prefix}encoder_norm/scale"] = random(width)
    arrays[f"{prefix}encoder_norm/bias"] = random(width)


def stacked(arrays):
    """With all layers of an encoder in one array."""
    made, layers = {}, {}
    for name, value in arrays.items():
        before, found, after = name.partition("encoderblock_")
        if found:
            layer, _, rest = after.partition("/")
            layers.setdefault(f"{before}encoderblock/{rest}", {})[int(layer)] = value
        else:
            made[name] = value
    return made | {name: np.stack([parts[layer] for layer in sorted(parts)]) for name, parts in layers.items()}


def big_vision():
    """SigLIP as big_vision's training writes it: names and shapes of Flax, layers stacked or apart."""
    generator = np.random.default_rng(0)
    random = lambda *dims: (generator.standard_normal(dims) * 0.25).astype(np.float32)
    arrays = {
        "img/embedding/kernel": random(4, 4, 3, 12),
        "img/embedding/bias": random(12),
        "img/pos_embedding": random(1, 16, 12),
        "img/MAPHead_0/probe": random(1, 1, 12),
        "img/MAPHead_0/LayerNorm_0/scale": random(12),
        "img/MAPHead_0/LayerNorm_0/bias": random(12),
        "txt/Embed_0/embedding": random(60, 16),
        "txt/pos_embedding": random(1, 16, 16),
        "txt/head/kernel": random(16, 12),
        "txt/head/bias": random(12),
        "b": np.float32([-9.0]),
        "t": np.float32([2.5]),
    }
    flax_encoder(arrays, "img/Transformer/", 2, 12, 3, 22, 2, random)
    flax_block(arrays, "img/MAPHead_0/", 12, 3, 22, random)
    flax_encoder(arrays, "txt/Encoder_0/", 2, 16, 2, 40, 2, random)
    half = {name: value.astype(np.float16).astype(np.float32) for name, value in arrays.items()}

    files = {
        # As published: stacked layers below `params/`.
        "big_vision.npz": (np.savez, stacked({f"params/{name}": value.astype(np.float16) for name, value in half.items()})),
        # The older form, compressed, with arrays in column-major order.
        "big_vision_layers.npz": (np.savez_compressed, {name: np.asfortranarray(value) for name, value in half.items()}),
    }
    made = {}
    for file, (save, content) in files.items():
        save(OUT / file, **content)
        reference = Siglip(60, nn.GELU)
        load_big_vision_weights(reference, str(OUT / file))
        made[file] = reference.state_dict()
    assert described(made["big_vision.npz"]) == described(made["big_vision_layers.npz"])

    # bfloat16 as JAX writes it, a type that NumPy hasn't got: two bytes without a meaning.
    upper = {name: (value.view(np.uint32) >> 16).astype(np.uint16).view("V2") for name, value in half.items()}
    np.savez(OUT / "big_vision_bf16.npz", **stacked(upper))
    widened = {name: (value.view(np.uint16).astype(np.uint32) << 16).view(np.float32) for name, value in upper.items()}
    reference = Siglip(60, nn.GELU)
    np.savez(OUT / "widened.npz", **stacked(widened))
    load_big_vision_weights(reference, str(OUT / "widened.npz"))
    (OUT / "widened.npz").unlink()
    made["big_vision_bf16.npz"] = reference.state_dict()
    return made


def apple_text(state, prefix="text_encoder."):
    """Names of Apple's text encoder: the reference's conversion backwards."""
    made = {}
    for name, value in state.items():
        if not name.startswith("text.") or name.endswith("attn_mask"):
            continue
        name = name.removeprefix("text.")
        for ours, theirs in (
            ("transformer.resblocks.", "transformer."),
            ("in_proj_weight", "qkv_proj.weight"),
            ("in_proj_bias", "qkv_proj.bias"),
            ("mlp.c_proj", "pre_norm_ffn.4"),
            ("mlp.c_fc", "pre_norm_ffn.1"),
            ("ln_2", "pre_norm_ffn.0"),
            ("attn.", "pre_norm_mha.1."),
            ("ln_1", "pre_norm_mha.0"),
            ("ln_final", "final_layer_norm"),
            ("token_embedding", "embedding_layer"),
            ("text_projection", "projection_layer"),
        ):
            name = name.replace(ours, theirs)
        if name == "positional_embedding":
            name, value = "positional_embedding.pos_embed.pos_embed", value[None, None]
        made[prefix + name] = value
    return made


def apple_fastvit(state, prefix="image_encoder.model."):
    made = {}
    stages = {"stages.0.blocks": "network.0", "stages.1.downsample": "network.1", "stages.1.blocks": "network.2",
              "stages.2.downsample": "network.3", "stages.2.blocks": "network.4", "stages.3.downsample": "network.5",
              "stages.3.pos_emb.pos_enc": "network.6.pe", "stages.3.blocks": "network.7"}
    for name, value in state.items():
        if name == "head.fc.bias":
            continue
        if name == "head.fc.weight":
            name, value = "head.proj", value.T
        for ours, theirs in stages.items():
            name = name.replace(ours, theirs)
        for ours, theirs in (("stem", "patch_embed"), ("conv_kxk", "rbr_conv"), ("conv_scale", "rbr_scale"), ("identity", "rbr_skip"),
                             ("final_conv", "conv_exp"), ("large_conv", "lkb_origin"), ("mlp", "convffn"), ("se.fc1", "se.reduce"),
                             ("se.fc2", "se.expand"), (".gamma", "")):
            name = name.replace(ours, theirs)
        made[prefix + name] = value
    return made


def apple_transformer(state, prefix="image_encoder.model."):
    made = {}
    for name, value in state.items():
        if name == "head.bias":
            continue
        if name == "head.weight":
            name, value = "classifier.proj", value.T
        elif name == "pos_embed":
            name, value = "pos_embed.pos_embed.pos_embed", value[None]
        for ours, theirs in (("patch_embed.backbone.", "patch_emb."), (".conv.", ".block.conv."), (".bn.", ".block.norm."),
                             ("blocks.", "transformer."), ("norm1", "pre_norm_mha.0"), ("attn.qkv", "pre_norm_mha.1.qkv_proj"),
                             ("attn.proj", "pre_norm_mha.1.out_proj"), ("norm2", "pre_norm_ffn.0"), ("mlp.fc1", "pre_norm_ffn.1"),
                             ("mlp.fc2", "pre_norm_ffn.4")):
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = "post_transformer_norm." + name.removeprefix("norm.")
        made[prefix + name] = value
    return made


class MobileClip(nn.Module):
    def __init__(self, trunk):
        super().__init__()
        self.visual = nn.Module()
        self.visual.trunk = trunk
        self.text = TextTransformer(context_length=16, vocab_size=60, width=16, heads=2, layers=1, output_dim=12, no_causal_mask=True)
        self.logit_scale = nn.Parameter(torch.zeros([]))


def mobileclip():
    fastvit = FastVit(
        layers=(1, 1, 1, 1), embed_dims=(8, 8, 16, 32), mlp_ratios=(1, 1, 1, 1), se_downsamples=(False, False, True, True),
        pos_embs=(None, None, None, partial(RepConditionalPosEnc, spatial_shape=(7, 7))),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"), lkc_use_act=True, num_classes=12,
    )
    stem = ConvStem(channels=(6, 6, 24), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU)
    transformer = timm.models.VisionTransformer(
        img_size=64, patch_size=1, embed_layer=partial(HybridEmbed, backbone=stem, proj=False), embed_dim=24, depth=2, num_heads=3,
        mlp_ratio=2, no_embed_class=True, num_classes=12,
    )
    made = {}
    for name, trunk, inverse in (("mobileclip_s", fastvit, apple_fastvit), ("mobileclip_b", transformer, apple_transformer)):
        model = randomise(MobileClip(trunk))
        model = model.half().float()
        theirs = apple_text(model.state_dict()) | inverse(model.visual.trunk.state_dict())
        theirs["logit_scale"] = model.logit_scale.data
        ours = convert_mobile_clip_state_dict(model, theirs, fastvit=name == "mobileclip_s")
        # What was saved has no bias of the image projection; everything else must come back.
        left = {name for name, value in model.state_dict().items() if name not in ours or not torch.equal(ours[name], value)}
        assert left <= {"visual.trunk.head.fc.bias", "visual.trunk.head.bias", "text.attn_mask"}, left
        assert model.load_state_dict(ours, strict=False).unexpected_keys == []
        stored = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in theirs.items()}
        torch.save(stored, OUT / f"{name}.pt")
        made[f"{name}.pt"] = ours
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "tokenizer" / "huggingface" / "clip")
    tokenizer = parser.parse_args().tokenizer
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    torch.manual_seed(0)
    expected = {}
    made = clip(tokenizer)
    expected["hf_clip/model.safetensors"] = expected["hf_clip/pytorch_model.bin"] = described(made)
    expected["hf_siglip/model.safetensors"] = described(siglip())
    for file, state in (big_vision() | mobileclip()).items():
        expected[file] = described(state)
    files = ",\n".join(
        f"{json.dumps(file)}: {{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(tensor)}" for name, tensor in tensors.items()) + "}"
        for file, tensors in expected.items()
    )
    (OUT / "expected.json").write_text(f"{{{files}}}\n")
    for path in OUT.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
