"""Reference outputs of image and text towers and of decoders with synthesised weights, one JSON file per case.

    python towers.py --out conformance/towers [--only PATTERN] [--missing] [--threads N]

The models are the reference's own; only their parameters are replaced. A block has its parameters only while it runs,
so that the largest architecture (ViT-e-14, 4.6 billion parameters) needs little memory. `conformance/README.md`
describes the files.
"""

import argparse
import base64
import fnmatch
import inspect
import json
import logging
import math
import tempfile
import time
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from unittest import mock

import numpy as np
import open_clip
import open_clip.hf_model
import torch
import transformers
from open_clip.hf_model import HFTextEncoder, MeanPooler
from open_clip.model import ModifiedResNet, resize_pos_embed, resize_text_pos_embed
from open_clip.pos_embed import get_2d_sincos_pos_embed
from open_clip.timm_model import TimmModel
from open_clip.utils import to_2tuple
from torch import nn
from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding

import synth
from cases import Case, all_cases, hf_config, marks_of, vocabulary_of

IMAGES = 2
PROBES = 8
# Tokens of the vocabulary whose logits are kept.
PICKED = 32
FORMAT = 1


def build(case: Case, options: dict) -> nn.Module:
    """The reference's model of a case, without memory for its parameters."""
    model_cfg = case.model_cfg
    if is_hugging_face(case):
        # The reference asks the hub for the model's configuration; here it is given.
        text_cfg = {name: value for name, value in model_cfg["text_cfg"].items() if name != "hf_model_config"}
        model_cfg = {**model_cfg, "text_cfg": text_cfg}
        options = {**options, "pretrained_text": False}
    with tempfile.TemporaryDirectory() as folder, known_configuration(case):
        config = {"model_cfg": model_cfg}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(config))
        with torch.device("meta"):
            options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
            return open_clip.create_model(f"local-dir:{folder}", device="meta", **options).eval()


def is_hugging_face(case: Case) -> bool:
    return "hf_model_name" in case.model_cfg["text_cfg"]


def known_configuration(case: Case):
    """Answers the question for a Hugging Face model's configuration."""
    config = None
    if is_hugging_face(case):
        config = transformers.AutoConfig.for_model(**hf_config(case.model_cfg["text_cfg"]))
    return mock.patch.object(open_clip.hf_model.AutoConfig, "from_pretrained", lambda *_: config)


def tower_of(name: str) -> str | None:
    """The tower that a parameter of the model belongs to."""
    if name in ("logit_scale", "logit_bias"):
        return None
    if name.startswith("text_decoder."):
        return "decoder"
    return "image" if name.startswith("visual.") else "text"


def parameters(model: nn.Module, tower: str) -> dict[str, list[int]]:
    statistics = (item for item in model.named_buffers() if item[0].endswith((".running_mean", ".running_var")))
    named = chain(model.named_parameters(), statistics)
    return {name: list(p.shape) for name, p in named if tower_of(name) == tower}


def set_parameter(model: nn.Module, name: str, value: torch.Tensor) -> None:
    path, _, last = name.rpartition(".")
    setattr(model.get_submodule(path), last, nn.Parameter(value, requires_grad=False))


@dataclass
class Checkpoint:
    """What is special about a case's checkpoint."""

    # Dimensions of parameters that the model needs in others.
    stored: dict[str, list[int]] = field(default_factory=dict)
    # See `Case.spreads`.
    spreads: dict[str, tuple] = field(default_factory=dict)

    def parameter(self, name: str, dims: list[int]) -> torch.Tensor:
        return torch.from_numpy(synth.parameter(name, self.stored.get(name, dims), self.spreads))


def fill(model: nn.Module, dims: dict[str, list[int]], checkpoint: Checkpoint) -> None:
    """Fills parameters, and resizes those that the checkpoint has in other dimensions."""
    for name, needed in dims.items():
        value = checkpoint.parameter(name, needed)
        if name not in checkpoint.stored:
            set_parameter(model, name, value)
            continue
        state = {name: value}
        (resize_pos_embed if tower_of(name) == "image" else resize_text_pos_embed)(state, model)
        set_parameter(model, name, state[name])


