"""Embeddings of the real command beside those of open_clip on the CPU, for models with open_clip's own random weights.

    python command.py --program target/release/openclip --images a.jpg b.jpg --only RN50 ViT-B-32 -- --device cuda

What stands behind `--` goes to the command: `--backend`, `--device`, `--precision`. Each architecture becomes a folder as
`save_pretrained` leaves it. Texts are left out where the tokenizer comes from the hub. CI has no GPU: this is how one is
checked.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

TEXTS = ["a photo of a rocket", "two cats on a sofa, one asleep", "x"]
# The contract of f32.
LARGEST = 2e-5


def model(name: str) -> torch.nn.Module:
    """The architecture with random weights, in which nothing is constant: norms would hide what a checkpoint has."""
    model = open_clip.create_model(name, pretrained=None).eval()
    generator = torch.Generator().manual_seed(7)

    def noise(values: torch.Tensor) -> torch.Tensor:
        return torch.randn(values.shape, generator=generator) * 0.05

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():
                parameter.add_(noise(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(noise(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(1 + noise(buffer).abs())
    return model


def save(name: str, model: torch.nn.Module, folder: Path) -> None:
    weights = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    keys = ("mean", "std", "interpolation", "resize_mode")
    preprocess = {key: model.visual.preprocess_cfg[key] for key in keys}
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def expected(name: str, model: torch.nn.Module, images: list[str]) -> dict[str, np.ndarray]:
    prepare = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        pixels = torch.stack([prepare(Image.open(image)) for image in images])
        found = {"image": model.encode_image(pixels, normalize=True)}
        if "hf_tokenizer_name" not in open_clip.get_model_config(name)["text_cfg"]:
            found["text"] = model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True)
    return {kind: embeddings.numpy() for kind, embeddings in found.items()}


def check(name: str, args: argparse.Namespace) -> bool:
    reference, equal = model(name), True
    with tempfile.TemporaryDirectory() as folder:
        save(name, reference, Path(folder))
        output = Path(folder) / "embeddings.npy"
        for kind, embeddings in expected(name, reference, args.images).items():
            inputs = args.images if kind == "image" else TEXTS
            command = [args.program, "embed", kind, "--model", f"local-dir:{folder}", "-q", "-o", output]
            run = subprocess.run([*command, *args.options, *inputs], capture_output=True, text=True)
            if run.returncode != 0:
                print(f"{name} {kind}: {run.stderr.strip()}")
                equal = False
                continue
            difference = np.abs(np.load(output) - embeddings).max()
            equal &= bool(difference <= args.largest)
            verdict = "" if difference <= args.largest else ", too much"
            print(f"{name} {kind}: {difference:.1e}{verdict}", flush=True)
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--images", nargs="+", required=True)
    parser.add_argument("--only", nargs="+", default=open_clip.list_models(), help="architectures; all by default")
    parser.add_argument("--largest", type=float, default=LARGEST, help="difference that counts as equal")
    parser.add_argument("options", nargs="*", help="options of the command, behind --")
    args = parser.parse_args()
    equal = [check(name, args) for name in args.only]
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
