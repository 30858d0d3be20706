"""The lines that a peer exchanges with `cargo xtask bench`, as xtask/src/bench/protocol.rs describes them.

First a line {"ready": {"embedding": [...]}} with what the first input becomes, then for each line `run FIRST COUNT` that
is read, a line {"seconds": S} for those inputs.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

import numpy as np

# From a range of inputs, their first and their number, to what is timed: a call that gives a row per input.
Prepare = Callable[[int, int], Callable[[], np.ndarray]]


def claim_stdout() -> TextIO:
    """The real stdout, for answers alone: whatever a library prints from now on goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def serve(answers: TextIO, first_row: np.ndarray, prepare: Prepare) -> None:
    """Says that all is loaded, and answers requests until there are no more."""

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")

    answer({"ready": {"embedding": np.asarray(first_row, dtype=float).ravel().tolist()}})
    for line in sys.stdin:
        first, count = map(int, line.removeprefix("run ").split())
        run = prepare(first, count)
        start = time.perf_counter()
        run()
        answer({"seconds": time.perf_counter() - start})
