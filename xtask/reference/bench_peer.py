"""A peer of `cargo xtask bench`: one tower in PyTorch or ONNX Runtime that runs and times itself when it is asked to.

    python bench_peer.py --engine pytorch --model DIR --tower image --inputs images.f32 --dims 3 224 224 --threads 2
    python bench_peer.py --engine onnxruntime --file image.onnx --inputs ids.i64 --dims 77 --threads 2

Speaks the line protocol of xtask/src/bench/protocol.rs: first a line {"ready": {"embedding": [...]}} with the embedding
of the first input, then for each line `run N` that it reads, a line {"seconds": S} for the first N inputs at once.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

# An engine for one batch: what is timed, ready to be called, giving the embeddings.
Prepare = Callable[[np.ndarray], Callable[[], np.ndarray]]


def pytorch(args: argparse.Namespace) -> Prepare:
    import open_clip
    import torch

    torch.set_num_threads(args.threads)
    model = open_clip.create_model(f"local-dir:{args.model}").eval()
    encode = model.encode_image if args.tower == "image" else model.encode_text

    def prepare(batch: np.ndarray) -> Callable[[], np.ndarray]:
        tensor = torch.from_numpy(batch)

        def run() -> np.ndarray:
            with torch.inference_mode():
                return encode(tensor).numpy()

        return run

    return prepare


def onnxruntime(args: argparse.Namespace) -> Prepare:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(args.file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: lambda: session.run(None, {name: batch})[0]


ENGINES = {"pytorch": pytorch, "onnxruntime": onnxruntime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=tuple(ENGINES), required=True)
    parser.add_argument("--model", type=Path, help="folder of the checkpoint, for PyTorch")
    parser.add_argument("--tower", choices=("image", "text"), help="the tower of it")
    parser.add_argument("--file", type=Path, help="the ONNX file, for ONNX Runtime")
    parser.add_argument("--inputs", type=Path, required=True, help="inputs one after the other: .f32 or .i64")
    parser.add_argument("--dims", type=int, nargs="+", required=True, help="dimensions of one input")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)

    # Answers go to the real stdout; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")

    inputs = np.fromfile(args.inputs, {".f32": "<f4", ".i64": "<i8"}[args.inputs.suffix]).reshape(-1, *args.dims)
    prepare = ENGINES[args.engine](args)
    answer({"ready": {"embedding": prepare(inputs[:1])()[0].astype(float).tolist()}})
    for line in sys.stdin:
        count = int(line.removeprefix("run "))
        run = prepare(inputs[:count])
        start = time.perf_counter()
        run()
        answer({"seconds": time.perf_counter() - start})


if __name__ == "__main__":
    main()
