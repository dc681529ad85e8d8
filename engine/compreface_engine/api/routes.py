"""The handlers of the contract's routes; they run in a worker thread under a permit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from compreface_engine.api.answers import TRUNCATED, Answer, Header, json_answer
from compreface_engine.api.params import detect_of, limit_of, slugs_of, threshold_of
from compreface_engine.api.upload import Upload
from compreface_engine.core.errors import BadRequest, NoFaceFound
from compreface_engine.core.types import BoundingBox, Image

SCANNER_VERSION = "ScannerWithPlugins"
"""The `calculator_version` of /scan_faces for every calculator: a constant of the original."""


class DecodedImage(Protocol):
    """A decoded picture; `truncated`: its file ended early."""

    @property
    def image(self) -> Image: ...

    @property
    def truncated(self) -> bool: ...


class Face(Protocol):
    """One face of an answer."""

    @property
    def box(self) -> BoundingBox: ...

    @property
    def answers(self) -> Mapping[str, Any]: ...

    @property
    def execution_time(self) -> Mapping[str, int]: ...


class Engine(Protocol):
    """The part of a pipeline that the API uses; see `pipeline.Pipeline`.

    All methods block and are thread-safe.
    """

    @property
    def plugins(self) -> Mapping[str, str]: ...

    @property
    def runtimes(self) -> Mapping[str, Any]: ...

    @property
    def calculator_version(self) -> str: ...

    @property
    def similarity_coefficients(self) -> tuple[float, float]: ...

    def decode(self, data: bytes | memoryview, reserve: Callable[[int], None]) -> DecodedImage:
        """The pixels of `data`; `reserve` is called first, with the bytes that they need."""
        ...

    def scan(
        self,
        image: Image,
        *,
        min_score: float | None,
        detect: bool,
        slugs: frozenset[str],
        limit: int = 0,
    ) -> Sequence[Face]: ...

    def versions(self, slugs: frozenset[str], detect: bool) -> Mapping[str, str]: ...


def find_faces(engine: Engine, upload: Upload) -> Answer:
    """/find_faces and /find_faces_base64: detection and the requested plugins."""
    slugs = slugs_of(upload.parameters)
    detect = detect_of(upload.parameters)
    faces, headers = _scan(engine, upload, detect=detect, slugs=slugs)
    return json_answer(
        {
            "plugins_versions": dict(engine.versions(slugs, detect)),
            "result": [
                {"box": _box(face.box), "execution_time": dict(face.execution_time), **face.answers}
                for face in faces
            ],
        },
        headers=headers,
    )


def scan_faces(engine: Engine, upload: Upload) -> Answer:
    """/scan_faces: detection and embedding."""
    faces, headers = _scan(engine, upload, detect=True, slugs=frozenset({"calculator"}))
    return json_answer(
        {
            "calculator_version": SCANNER_VERSION,
            "result": [
                {"box": _box(face.box), "execution_time": dict(face.execution_time), **face.answers}
                for face in faces
            ],
        },
        headers=headers,
    )


def status(engine: Engine, build_version: str) -> Answer:
    """/status, which is constant while the process runs."""
    return json_answer(
        {
            "available_plugins": dict(engine.plugins),
            "build_version": build_version,
            "calculator_version": engine.calculator_version,
            "runtimes": dict(engine.runtimes),
            "similarity_coefficients": list(engine.similarity_coefficients),
            "status": "OK",
        }
    )


def _scan(
    engine: Engine, upload: Upload, *, detect: bool, slugs: frozenset[str]
) -> tuple[Sequence[Face], tuple[Header, ...]]:
    """The faces. Errors come in the contract's order: picture, threshold, no face, limit."""
    decoded = engine.decode(upload.photograph, upload.reserve)
    threshold = threshold_of(upload.parameters)
    try:
        limit, bad_limit = limit_of(upload.parameters), None
    except BadRequest as error:
        # "No face" takes precedence over a bad limit, so faces are detected, but nothing else is
        # computed. The traceback is dropped, since its frame would keep the picture.
        limit, bad_limit, slugs = 0, error.with_traceback(None), frozenset()
    faces = engine.scan(decoded.image, min_score=threshold, detect=detect, slugs=slugs, limit=limit)
    if not faces:
        raise NoFaceFound(truncated=decoded.truncated)
    if bad_limit is not None:
        raise bad_limit
    return faces, (TRUNCATED,) if decoded.truncated else ()


def _box(box: BoundingBox) -> dict[str, Any]:
    return {
        "probability": float(box.probability),
        "x_max": box.x_max,
        "x_min": box.x_min,
        "y_max": box.y_max,
        "y_min": box.y_min,
    }
