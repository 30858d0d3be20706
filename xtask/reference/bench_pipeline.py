"""A peer of `cargo xtask bench` that begins with JPEG files: Pillow and open_clip's own preprocessing.

    python bench_pipeline.py --stage preprocess --model DIR --images FOLDER
    python bench_pipeline.py --stage embed --model DIR --images FOLDER --file image.onnx --threads 2 --batch-size 32

`decode`, `resize` (to the end of normalisation, of images already decoded) and `preprocess` (both) run on one thread.
`embed` runs onnxruntime on batches that two worker processes prepare, as users of PyTorch do it: a DataLoader, whose
workers are started once and live as long as this process. Speaks the protocol of bench_protocol.py.
"""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_peer import session
from bench_protocol import Prepare, claim_stdout, serve
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

WORKERS = 2


class Photographs(torch.utils.data.Dataset):
    """Prepared images."""

    def __init__(self, files: list[Path], transform: Callable) -> None:
        self.files = files
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[index]))


def decode(file: Path) -> Image.Image:
    image = Image.open(file)
    image.load()
    return image


def single_threaded(stage: str, files: list[Path], transform: Callable) -> Prepare:
    """One image after the other."""
    torch.set_num_threads(1)
    call, ready = {
        "decode": (decode, Path),
        "resize": (transform, decode),
        "preprocess": (lambda file: transform(Image.open(file)), Path),
    }[stage]

    def prepare(first: int, count: int) -> Callable[[], list]:
        inputs = [ready(file) for file in files[first : first + count]]
        return lambda: [call(value) for value in inputs]

    return prepare


def embedding(args: argparse.Namespace, photographs: Photographs) -> Prepare:
    """All images, in batches."""
    tower = session(args.file, args.threads)
    loader = torch.utils.data.DataLoader(
        photographs, args.batch_size, num_workers=WORKERS, persistent_workers=True
    )

    def prepare(first: int, count: int) -> Callable[[], np.ndarray]:
        if count == 1:
            return tower(photographs[first].unsqueeze(0).numpy())
        if (first, count) != (0, len(photographs)):
            raise ValueError(f"all {len(photographs)} images or one can be embedded, not {count} from {first}")
        return lambda: np.concatenate([tower(batch.numpy())() for batch in loader])

    return prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stage", choices=("decode", "resize", "preprocess", "embed"), required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint, which says how to prepare")
    parser.add_argument("--images", type=Path, required=True, help="folder of .jpg files")
    parser.add_argument("--file", type=Path, help="the image tower, for `embed`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    answers = claim_stdout()

    config = json.loads((args.model / "open_clip_config.json").read_text())["preprocess_cfg"]
    transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
    files = sorted(args.images.glob("*.jpg"))
    if args.stage == "embed":
        prepare = embedding(args, Photographs(files, transform))
    else:
        prepare = single_threaded(args.stage, files, transform)
    serve(answers, np.asarray(prepare(0, 1)()[0]), prepare)


if __name__ == "__main__":
    main()