def release(model: nn.Module, dims: dict[str, list[int]]) -> None:
    for name, needed in dims.items():
        set_parameter(model, name, torch.empty(needed, device="meta"))


# The last components of the names of lists of blocks.
BLOCK_LISTS = ("resblocks", "blocks", "cross_attn")
# Those of Hugging Face towers, by the kind of model.
HUGGING_FACE_LISTS = {"bert": "layer", "roberta": "layer", "xlm-roberta": "layer", "mt5": "block", "m2m_100": "layers"}


def block_lists(root: nn.Module) -> dict[str, list[tuple[str, nn.Module]]]:
    """Blocks with their names below `root`, list by list."""
    lists = {}
    kinds = {name: module.config.model_type for name, module in root.named_modules() if isinstance(module, HFTextEncoder)}
    for name, module in root.named_modules():
        parent, _, last = name.rpartition(".")
        wanted = BLOCK_LISTS
        for text, kind in kinds.items():
            if name.startswith(text + "."):
                wanted = (HUGGING_FACE_LISTS[kind],)
        if last.isdigit() and parent.rpartition(".")[2] in wanted:
            lists.setdefault(parent, []).append((name, module))
    return lists


def materialise(model: nn.Module, tower: str, checkpoint: Checkpoint) -> None:
    """Gives a tower its parameters; those of a block exist only while the block runs."""
    dims = parameters(model, tower)
    for name, block in chain(*block_lists(model).values()):
        if tower_of(name) != tower:
            continue
        own = {parameter: dims.pop(parameter) for parameter in list(dims) if parameter.startswith(name + ".")}
        block.register_forward_pre_hook(lambda *_, own=own: fill(model, own, checkpoint))
        # Some tables are made where the block's parameters are.
        block.register_forward_pre_hook(lambda block, _: compute_tables(block))
        block.register_forward_hook(lambda *_, own=own: release(model, own), always_call=True)
    fill(model, dims, checkpoint)
    compute_buffers(model, tower)


def compute_buffers(model: nn.Module, tower: str) -> None:
    """Masks and tables aren't parameters; they are computed when the model is built."""
    if tower == "image":
        compute_tables(model.visual)
    if tower == "decoder":
        model.text_decoder.attn_mask = causal_mask(model.text_decoder.context_length)
        return
    text = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):
        compute_text_tables(text)
    elif tower == "text" and text.attn_mask is not None:
        text.attn_mask = causal_mask(len(text.attn_mask))


def causal_mask(length: int) -> torch.Tensor:
    return torch.full((length, length), float("-inf")).triu_(1)


def compute_tables(root: nn.Module) -> None:
    """Gives timm's modules that were built without memory the tables that follow from their configuration (buffers that
    no checkpoint holds): rotations, indices of relative positions, masks."""
    for module in root.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(module, name, torch.zeros_like(buffer, device="cpu"))
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()


def compute_text_tables(text: nn.Module) -> None:
    """Gives Hugging Face modules that were built without memory the tables that follow from their configuration."""
    for module in text.modules():
        if isinstance(module, M2M100SinusoidalPositionalEmbedding):
            table = module.get_embedding(len(module.weights), module.embedding_dim, module.padding_idx)
            module.register_buffer("weights", table, persistent=False)
        elif hasattr(module, "token_type_ids"):
            module.token_type_ids = torch.zeros(module.token_type_ids.shape, dtype=torch.long)
            module.position_ids = torch.arange(module.position_ids.shape[1])[None]


