"""Proves a conversion: original and result run on the same inputs and are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime

from compreface_engine.convert.errors import ConvertError
from compreface_engine.convert.graph import Array


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
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
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
) -> Proof:
    """Compares both functions on each batch; raises ConvertError above the tolerance.

    `relative`: the tolerance is a share of the largest value the original gives (at least 1).
    """
    worst, cosine, count, largest = 0.0, 1.0, 0, 1.0
    for batch in batches:
        expected, found = original(batch), converted(batch)
        for one, other in zip(expected, found, strict=True):
            if one.shape != other.shape:
                raise ConvertError(
                    f"the converted model gives {list(other.shape)}, the original {list(one.shape)}"
                )
            if not (np.isfinite(one).all() and np.isfinite(other).all()):
                raise ConvertError("the model gives values that are not finite")
            worst = max(worst, float(np.abs(one - other).max(initial=0.0)))
            largest = max(largest, float(np.abs(one).max(initial=0.0)))
        cosine = min(cosine, lowest_cosine(expected[-1], found[-1]))
        count += len(batch)
    tolerance *= largest if relative else 1
    if worst > tolerance or cosine < min_cosine:
        raise ConvertError(
            f"the proof failed: largest difference {worst:.3g} (allowed {tolerance:.3g}), "
            f"lowest cosine {cosine:.6f} (needed {min_cosine})"
        )
    return Proof(count, worst, tolerance, cosine)
