"""Which plugins there are: one table, a row a plugin, and how one is found in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.plugins import (
    agegender,
    dlib,
    embedded,
    embedded_agegender,
    facemask,
    facenet,
    genderage,
    insightface,
    landmarks2d106,
    points,
    retinaface,
    scrfd,
    yunet,
)
from compreface_engine.plugins import calculator as calculators
from compreface_engine.plugins.api import Analyzer, Calculator, Detector
from compreface_engine.plugins.context import Context, Notation, parse
from compreface_engine.plugins.prepared import Role


@dataclass(frozen=True, slots=True)
class Row:
    """One plugin: its role, the models it may be named with, and its factory.

    Of known `models` the first is the default; `()` takes none; None takes any prepared model and
    needs one named.
    """

    role: Role
    models: tuple[str, ...] | None
    make: Callable[[Notation, Context], Any]


PLUGINS: Final[Mapping[str, Row]] = {
    # Detectors
    "embedded.FaceDetector": Row("detector", ("mtcnn",), facenet.make_embedded_detector),
    "facenet.FaceDetector": Row("detector", (), facenet.make_detector),
    "insightface.FaceDetector": Row(
        "detector", retinaface.MODELS, retinaface.make_upstream_detector
    ),
    "retinaface.FaceDetector": Row("detector", None, retinaface.make_detector),
    "scrfd.FaceDetector": Row("detector", None, scrfd.make_detector),
    "yunet.FaceDetector": Row("detector", None, yunet.make_detector),
    # Calculators
    "custom.Calculator": Row("calculator", None, calculators.make_custom),
    "embedded.Calculator": Row("calculator", ("mobilefacenet192",), embedded.make_calculator),
    "facenet.Calculator": Row("calculator", tuple(facenet.CALCULATORS), facenet.make_calculator),
    "insightface.Calculator": Row(
        "calculator", tuple(insightface.CALCULATORS), insightface.make_calculator
    ),
    # Analyzers
    "agegender.AgeDetector": Row("analyzer", (agegender.AGE_MODEL,), agegender.make_age),
    "agegender.GenderDetector": Row("analyzer", (agegender.GENDER_MODEL,), agegender.make_gender),
    "dlib.AgeDetector": Row("analyzer", None, dlib.make_age),
    "dlib.GenderDetector": Row("analyzer", None, dlib.make_gender),
    "embedded.AgeDetector": Row("analyzer", (), embedded_agegender.make_age),
    "embedded.GenderDetector": Row("analyzer", (), embedded_agegender.make_gender),
    "facemask.MaskDetector": Row("analyzer", None, facemask.make),
    "facenet.LandmarksDetector": Row("analyzer", (), points.make_landmarks),
    "facenet.PoseEstimator": Row("analyzer", (), points.make_pose),
    "facenet.facemask.MaskDetector": Row("analyzer", facemask.KERAS_MODELS, facemask.make_keras),
    "genderage.AgeDetector": Row("analyzer", None, genderage.make_age),
    "genderage.GenderDetector": Row("analyzer", None, genderage.make_gender),
    "insightface.AgeDetector": Row("analyzer", (genderage.UPSTREAM,), genderage.make_upstreams_age),
    "insightface.GenderDetector": Row(
        "analyzer", (genderage.UPSTREAM,), genderage.make_upstreams_gender
    ),
    "insightface.Landmarks2d106Detector": Row(
        "analyzer", (landmarks2d106.UPSTREAM,), landmarks2d106.make_upstreams
    ),
    "insightface.LandmarksDetector": Row("analyzer", (), points.make_landmarks),
    "insightface.PoseEstimator": Row("analyzer", (), points.make_pose),
    "insightface.facemask.MaskDetector": Row(
        "analyzer", facemask.GLUON_MODELS, facemask.make_gluon
    ),
    "landmarks2d106.Landmarks2d106Detector": Row("analyzer", None, landmarks2d106.make),
}


def detector(text: str, context: Context) -> Detector:
    """The detector of a notation, loaded. Raises ConfigurationError where that cannot be."""
    made: Detector = _make("detector", text, context)
    return made


def calculator(text: str, context: Context) -> Calculator:
    """The calculator of a notation, loaded. Raises ConfigurationError where that cannot be."""
    made: Calculator = _make("calculator", text, context)
    return made


def analyzer(text: str, context: Context) -> Analyzer:
    """The analyzer of a notation, loaded. Raises ConfigurationError where that cannot be."""
    made: Analyzer = _make("analyzer", text, context)
    return made


def _make(role: Role, text: str, context: Context) -> Any:
    notation = parse(text)
    row = PLUGINS.get(notation.plugin)
    if row is None or row.role != role:
        called = "extra plugin" if role == "analyzer" else role
        known = ", ".join(sorted(name for name, row in PLUGINS.items() if row.role == role))
        raise ConfigurationError(f"There is no {called} `{notation.text}`. Known are {known}.")
    if row.models is None:
        if notation.model is None:
            raise ConfigurationError(
                f"{notation.text} names no model. Write {notation.plugin}@NAME, where NAME is a "
                "folder in CF_MODELS_DIR."
            )
    elif notation.model is not None and notation.model not in row.models:
        models = f"known are {', '.join(row.models)}" if row.models else "it takes none"
        raise ConfigurationError(f"{notation.plugin} has no model `{notation.model}`: {models}.")
    return row.make(notation, context)
