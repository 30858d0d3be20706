"""A tower of the reference as an ONNX file, made by torch.onnx.export with its defaults and an open batch size.

    python bench_export.py --model DIR --tower image --out image.onnx

The peer of `openclip export --onnx` in `cargo xtask bench`. DIR is a checkpoint's folder, as checkpoint.py writes it.
"""

import argparse
import logging
import warnings
from pathlib import Path

import open_clip
import torch


class Tower(torch.nn.Module):
    """One tower, as a module that can be exported."""

    def __init__(self, model: torch.nn.Module, tower: str) -> None:
        super().__init__()
        self.model = model
        self.tower = tower

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(batch) if self.tower == "image" else self.model.encode_text(batch)


def example(model: torch.nn.Module, tower: str) -> torch.Tensor:
    """Two inputs: a batch of one would be taken for a constant."""
    if tower == "text":
        return torch.randint(1, model.vocab_size, (2, model.context_length))
    size = model.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return torch.randn(2, 3, height, width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--tower", choices=("image", "text"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the file; its weights go beside it")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    model = open_clip.create_model(f"local-dir:{args.model}").eval()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        Tower(model, args.tower).eval(),
        (example(model, args.tower),),
        args.out,
        input_names=["input"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )


if __name__ == "__main__":
    main()
