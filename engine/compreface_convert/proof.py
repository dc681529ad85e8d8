"""Proves a conversion: original and result run on the same inputs and are compared."""

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
    """What was compared, over all outputs; `min_cosine` over the rows of the last output."""

    inputs: int
    max_abs_difference: float
    tolerance: float
    min_cosine: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def session(data: bytes) -> onnxruntime.InferenceSession:
    """A session over one model in memory; ConvertError if ONNX Runtime refuses it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        # Its fallback would print to standard output, where our answer goes.
        return onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ConvertError(f"ONNX Runtime refuses the model: {error}") from error


def run_onnx(data: bytes, picture: Array, outputs: Sequence[str]) -> list[Array]:
    """The named outputs for one batch of input."""
    runner = session(data)
    try:
        found: list[Array] = runner.run(list(outputs), {runner.get_inputs()[0].name: picture})
    except Exception as error:  # as above
        raise ConvertError(f"ONNX Runtime cannot run the model: {error}") from error
    return found


def lowest_cosine(first: Array, second: Array) -> float:
    """The lowest cosine between rows of two arrays."""
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
    """Compares both functions on each batch; raises ConvertError above the tolerance.

    `relative`: the tolerance is a share of the largest value the original gives (at least 1), for
    each output by itself; the proof then tells of the output that came nearest to its limit.
    `rows`: cosines are those of the last output's rows, else of a whole output.
    """
    worst: dict[int, float] = {}
    largest: dict[int, float] = {}
    cosine, count = 1.0, 0
    for batch in batches:
        expected, found = original(batch), converted(batch)
        if len(expected) != len(found):
            raise ConvertError(f"the converted model has {len(found)} outputs")
        for i, (one, other) in enumerate(zip(expected, found, strict=True)):
            if one.shape != other.shape:
                raise ConvertError(
                    f"the converted model gives {list(other.shape)}, the original {list(one.shape)}"
                )
            if not (np.isfinite(one).all() and np.isfinite(other).all()):
                raise ConvertError("the model gives values that are not finite")
            key = i if relative else 0
            difference = float(np.abs(one - other).max(initial=0.0))
            worst[key] = max(worst.get(key, 0.0), difference)
            largest[key] = max(largest.get(key, 1.0), float(np.abs(one).max(initial=0.0)))
        pair = (expected[-1], found[-1])
        if not rows:
            pair = (pair[0].reshape(1, -1), pair[1].reshape(1, -1))
        cosine = min(cosine, lowest_cosine(*pair))
        count += len(batch)
    allowed = {key: tolerance * (largest[key] if relative else 1) for key in worst}
    key = max(worst, key=lambda i: worst[i] / allowed[i])
    if worst[key] > allowed[key] or cosine < min_cosine:
        raise ConvertError(
            f"the proof failed: largest difference {worst[key]:.3g} (allowed {allowed[key]:.3g}), "
            f"lowest cosine {cosine:.6f} (needed {min_cosine})"
        )
    return Proof(count, worst[key], allowed[key], cosine)
