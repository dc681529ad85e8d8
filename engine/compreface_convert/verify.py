"""Verifies a conversion on random and real pictures, and chooses the first right candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.formats import Candidate, Converted
from compreface_convert.graph import Array
from compreface_convert.proof import Proof, prove, session
from compreface_convert.spec import ModelSpec
from compreface_engine.core.errors import EngineError
from compreface_engine.core.image import decode
from compreface_engine.core.types import Image

TOLERANCE: Final = 1e-4
"""The allowed difference, as a share of an output's largest value (at least 1)."""
MIN_COSINE: Final = 0.99999
_SIZES: Final = ((96, 128, 2), (75, 101, 2), (131, 64, 1), (192, 157, 1))
"""Height, width and number of the pictures for a network without a fixed size."""
_STEP: Final = 32
"""Height and width are multiples of it where a detector does not take any size."""
_REAL_SIDE: Final = 256
_MAX_PIXELS: Final = 50_000_000

Say = Callable[[str], None]


def read_portrait(path: Path) -> Image:
    """The picture in a file. Raises ConvertError."""
    try:
        return decode(path.read_bytes(), max_pixels=_MAX_PIXELS).image
    except (OSError, EngineError) as error:
        raise ConvertError(f"the portrait {path} cannot be read: {error}") from error


def batches(spec: ModelSpec, converted: Converted, portrait: Image | None) -> list[Array]:
    """Inputs, NCHW and normalised by the entry: seeded noise, smooth pictures and the portrait."""
    rng = np.random.default_rng(11)
    if spec.inputs.size:
        shapes = [(2, spec.inputs.size, spec.inputs.size), (3, spec.inputs.size, spec.inputs.size)]
    else:
        step = _step(converted)
        shapes = [(n, -(-h // step) * step, -(-w // step) * step) for h, w, n in _SIZES]
    made: list[Any] = []
    for i, (count, height, width) in enumerate(shapes):
        shape = (count, height, width, 3)
        if i % 2 == 0:
            made.append(rng.integers(0, 256, shape, np.uint8))
            continue
        waves = np.cumsum(np.cumsum(rng.standard_normal(shape), axis=1), axis=2)
        smooth = 127.5 + 127.5 * np.tanh(waves / max(height, width))
        made.append(smooth.astype(np.uint8))
    if portrait is not None and spec.role != "calculator":
        made.append(_real(portrait, spec.inputs.size, shapes[-1]))
    return [_nchw(spec, crops) for crops in made]


def _real(portrait: Image, size: int, last: tuple[int, int, int]) -> Any:
    side = (size, size) if size else (last[2], last[1])
    return cv2.resize(portrait, side, interpolation=cv2.INTER_AREA)[None]


def _step(converted: Converted) -> int:
    """1 if the original takes any height and width, else 32."""
    height, width, _ = _SIZES[1]
    try:
        converted.original(np.zeros((1, 3, height, width), np.float32))
    except ConvertError:
        return _STEP
    return 1


def _nchw(spec: ModelSpec, crops: Any) -> Array:
    return np.ascontiguousarray(replace(spec.inputs, layout="nchw").tensor(crops))


def verified(
    spec: ModelSpec, converted: Converted, inputs: Sequence[Array], say: Say
) -> tuple[Candidate, Proof]:
    """The first candidate with the original's values. Raises ConvertError if there is none."""
    failure = ConvertError("the conversion has no result")
    calculator = spec.role == "calculator"
    for candidate in converted.candidates:
        try:
            proof = prove(
                converted.original,
                _runner(candidate),
                [batch[: candidate.batch] for batch in inputs],
                tolerance=TOLERANCE,
                relative=True,
                min_cosine=MIN_COSINE,
                rows=calculator,
            )
        except ConvertError as error:
            failure = error
            continue
        say(
            f"verified on {proof.inputs} inputs: largest difference {proof.max_abs_difference:.2g} "
            f"(allowed {proof.tolerance:.2g}), lowest cosine {proof.min_cosine:.7f}"
        )
        return candidate, proof
    raise failure


def _runner(candidate: Candidate) -> Callable[[Array], list[Array]]:
    runner = session(candidate.data)
    name = runner.get_inputs()[0].name

    def run(batch: Array) -> list[Array]:
        try:
            return [np.asarray(value) for value in runner.run(None, {name: batch})]
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            reason = "the converted model cannot be run"
            if candidate.batch is None:
                reason = "the batch of the network is fixed and could not be made dynamic"
            raise ConvertError(f"{reason}: {str(error).splitlines()[0]}") from error

    return run
