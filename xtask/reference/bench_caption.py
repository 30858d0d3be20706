"""A peer of `cargo xtask bench`: the reference's captions, with the options that are its defaults.

    python bench_caption.py --model DIR --inputs image.npy --threads 2

Needs the releases of generation.txt, before those of requirements.txt in PYTHONPATH. Speaks the protocol of
bench_protocol.py; a row is a caption's token ids.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from bench_protocol import claim_stdout, serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--inputs", type=Path, required=True, help=".npy file of pixels, [N, 3, H, W]")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    answers = claim_stdout()

    torch.set_num_threads(args.threads)
    model = open_clip.create_model(f"local-dir:{args.model}").eval()
    images = np.load(args.inputs, mmap_mode="r")

    def prepare(first: int, count: int) -> Callable[[], np.ndarray]:
        pixels = torch.from_numpy(np.array(images[first : first + count]))

        def run() -> np.ndarray:
            with torch.inference_mode():
                return model.generate(pixels).numpy()

        return run

    serve(answers, prepare(0, 1)()[0], prepare)


if __name__ == "__main__":
    main()
