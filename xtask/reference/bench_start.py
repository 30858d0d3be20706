"""A peer of `cargo xtask bench`: all that it takes to embed one text in a fresh process with open_clip.

    python bench_start.py --model DIR --text "a photo of a cat" --out text.npy --threads 2
"""

import argparse
from pathlib import Path

import numpy as np
import open_clip
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = open_clip.create_model(f"local-dir:{args.model}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{args.model}")
    with torch.inference_mode():
        np.save(args.out, model.encode_text(tokenizer([args.text]), normalize=True).numpy())


if __name__ == "__main__":
    main()
