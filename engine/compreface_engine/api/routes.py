"""The handlers of the contract's routes; they run in a worker thread under a permit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compreface_engine.admission import Permit
from compreface_engine.api.answers import TRUNCATED, Answer, Header, json_answer
from compreface_engine.api.body import read_json_file
from compreface_engine.api.form import read_form
from compreface_engine.api.params import detect_of, limit_of, merged, slugs_of, threshold_of
from compreface_engine.core.errors import BadRequest, NoFaceFound
from compreface_engine.core.kinds import kind_of
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


@dataclass(frozen=True, slots=True)
class Upload:
    """A request with its complete body; `boundary` is None for JSON."""

    body: bytes
    boundary: bytes | None
    query: Mapping[str, str]


def find_faces(permit: Permit, engine: Engine, upload: Upload) -> Answer:
    """/find_faces and /find_faces_base64: detection and the requested plugins."""
    reserve = _reserve(permit, upload)
    data, values = _photograph(permit, upload)
    slugs = slugs_of(values)
    detect = detect_of(values)
    faces, headers = _scan(engine, data, reserve, values, detect=detect, slugs=slugs)
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


def scan_faces(permit: Permit, engine: Engine, upload: Upload) -> Answer:
    """/scan_faces: detection and embedding."""
    slugs = frozenset({"calculator"})
    reserve = _reserve(permit, upload)
    data, values = _photograph(permit, upload)
    faces, headers = _scan(engine, data, reserve, values, detect=True, slugs=slugs)
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


def _reserve(permit: Permit, upload: Upload) -> Callable[[int], None]:
    """The function that reserves memory; a JSON body's copies (text and file) are reserved here."""
    copies = 2 * len(upload.body) if upload.boundary is None else 0
    permit.share.reserve(copies)
    return lambda count: permit.share.reserve(copies + count)


def _photograph(permit: Permit, upload: Upload) -> tuple[bytes | memoryview, Mapping[str, str]]:
    data: bytes | memoryview
    if upload.boundary is None:
        data, values = read_json_file(upload.body), upload.query
    else:
        form = read_form(upload.body, upload.boundary)
        data, values = form.file, merged(upload.query, form.fields)
    permit.describe(f"{permit.description} ({kind_of(data)}, {len(data)} bytes)")
    return data, values


def _scan(
    engine: Engine,
    data: bytes | memoryview,
    reserve: Callable[[int], None],
    values: Mapping[str, str],
    *,
    detect: bool,
    slugs: frozenset[str],
) -> tuple[Sequence[Face], tuple[Header, ...]]:
    """The faces. Errors come in the contract's order: picture, threshold, no face, limit."""
    decoded = engine.decode(data, reserve)
    threshold = threshold_of(values)
    try:
        limit, bad_limit = limit_of(values), None
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
