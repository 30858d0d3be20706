"""A peer of `cargo xtask bench`: recall of synthetic pairs with CLIP_benchmark.

    python bench_retrieval.py --threads 2

It speaks the protocol of bench_protocol.py; the pairs are those of xtask/src/bench/worker/retrieval.rs.
"""

import argparse

import bench_protocol
import numpy as np
import torch
from clip_benchmark.metrics import zeroshot_retrieval

WIDTH = 512
KS = [1, 5, 10]
# As CLIP_benchmark's own default.
BATCH = 64


class Given(torch.nn.Module):
    """A model whose images and texts are their features."""

    def encode_image(self, images):
        return images.flatten(1)

    def encode_text(self, texts):
        return texts


def draws(count: int) -> np.ndarray:
    """The outputs of the linear congruential generator, many at once: its steps are affine, and so are several of them."""
    factor, add, mask = 6364136223846793005, 1442695040888963407, 2**64 - 1
    states = np.empty(count, dtype=np.uint64)
    states[0] = (factor + add) & mask
    done = 1
    with np.errstate(over="ignore"):
        while done < count:
            more = min(done, count - done)
            states[done : done + more] = states[:more] * np.uint64(factor) + np.uint64(add)
            factor, add, done = factor * factor & mask, (factor * add + add) & mask, done + more
    return (states >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def features(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.from_numpy(draws(2 * count * WIDTH)).view(2, count, WIDTH)
    images, texts = drawn[0], drawn[0] + 8 * drawn[1]
    return tuple(torch.nn.functional.normalize(values, dim=-1) for values in (images, texts))


def recall(images: torch.Tensor, texts: torch.Tensor) -> np.ndarray:
    starts = range(0, len(images), BATCH)
    batches = [
        (images[start : start + BATCH, :, None, None], [[place] for place in range(start, min(start + BATCH, len(images)))])
        for start in starts
    ]
    found = zeroshot_retrieval.evaluate(
        Given(), batches, lambda places: texts[places], "cpu", amp=False, recall_k_list=KS
    )
    names = [f"{kind}_retrieval_recall@{k}" for kind in ("image", "text") for k in KS]
    return np.array([found[name] for name in names])


def main() -> None:
    answers = bench_protocol.claim_stdout()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def prepare(_first: int, count: int):
        images, texts = features(count)
        return lambda: recall(images, texts)

    bench_protocol.serve(answers, recall(*features(500)), prepare)


if __name__ == "__main__":
    main()
