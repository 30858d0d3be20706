"""A full-size checkpoint of the reference with random weights, and the reference's embeddings of given files and texts.

    python checkpoint.py --model ViT-B-32 --out DIR --image a.jpg b.png --text "a cat" "two dogs"
    openclip embed image --model local-dir:DIR a.jpg b.png -o image.npy    # compare with DIR/image.npy

For acceptance by hand: pixels, tokens, weights and arithmetic are those of the reference from end to end. DIR gets
`open_clip_config.json`, the weights, `image.npy` and `text.npy` (float32 `[N, D]`, unit length) and `inputs.json`.
Every kind of parameter is moved away from its initial value, so that none can be left out without being noticed.
"""

import argparse
import json
import logging
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.factory import load_checkpoint
from PIL import Image
from safetensors.torch import save_file

BATCH = 8
FILES = {
    "safetensors": "open_clip_model.safetensors",
    "bin": "open_clip_pytorch_model.bin",
    "wrapped": "open_clip_pytorch_model.bin",
}


def perturb(model: torch.nn.Module) -> None:
    """Gives norms, biases and scales values that matter, and attention something to prefer."""
    for name, p in model.named_parameters():
        last = name.rpartition(".")[2]
        if last == "logit_scale":
            p.data.fill_(math.log(20.0))
        elif last == "logit_bias":
            p.data.fill_(-7.5)
        elif last == "gamma":
            p.data.uniform_(0.2, 0.8)
        elif last.endswith("bias"):
            p.data.normal_(0.0, 0.05)
        elif last in ("weight", "head_scale") and (p.ndim == 1 or last == "head_scale"):
            p.data.normal_(1.0, 0.15)
        elif last == "in_proj_weight":
            p.data.mul_(2.0)
        elif last == "cls_emb":
            p.data.normal_(0.0, 0.02)
        elif name == "text_decoder.text_projection":
            # The reference leaves CoCa's as it finds it in memory.
            p.data.normal_(0.0, len(p) ** -0.5)


def wanted(name: str, tower: str) -> bool:
    """Whether a parameter is saved when only one tower is."""
    return tower == "both" or name.startswith("logit_") or name.startswith("visual.") == (tower == "image")


def save(model: torch.nn.Module, args: argparse.Namespace) -> Path:
    state = {name: value.contiguous() for name, value in model.state_dict().items() if wanted(name, args.tower)}
    if args.half:
        state = {name: value.to(getattr(torch, args.half)) for name, value in state.items()}
    path = args.out / FILES[args.format]
    if args.format == "safetensors":
        save_file(state, path)
    elif args.format == "bin":
        torch.save(state, path)
    else:
        torch.save({"epoch": 1, "state_dict": {"module." + name: value for name, value in state.items()}}, path)
    return path


@torch.inference_mode()
def embed(encode, inputs: list) -> np.ndarray:
    parts = [
        encode(torch.stack(inputs[start : start + BATCH]), normalize=True) for start in range(0, len(inputs), BATCH)
    ]
    return torch.cat(parts).numpy().astype(np.float32)


def highest_cosine(rows: np.ndarray) -> float:
    """Near 1 the embeddings of different inputs are alike, and comparing them proves little."""
    return float((rows @ rows.T - 2 * np.eye(len(rows))).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="architecture, or a JSON file with one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", choices=("clip", "custom-text"), default="clip", help="parameter names")
    parser.add_argument("--format", choices=tuple(FILES), default="safetensors", help="wrapped: as training saves it")
    parser.add_argument("--half", choices=("float16", "bfloat16"), help="element type of the saved weights")
    parser.add_argument("--tower", choices=("image", "text", "both"), default="both", help="what is saved and run")
    parser.add_argument("--preprocess", type=json.loads, default={}, metavar="JSON", help='{"resize_mode": "squash"}')
    parser.add_argument("--force-image-size", type=int, nargs="+", help="embed at another size than is saved")
    parser.add_argument("--force-context-length", type=int, help="embed at another length than is saved")
    parser.add_argument("--image", type=Path, nargs="*", default=[], help="image files")
    parser.add_argument("--text", nargs="*", default=[], help="texts")
    parser.add_argument("--text-file", type=Path, help="one text per line")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.half and args.force_image_size:
        parser.error("the reference can't resize a half-precision position table on a CPU")
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    name = args.model
    if name.endswith(".json"):
        open_clip.add_model_config(name)
        name = Path(name).stem
    config = open_clip.get_model_config(name)
    if config is None:
        parser.error(f"no architecture {name}")
    custom_text = args.layout == "custom-text"
    model = open_clip.create_model(name, force_custom_text=custom_text, force_preprocess_cfg=args.preprocess)
    perturb(model)
    path = save(model, args)
    if custom_text:
        config["custom_text"] = True
    whole = {"model_cfg": config, "preprocess_cfg": open_clip.get_model_preprocess_cfg(model)}
    (args.out / "open_clip_config.json").write_text(json.dumps(whole, indent=1) + "\n")
    del model

    # From here on as a user of the reference would: everything comes from the folder.
    size = args.force_image_size
    source = f"local-dir:{args.out}"
    model, _, preprocess = open_clip.create_model_and_transforms(
        source,
        load_weights=False,
        force_image_size=tuple(size) if size and len(size) > 1 else size and size[0],
        force_context_length=args.force_context_length,
    )
    model.eval()
    problems = load_checkpoint(model, str(path), strict=args.tower == "both")
    for key in [*problems.missing_keys, *problems.unexpected_keys]:
        if wanted(key, args.tower):
            raise RuntimeError(f"{path}: `{key}` is missing or unexpected")

    texts = args.text + (args.text_file.read_text().splitlines() if args.text_file else [])
    inputs = {"images": [str(image) for image in args.image], "texts": texts}
    (args.out / "inputs.json").write_text(json.dumps(inputs, indent=1) + "\n")
    if args.image and args.tower != "text":
        rows = embed(model.encode_image, [preprocess(Image.open(image)) for image in args.image])
        np.save(args.out / "image.npy", rows)
        print(f"image.npy {rows.shape}, highest cosine between images {highest_cosine(rows):.4f}")
    if texts and args.tower != "image":
        tokenizer = open_clip.get_tokenizer(source, context_length=args.force_context_length)
        rows = embed(model.encode_text, list(tokenizer(texts)))
        np.save(args.out / "text.npy", rows)
        print(f"text.npy {rows.shape}, highest cosine between texts {highest_cosine(rows):.4f}")


if __name__ == "__main__":
    main()
