"""Compares the outputs of an original network and its conversion on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a comparison over all outputs; `min_cosine` is of the last output's rows."""

    inputs: int
    max_abs_difference: float
    tolerance: float
    min_cosine: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def session(data: bytes) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session of a model in memory. Raises ConvertError if it is refused."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        # The fallback would print to stdout, which is for the result.
        return onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ConvertError(f"ONNX Runtime refuses the model: {error}") from error


def run_onnx(data: bytes, picture: Array, outputs: Sequence[str]) -> list[Array]:
    """The named outputs for a batch of pictures."""
    runner = session(data)
    try:
        values: list[Array] = runner.run(list(outputs), {runner.get_inputs()[0].name: picture})
    except Exception as error:  # as above
        raise ConvertError(f"ONNX Runtime cannot run the model: {error}") from error
    return values


def lowest_cosine(first: Array, second: Array) -> float:
    """The lowest cosine between the rows of two arrays."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (first, second))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(norms, 1e-30)).min())


def prove(
    original: Callable[[Array], Sequence[Array]],
    converted: Callable[[Array], Sequence[Array]],
    batches: Sequence[Array],
    *,
    tolerance: float,
    relative: bool = False,
    min_cosine: float = 0.0,
    rows: bool = True,
) -> Proof:
    """Compare both functions on each batch. Raises ConvertError above the tolerance.

    `relative`: the tolerance of an output is a share of the largest value that the original gives
    for it (at least 1); the proof is that of the output nearest to its limit. `rows`: the cosines
    are those of the rows of the last output, else that of the whole output.
    """
    worst: dict[int, float] = {}
    largest: dict[int, float] = {}
    cosine, count = 1.0, 0
    for batch in batches:
        expected, values = original(batch), converted(batch)
        if len(expected) != len(values):
            raise ConvertError(f"the converted model has {len(values)} outputs")
        for i, (wanted, value) in enumerate(zip(expected, values, strict=True)):
            if wanted.shape != value.shape:
                raise ConvertError(
                    f"the converted model gives {list(value.shape)}, "
                    f"the original {list(wanted.shape)}"
                )
            if not (np.isfinite(wanted).all() and np.isfinite(value).all()):
                raise ConvertError("the network gives values that are not finite")
            key = i if relative else 0
            difference = float(np.abs(wanted - value).max(initial=0.0))
            worst[key] = max(worst.get(key, 0.0), difference)
            largest[key] = max(largest.get(key, 1.0), float(np.abs(wanted).max(initial=0.0)))
        pair = (expected[-1], values[-1])
        if not rows:
            pair = (pair[0].reshape(1, -1), pair[1].reshape(1, -1))
        cosine = min(cosine, lowest_cosine(*pair))
        count += len(batch)
    allowed = {key: tolerance * (largest[key] if relative else 1) for key in worst}
    key = max(worst, key=lambda i: worst[i] / allowed[i])
    if worst[key] > allowed[key] or cosine < min_cosine:
        raise ConvertError(
            f"the converted model gives other values: largest difference {worst[key]:.3g} (allowed "
            f"{allowed[key]:.3g}), lowest cosine {cosine:.6f} (needed {min_cosine})"
        )
    return Proof(count, worst[key], allowed[key], cosine)
