"""Runs a model's own files in a framework's session, inside the framework's environment.

    python -m tests.frameworks.run_session tensorflow --files graph.pb --outputs embeddings \
        --batches in.npz --answers out.npz

`in.npz` holds batches [N, C, H, W]; `out.npz` gets `<batch>/<output>`. Each batch runs in four
threads at once, and all must agree.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from compreface_engine.runtimes.base import Concurrency, Session
from compreface_engine.runtimes.table import open_session


def opened(runtime: str, files: list[Path], outputs: list[str]) -> Session:
    return open_session(runtime, files, outputs=outputs, concurrency=Concurrency(runs=2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime", choices=("tensorflow", "mxnet"))
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--outputs", nargs="+", required=True)
    parser.add_argument("--batches", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    options = parser.parse_args()
    session = opened(options.runtime, options.files, options.outputs)
    assert session.inputs == ("input",)
    assert session.outputs == tuple(options.outputs)
    answers: dict[str, Any] = {}
    with np.load(options.batches) as batches, ThreadPoolExecutor(4) as pool:
        for name in batches.files:
            feeds = {"input": batches[name]}
            first, *others = pool.map(lambda _, feeds=feeds: session.run(feeds), range(4))
            for other in others:
                for single, two in zip(first, other, strict=True):
                    assert np.array_equal(single, two), "threads disturb each other"
            (last,) = session.run(feeds, [session.outputs[-1]])
            assert np.array_equal(last, first[-1])
            for output, value in zip(session.outputs, first, strict=True):
                answers[f"{name}/{output}"] = value
    np.savez(options.answers, **answers)
    known = {"tensorflow", "mxnet", "onnxruntime", "openvino"} & set(sys.modules)
    assert known == {options.runtime}, "only the runtime that was chosen is imported"


if __name__ == "__main__":
    main()
