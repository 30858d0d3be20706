"""A peer of `cargo xtask bench`: towers in PyTorch or ONNX Runtime that run and time themselves when they are asked to.

    python bench_peer.py --engine pytorch --model DIR --inputs image.npy --threads 2
    python bench_peer.py --engine onnxruntime --files image.onnx text.onnx --inputs image.npy ids.npy --threads 2

An input file is for the image tower when it holds floats, and for the text tower when it holds integers; with two, a
call runs both towers. Speaks the protocol of bench_protocol.py.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_protocol import claim_stdout, serve

# A tower for one batch: what is timed, ready to be called, giving the embeddings.
Tower = Callable[[np.ndarray], Callable[[], np.ndarray]]


def pytorch(args: argparse.Namespace, inputs: list[np.ndarray]) -> list[Tower]:
    import open_clip
    import torch

    torch.set_num_threads(args.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.precision]
    model = open_clip.create_model(f"local-dir:{args.model}").eval().to(dtype)

    def tower(encode: Callable, batch: np.ndarray) -> Callable[[], np.ndarray]:
        tensor = torch.from_numpy(batch)

        def run() -> np.ndarray:
            # Floats come and go, as they do for everybody.
            with torch.inference_mode():
                return encode(tensor.to(dtype) if tensor.is_floating_point() else tensor).float().numpy()

        return run

    encoders = [model.encode_image if is_image(batch) else model.encode_text for batch in inputs]
    return [lambda batch, encode=encode: tower(encode, batch) for encode in encoders]


def onnxruntime(args: argparse.Namespace, _inputs: list[np.ndarray]) -> list[Tower]:
    return [session(file, args.threads) for file in args.files]


def session(file: Path, threads: int) -> Tower:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    ready = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = ready.get_inputs()[0].name
    return lambda batch: lambda: ready.run(None, {name: batch})[0]


def is_image(inputs: np.ndarray) -> bool:
    return inputs.dtype == np.float32


ENGINES = {"pytorch": pytorch, "onnxruntime": onnxruntime}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=tuple(ENGINES), required=True)
    parser.add_argument("--model", type=Path, help="folder of the checkpoint, for PyTorch")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="what PyTorch's model is cast to")
    parser.add_argument("--files", type=Path, nargs="+", help="for ONNX Runtime: a file for each file of inputs")
    parser.add_argument("--inputs", type=Path, nargs="+", required=True, help=".npy files, [N, ...]")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    answers = claim_stdout()

    inputs = [np.load(file, mmap_mode="r") for file in args.inputs]
    towers = ENGINES[args.engine](args, inputs)

    def prepare(first: int, count: int) -> Callable[[], np.ndarray]:
        batches = [np.array(batch[first : first + count]) for batch in inputs]
        calls = [tower(batch) for tower, batch in zip(towers, batches, strict=True)]
        return lambda: np.concatenate([call() for call in calls], axis=1)

    serve(answers, prepare(0, 1)()[0], prepare)


if __name__ == "__main__":
    main()
