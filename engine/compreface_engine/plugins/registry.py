"""Which plugins there are: one table from notation to factory, and the rules of the notation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from compreface_engine.core.crew import Spread, in_turn, nobody
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.types import Align, CropSpec
from compreface_engine.plugins import facenet
from compreface_engine.plugins.api import Analyzer, Calculator, Detector
from compreface_engine.plugins.calculator import NetworkCalculator
from compreface_engine.plugins.inputs import InputSpec
from compreface_engine.plugins.mtcnn import Mtcnn
from compreface_engine.plugins.prepared import read_prepared
from compreface_engine.runtimes.base import Session

_T = TypeVar("_T")
_EMBEDDED = Path(__file__).resolve().parent.parent / "embedded_models"
_MOBILEFACENET_SIZE = 112


@dataclass(frozen=True, slots=True)
class Notation:
    """`<package>.<Class>[@<model>]`, taken apart."""

    text: str
    package: str
    name: str
    model: str | None

    @property
    def plugin(self) -> str:
        """The notation without its model."""
        return f"{self.package}.{self.name}"

    @property
    def version(self) -> str:
        """What `/status` says: the last package name, the class, and the model if one was named."""
        base = f"{self.package.rpartition('.')[2]}.{self.name}"
        return f"{base}@{self.model}" if self.model else base


@dataclass(frozen=True, slots=True)
class Context:
    """What factories need from outside."""

    open_session: Callable[[Path], Session]
    models_dir: Path | None
    length_limit: int
    spread: Spread = in_turn
    idle: Callable[[], int] = nobody


def parse(text: str) -> Notation:
    """Takes a notation apart; raises ConfigurationError where it is none."""
    plugin, at, model = text.strip().partition("@")
    package, _, name = plugin.rpartition(".")
    if not package or not name or (at and not model) or "@" in model or "." in model:
        raise ConfigurationError(
            f"`{text}` is no plugin. Write `<package>.<Class>` or `<package>.<Class>@<model>`, "
            "for example `facenet.Calculator@20180402-114759`."
        )
    return Notation(text, package, name, model or None)


def _mtcnn(context: Context) -> Mtcnn:
    files = (_EMBEDDED / f"mtcnn_{net}.onnx" for net in ("pnet", "rnet", "onet"))
    return Mtcnn(*(context.open_session(file) for file in files), spread=context.spread)


def _facenet_detector(notation: Notation, context: Context) -> Detector:
    _refuse_model(notation, known=())
    return facenet.FaceDetector(
        _mtcnn(context),
        version=notation.version,
        length_limit=context.length_limit,
        whole_pixel_landmarks=True,
    )


def _embedded_detector(notation: Notation, context: Context) -> Detector:
    _refuse_model(notation, known=("mtcnn",))
    return facenet.FaceDetector(
        _mtcnn(context),
        version=notation.version,
        length_limit=context.length_limit,
        whole_pixel_landmarks=False,
    )


# Similarity coefficients of upstream's models (contract section 11.3); the first is the default.
_FACENET_MODELS: Final[Mapping[str, tuple[float, float]]] = {
    "20180402-114759": (1.1817961, 5.291995557),
    "20180408-102900": (1.1362496, 5.803152427),
}


def _facenet_calculator(notation: Notation, context: Context) -> Calculator:
    _refuse_model(notation, known=tuple(_FACENET_MODELS))
    name = notation.model or next(iter(_FACENET_MODELS))
    model = read_prepared(context.models_dir, name, notation.text)
    if model.align is not Align.FACENET_MARGIN:
        raise ConfigurationError(
            f"{notation.text}: the model in {model.path.parent} is not cut the FaceNet way "
            "(`align: facenet-margin`). Give it a name of its own and use custom.Calculator@NAME."
        )
    return NetworkCalculator(
        context.open_session(model.path),
        version=notation.version,
        crop=CropSpec(model.inputs.size, Align.FACENET_MARGIN),
        inputs=model.inputs,
        similarity=_FACENET_MODELS[name],
        dimension=model.dimension,
        unit_length=False,
        spread=context.spread,
        idle=context.idle,
    )


def _embedded_calculator(notation: Notation, context: Context) -> Calculator:
    _refuse_model(notation, known=("mobilefacenet192",))
    size = _MOBILEFACENET_SIZE
    return NetworkCalculator(
        context.open_session(_EMBEDDED / "mobilefacenet192_fp16w.onnx"),
        version=notation.version,
        crop=CropSpec(size, Align.ARCFACE5),
        inputs=InputSpec(size, mean=(127.5,) * 3, scale=(128.0,) * 3),
        similarity=(1.10, 6.0),
        dimension=192,
        unit_length=True,
        spread=context.spread,
        idle=context.idle,
    )


def _custom_calculator(notation: Notation, context: Context) -> Calculator:
    if notation.model is None:
        raise ConfigurationError(
            f"{notation.text} names no model. Write custom.Calculator@NAME, where NAME is a "
            "folder in CF_MODELS_DIR."
        )
    model = read_prepared(context.models_dir, notation.model, notation.text)
    return NetworkCalculator(
        context.open_session(model.path),
        version=notation.version,
        crop=CropSpec(model.inputs.size, model.align),
        inputs=model.inputs,
        similarity=model.similarity,
        dimension=model.dimension,
        unit_length=True,
        spread=context.spread,
        idle=context.idle,
    )


def _landmarks(notation: Notation, _: Context) -> Analyzer:
    return facenet.LandmarksDetector(notation.version)


def _pose(notation: Notation, _: Context) -> Analyzer:
    return facenet.PoseEstimator(notation.version)


DETECTORS: Final[Mapping[str, Callable[[Notation, Context], Detector]]] = {
    "embedded.FaceDetector": _embedded_detector,
    "facenet.FaceDetector": _facenet_detector,
}
CALCULATORS: Final[Mapping[str, Callable[[Notation, Context], Calculator]]] = {
    "custom.Calculator": _custom_calculator,
    "embedded.Calculator": _embedded_calculator,
    "facenet.Calculator": _facenet_calculator,
}
ANALYZERS: Final[Mapping[str, Callable[[Notation, Context], Analyzer]]] = {
    "facenet.LandmarksDetector": _landmarks,
    "facenet.PoseEstimator": _pose,
}
# Names of CompreFace that a configuration may carry but that have no implementation here.
NOT_HERE: Final = frozenset(
    {
        *("agegender.AgeDetector", "agegender.GenderDetector"),
        *("facenet.facemask.MaskDetector", "insightface.facemask.MaskDetector"),
        *("insightface.FaceDetector", "insightface.Calculator", "insightface.LandmarksDetector"),
        *("insightface.Landmarks2d106Detector", "insightface.PoseEstimator"),
        *("insightface.GenderDetector", "insightface.AgeDetector"),
    }
)


def detector(text: str, context: Context) -> Detector:
    """The detector of a notation, loaded."""
    notation = parse(text)
    return _factory(DETECTORS, notation, "detector")(notation, context)


def calculator(text: str, context: Context) -> Calculator:
    """The calculator of a notation, loaded."""
    notation = parse(text)
    return _factory(CALCULATORS, notation, "calculator")(notation, context)


def analyzer(text: str, context: Context) -> Analyzer:
    """The analyzer of a notation, loaded."""
    notation = parse(text)
    return _factory(ANALYZERS, notation, "extra plugin")(notation, context)


def _factory(table: Mapping[str, _T], notation: Notation, role: str) -> _T:
    if notation.plugin in table:
        return table[notation.plugin]
    if notation.plugin in NOT_HERE:
        raise ConfigurationError(
            f"{notation.text} is a plugin of CompreFace that does not run in this version. "
            f"Choose another {role} (there are {', '.join(sorted(table))})."
        )
    raise ConfigurationError(
        f"There is no {role} `{notation.text}`. Known are {', '.join(sorted(table))}."
    )


def _refuse_model(notation: Notation, known: tuple[str, ...]) -> None:
    if notation.model is None or notation.model in known:
        return
    models = f"known are {', '.join(known)}" if known else "it takes none"
    raise ConfigurationError(f"{notation.plugin} has no model `{notation.model}`: {models}.")