def token_ids(case: Case, length: int) -> np.ndarray:
    """Texts `[3, length]`: begin token, content, end token, padding; the last one fills the context."""
    text_cfg = case.model_cfg["text_cfg"]
    vocabulary = vocabulary_of(text_cfg)
    marks = marks_of(text_cfg)
    end = marks.end if case.end_token is None else case.end_token
    rows = np.full((3, length), marks.padding, dtype=np.int64)
    for row, total in enumerate((max(3, length // 6), length // 2, length)):
        count = total - len(marks.begin) - 1
        content = marks.first + synth.hash32(f"tokens.{row}", 0, count) % np.uint32(vocabulary - marks.kept)
        rows[row, :total] = [*marks.begin, *content, end]
    if case.inner_padding:
        rows[1:, 2] = marks.padding
    return rows


def number(value) -> float:
    """A float32 in its shortest decimal form."""
    return float(str(np.float32(value)))


def packed(values: torch.Tensor) -> dict:
    array = values.detach().numpy().astype("<f4")
    return {"dims": list(array.shape), "f32": base64.b64encode(array.tobytes()).decode()}


def activation(name: str, values: torch.Tensor, ranges: list[tuple[int, int]] | None) -> dict:
    """Statistics and probes of `[N, L, C]` values, of the positions that every implementation has to compute: all of them
    where nothing is said."""
    array = values.detach().numpy()
    ranges = ranges or [(0, array.shape[1])] * array.shape[0]
    rows = []
    for row, (start, end) in enumerate(ranges):
        part = array[row, start:end].astype(np.float64)
        rows.append({"positions": [start, end], "mean": number(part.mean()), "std": number(part.std())})
    picks = synth.hash32(f"probe.{name}", 0, 2 * PROBES).tolist()
    probes = []
    for probe in range(PROBES):
        row = probe % len(ranges)
        start, end = ranges[row]
        position = start + picks[2 * probe] % (end - start)
        channel = picks[2 * probe + 1] % array.shape[2]
        probes.append([row, position, channel, number(array[row, position, channel])])
    return {"name": name, "dims": list(array.shape), "rows": rows, "probes": probes}


class Recorder:
    """Collects activations through hooks, in the order in which they are computed."""

    def __init__(self, scope: str):
        self.scope = scope
        self.activations = []
        self.hooks = []

    def before(self, module: nn.Module, name: str, ranges) -> None:
        self.hooks.append(module.register_forward_pre_hook(lambda _, args: self.record(name, args[0], ranges)))

    def after(self, module: nn.Module, name: str, ranges, layout=lambda x: x) -> None:
        hook = lambda _, args, output: self.record(name, layout(output), ranges)  # noqa: E731
        self.hooks.append(module.register_forward_hook(hook))

    def blocks(self, root: nn.Module, scope: str, ranges, last_ranges, layout=lambda x: x) -> None:
        """The first and the last block of each list below `root`, and one between them where there is one list only.
        `scope` precedes their names."""
        lists = block_lists(root)
        for blocks in lists.values():
            last = len(blocks) - 1
            for index in sorted({0, last // 2, last} if len(lists) == 1 else {0, last}):
                name, block = blocks[index]
                self.after(block, scope + name, last_ranges if index == last else ranges, layout)

    def attention(self, root: nn.Module) -> None:
        """The attention weights of the first block below `root`, where its module can tell them: a place is a query and a
        key, its channels are heads."""
        name, block = next((blocks[0] for blocks in block_lists(root).values()), (None, None))
        if not isinstance(getattr(block, "attn", None), nn.MultiheadAttention):
            return

        def hook(module: nn.Module, args: tuple, options: dict, _) -> None:
            options = {**options, "need_weights": True, "average_attn_weights": False}
            # Not through the module, whose hook this is.
            _, weights = module.forward(*args, **options)
            self.record(f"{name}.attn.weights", places(weights), None)

        self.hooks.append(block.attn.register_forward_hook(hook, with_kwargs=True))

    def record(self, name: str, values: torch.Tensor, ranges) -> None:
        self.activations.append(activation(f"{self.scope}.{name}", values, ranges))

    def finish(self) -> list[dict]:
        for hook in self.hooks:
            hook.remove()
        return self.activations


def places(x: torch.Tensor) -> torch.Tensor:
    """A feature map `[N, C, H, W]` as `[N, H*W, C]`."""
    return x.flatten(2).transpose(1, 2)


def record_resnet(visual: nn.Module) -> Recorder:
    recorder = Recorder("visual")
    recorder.after(visual.avgpool, "avgpool", None, places)
    for stage in range(1, 5):
        layer = getattr(visual, f"layer{stage}")
        for block in sorted({0, len(layer) - 1}):
            recorder.after(layer[block], f"layer{stage}.{block}", None, places)
    return recorder


def record_transformer(visual: nn.Module) -> Recorder:
    recorder = Recorder("visual")
    recorder.after(visual.conv1, "conv1", None, places)
    recorder.before(visual.ln_pre, "positional_embedding", None)
    if not isinstance(visual.ln_pre, nn.Identity):
        recorder.after(visual.ln_pre, "ln_pre", None)
    # Only the class token of the last block has to be computed when nothing else is pooled.
    class_token = visual.attn_pool is None and visual.pool_type == "tok" and not visual.output_tokens
    recorder.blocks(visual.transformer, "transformer.", None, [(0, 1)] * IMAGES if class_token else None)
    if visual.attn_pool is not None:
        if visual.attn_pool_type != "parallel" or visual.output_tokens:
            recorder.after(visual.attn_pool, "attn_pool", None)
        if visual.attn_pool_contrastive is not None:
            recorder.after(visual.attn_pool_contrastive, "attn_pool_contrastive", None)
    return recorder


# Modules of timm's trunks that stand before or behind the blocks.
TRUNK_MODULES = ("stem", "patch_embed", "norm_pre", "final_conv")


def record_trunk(visual: nn.Module) -> Recorder:
    trunk = visual.trunk
    recorder = Recorder("visual.trunk")
    rows_first = getattr(trunk, "output_fmt", None) == "NHWC"

    def layout(x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4:
            return x
        return x.flatten(1, 2) if rows_first else places(x)

    for name in TRUNK_MODULES:
        module = getattr(trunk, name, None)
        if module is not None and not isinstance(module, nn.Identity):
            recorder.after(module, name, None, layout)
    if hasattr(trunk, "patch_embed") and hasattr(trunk, "norm_pre"):
        recorder.before(trunk.norm_pre, "pos_embed", None)
    # Only the class token of the last block has to be computed when nothing else is pooled.
    class_token = getattr(trunk, "global_pool", None) == "token"
    recorder.blocks(trunk, "", None, [(0, 1)] * IMAGES if class_token else None, layout)
    return recorder


def record_image(visual: nn.Module) -> Recorder:
    if isinstance(visual, TimmModel):
        return record_trunk(visual)
    return record_resnet(visual) if isinstance(visual, ModifiedResNet) else record_transformer(visual)


# Cases whose stages and attention maps are recorded: one of each kind of tower.
STAGES = (
    "made-plain",
    "made-embed-cls",
    "made-resnet",
    "convnext_tiny",
    "swin_base_patch4_window7_224",
    "MobileCLIP2-S0",
    "ViTamin-S",
    "ViT-B-16-SigLIP",
    "PE-Core-T-16-384",
)


def stages(model: nn.Module, tower: str, values: torch.Tensor) -> list[dict]:
    """What `forward_intermediates` gives of every stage, through the norm behind the last one: feature maps or texts, then
    the tokens beside them. A map's activation is one of its places, its name tells rows and columns."""
    options = {"normalize_intermediates": True, "intermediates_only": True}
    trunk = getattr(model.visual, "trunk", None) if tower == "image" else None
    # The reference asks every trunk for them, and trunks without such tokens fail.
    if trunk is None or "return_prefix_tokens" in inspect.signature(trunk.forward_intermediates).parameters:
        options[f"{tower}_output_extra_tokens"] = True
    found = model.forward_intermediates(**{tower: values}, **options)
    recorded = []
    for index, stage in enumerate(found[f"{tower}_intermediates"]):
        grid = f" {list(stage.shape[2:])}" if stage.dim() == 4 else ""
        recorded.append(activation(f"{index}{grid}", places(stage) if grid else stage, None))
        for place in ("prefix", "suffix"):
            if extra := found.get(f"{tower}_intermediates_{place}"):
                recorded.append(activation(f"{index} extra tokens", extra[index], None))
    return recorded


def run_image(model: nn.Module, case: Case) -> dict:
    visual = model.visual
    recorder = record_image(visual)
    dims = [IMAGES, 3, *to_2tuple(visual.image_size)]
    pixels = torch.from_numpy(synth.image(dims))
    if case.name in STAGES:
        recorder.attention(visual)
    output = model.encode_image(pixels, normalize=False)
    entry = result({"dims": dims}, output, recorder)
    if case.name in STAGES:
        entry["stages"] = stages(model, "image", pixels)
    return entry


def run_text(model: nn.Module, case: Case) -> dict:
    text = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):
        return run_hugging_face(model, case)
    pool_type = text.pool_type if hasattr(text, "pool_type") else text.text_pool_type
    appended = getattr(text, "cls_emb", None) is not None
    ids = token_ids(case, case.input_length or text.context_length)
    length = ids.shape[1] + appended

    # The positions that an embedding can depend on: a causal tower stops at the pooled one, and padding that is masked
    # needs no place in the sequence.
    everything = [(0, length)] * len(ids)
    if appended:
        pooled = [length - 1] * len(ids)
        visible = [(0, int((row != text.pad_id).sum())) for row in ids]
    elif pool_type == "none":
        pooled, visible = None, everything
    else:
        end = {
            "argmax": lambda row: int(row.argmax()),
            "eos": lambda row: int((row == case.model_cfg["text_cfg"].get("eos_id", 2)).argmax()),
            "first": lambda row: 0,
            "last": lambda row: length - 1,
        }[pool_type]
        pooled = [end(row) for row in ids]
        visible = everything if text.attn_mask is None else [(0, position + 1) for position in pooled]
    tokens_wanted = getattr(text, "output_tokens", False)
    last = visible if pooled is None or tokens_wanted else [(position, position + 1) for position in pooled]

    recorder = Recorder("text")
    recorder.before(text.transformer, "positional_embedding", visible)
    recorder.blocks(text.transformer, "transformer.", visible, last)
    if case.name in STAGES:
        recorder.attention(text)
    output = model.encode_text(torch.from_numpy(ids), normalize=False)
    entry = result({"ids": ids.tolist()}, output, recorder)
    if case.name in STAGES:
        entry["stages"] = stages(model, "text", torch.from_numpy(ids))
    return entry


def run_hugging_face(model: nn.Module, case: Case) -> dict:
    text = model.text
    ids = token_ids(case, case.model_cfg["text_cfg"].get("context_length", 77))
    # Up to the last token: what follows is padding, which is masked.
    tokens = ids != text.config.pad_token_id
    ends = [int(row.nonzero()[0][-1]) + 1 for row in tokens]
    # Padding between tokens may stand elsewhere.
    visible = [(0, 1 if case.inner_padding else end) for end in ends]
    last = visible if isinstance(text.pooler, MeanPooler) else [(0, 1)] * len(ids)

    def first(output):
        return output[0] if isinstance(output, tuple) else output

    recorder = Recorder("text")
    blocks = next(iter(block_lists(model).values()))
    recorder.before(blocks[0][1], "transformer.embeddings", visible)
    for index in sorted({0, (len(blocks) - 1) // 2, len(blocks) - 1}):
        name, block = blocks[index]
        recorder.after(block, name.removeprefix("text."), last if index == len(blocks) - 1 else visible, first)
    output = model.encode_text(torch.from_numpy(ids), normalize=False)
    return result({"ids": ids.tolist()}, output, recorder)


def run_caption(case: Case) -> dict:
    """Logits of what follows each token of a text about an image, of some tokens of the vocabulary."""
    model = build(case, case.options)
    info = summary(model, "decoder", case.made_up)
    for tower in ("image", "text", "decoder"):
        materialise(model, tower, Checkpoint())
    dims = [IMAGES, 3, *to_2tuple(model.visual.image_size)]
    ids = token_ids(case, min(model.context_length, case.model_cfg["text_cfg"].get("context_length", 77)))
    vocabulary = model.text_decoder.text_projection.shape[1]
    picked = sorted(set((synth.hash32("logits", 0, PICKED) % np.uint32(vocabulary)).tolist()))
    images = [row % IMAGES for row in range(len(ids))]
    # Padding of Hugging Face towers is masked, so it needs no place in the sequence.
    hidden = model.text.config.pad_token_id if isinstance(model.text, HFTextEncoder) else None
    lengths = [ids.shape[1] - 1 if hidden is None else int((row != hidden).sum()) - 1 for row in ids]
    with torch.inference_mode():
        logits = model(torch.from_numpy(synth.image(dims))[images], torch.from_numpy(ids))["logits"]
    return {
        "parameters": info,
        "input": {"dims": dims, "images": images, "ids": ids.tolist()},
        "lengths": lengths,
        "picked": picked,
        "logits": packed(logits[:, :, picked]),
        "best": logits.argmax(-1).tolist(),
    }


def result(inputs: dict, output, recorder: Recorder) -> dict:
    embedding, tokens = output if isinstance(output, tuple) else (output, None)
    entry = {"input": inputs, "embedding": packed(embedding)}
    if tokens is not None:
        entry["tokens"] = packed(tokens)
    return entry | {"activations": recorder.finish()}


def summary(model: nn.Module, tower: str, listed: bool) -> dict:
    dims = parameters(model, tower)
    lines = "\n".join(f"{name} {dims[name]}" for name in sorted(dims))
    entry = {
        "count": len(dims),
        "elements": sum(math.prod(d) for d in dims.values()),
        "digest": f"{synth.fnv1a(lines.encode()):016x}",
    }
    return entry | ({"dims": dims} if listed else {})


def run(case: Case) -> dict:
    model = build(case, case.options)
    stored = {}
    if case.options:
        # What the checkpoint holds is what the model has without the options.
        sizes = {name: value for name, value in case.options.items() if name == "force_custom_text"}
        original = {name: list(p.shape) for name, p in build(case, sizes).named_parameters()}
        changed = {name: list(p.shape) for name, p in model.named_parameters()}
        stored = {name: dims for name, dims in original.items() if dims != changed[name]}

    checkpoint = Checkpoint(stored, case.spreads)
    logits = {name: dict(model.named_parameters()).get(name) for name in ("logit_scale", "logit_bias")}
    logits = {name: p for name, p in logits.items() if p is not None}
    entry = {
        "format": FORMAT,
        "generator": synth.GENERATOR,
        "versions": {"open_clip": open_clip.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "name": case.name,
        "about": case.about,
        "model_cfg": case.model_cfg,
        "options": case.options,
        "stored_dims": stored,
        **({"spreads": case.spreads} if case.spreads else {}),
        "logits": {
            name: {"dims": list(p.shape), "value": number(synth.parameter(name, list(p.shape)).reshape(-1)[0])}
            for name, p in logits.items()
        },
    }
    if case.model_cfg["vision_cfg"].get("pos_embed_type") == "sin_cos_2d":
        visual = model.visual
        table = get_2d_sincos_pos_embed(visual.conv1.out_channels, visual.grid_size[0], cls_token=True)
        entry["initial_positional_embedding"] = packed(torch.from_numpy(table).float())
    for tower in case.towers:
        if tower == "caption":
            entry[tower] = run_caption(case)
            continue
        info = summary(model, tower, case.made_up)
        materialise(model, tower, checkpoint)
        with torch.inference_mode():
            outputs = run_image(model, case) if tower == "image" else run_text(model, case)
        entry[tower] = {"parameters": info, **outputs}
        release(model, parameters(model, tower))
    return entry


def lines(value, depth: int, indent: str = "") -> str:
    """JSON with one line per item down to `depth`, compact below."""
    if depth == 0 or not value or not isinstance(value, (dict, list)):
        return json.dumps(value)
    deeper = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {lines(item, depth - 1, deeper)}" for key, item in value.items()]
        opening, closing = "{", "}"
    else:
        items = [lines(item, depth - 1, deeper) for item in value]
        opening, closing = "[", "]"
    body = ",\n".join(deeper + item for item in items)
    return f"{opening}\n{body}\n{indent}{closing}"


def similarity(entry: dict) -> float:
    """The highest cosine between embeddings of two inputs: near 1 the comparison would prove little."""
    data = np.frombuffer(base64.b64decode(entry["embedding"]["f32"]), "<f4").reshape(entry["embedding"]["dims"][0], -1)
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    return float((unit @ unit.T - 2 * np.eye(len(unit))).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by name, as in a shell")
    parser.add_argument("--missing", action="store_true", help="leave files that exist")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for case in all_cases():
        path = args.out / f"{case.name}.json"
        if not fnmatch.fnmatch(case.name, args.only) or (args.missing and path.exists()):
            continue
        start = time.monotonic()
        entry = run(case)
        path.write_text(lines(entry, 3) + "\n")
        cosines = {tower: round(similarity(entry[tower]), 3) for tower in case.towers if tower != "caption"}
        print(f"{case.name}: {time.monotonic() - start:.1f} s, highest cosine between inputs {cosines}", flush=True)


if __name__ == "__main__":
    main()
