"""The known answer of a portrait: that of a model's original in the engine's pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from numpy.typing import NDArray

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array
from compreface_convert.spec import ModelSpec
from compreface_engine.check import describe
from compreface_engine.core.types import Align, CropSpec, Image
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.plugins import registry
from compreface_engine.plugins.calculator import NetworkCalculator
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.onnxruntime import OnnxSession

DETECTORS: Final = ("embedded.FaceDetector@mtcnn", "facenet.FaceDetector")
_LANDMARKS: Final = "facenet.LandmarksDetector"
_LENGTH_LIMIT: Final = 640


class OriginalSession:
    """The unconverted model as a session; `seen` keeps its input batches, NCHW."""

    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("embeddings",)

    def __init__(self, original: Callable[[Array], Sequence[Array]]) -> None:
        self._original = original
        self.seen: list[Array] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """One output: the embeddings [N, D] of an NCHW batch."""
        batch = feeds["input"]
        self.seen.append(batch)
        return list(self._original(batch))


def known_answers(
    spec: ModelSpec, session: OriginalSession, dimension: int, portrait: Image
) -> dict[str, dict[str, Any]]:
    """Box, probability, landmarks and embedding of the largest face, by detector."""
    return {name: _answer(spec, session, dimension, name, portrait) for name in DETECTORS}


def _answer(
    spec: ModelSpec, session: OriginalSession, dimension: int, detector: str, image: Image
) -> dict[str, Any]:
    if spec.align is None or spec.similarity is None:
        raise ConvertError(f"{spec.name} is not a calculator")
    context = Context(
        open_session=lambda path: OnnxSession(path, threads=1),
        models_dir=None,
        length_limit=_LENGTH_LIMIT,
    )
    calculator = NetworkCalculator(
        session,
        version=spec.name,
        crop=CropSpec(spec.inputs.size, spec.align),
        inputs=replace(spec.inputs, layout="nchw"),
        similarity=spec.similarity,
        dimension=dimension,
        # Embeddings of the FaceNet family keep their length; all others are normalised.
        unit_length=spec.align is not Align.FACENET_MARGIN,
    )
    pipeline = Pipeline(
        registry.detector(detector, context),
        calculator,
        [registry.analyzer(_LANDMARKS, context)],
        PipelineConfig(detector=detector, img_length_limit=_LENGTH_LIMIT),
    )
    return _largest(pipeline, detector, image)


def _largest(pipeline: Pipeline, detector: str, image: Image) -> dict[str, Any]:
    slugs = frozenset({"calculator", "landmarks"})
    faces = pipeline.scan(image, min_score=None, detect=True, slugs=slugs)
    if not faces:
        raise ConvertError(f"{detector} finds no face in the portrait")
    return describe(faces[0])
