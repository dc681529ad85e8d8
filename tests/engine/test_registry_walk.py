"""Every row of the registry: it answers, batches, and says of many what it says of each.

A new row that runs a prepared model fails here until `CASES` says which network it runs on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from compreface_convert.prepare import prepare
from compreface_engine.core.geometry import ARCFACE_TEMPLATE, aligned_crop, facenet_crop
from compreface_engine.core.image import decode
from compreface_engine.core.types import Align, BoundingBox, Crops, CropSpec, Detection, Image
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.plugins.registry import PLUGINS
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import seeded_networks as seeded
from tests.engine.drawn_faces import drawn_faces
from tests.engine.seeded_networks import PLAIN_INPUT, Network
from tests.shared import SHARED, needs_shared, shared

Inputs: TypeAlias = Mapping[str, Any]

_FACES = 5


@dataclass(frozen=True)
class Real:
    """Weights at hand, and what the converter must be told about them."""

    format: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """What a plugin runs on where its weights are not at hand; `own`: names for any model."""

    network: Network
    own: tuple[str, ...] = ()
    real: Mapping[str, Real] = field(default_factory=dict)


def _calculator(size: int, values: int, align: Align, inputs: Inputs) -> Network:
    scale = 0.3 if inputs.get("mean", 0) is None else 0.003
    return Network(
        "calculator",
        partial(seeded.rows, size, values, scale=scale),
        {"size": size, **inputs},
        {"align": align.value, "similarity": [1.2, 5.0], "dimension": values},
    )


def _analyzer(
    size: int, values: int, inputs: Inputs, *, weight: float = 0.003, softmax: bool = False
) -> Network:
    build = partial(seeded.rows, size, values, scale=weight, softmax=softmax)
    return Network("analyzer", build, {"size": size, **inputs})


_ANY: Inputs = {"size": None}
_PLAIN: Inputs = {}
_BGR: Inputs = {"colour": "bgr"}
_STANDARDISED: Inputs = {"mean": None, "scale": None}
_UNIT: Inputs = {"mean": 127.5, "scale": 128}
_IMAGENET: Inputs = {"mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]}
_DLIB: Inputs = {"mean": [122.782, 117.001, 104.298], "scale": 256}
_MNET = Real(
    "mxnet",
    ("retinaface_mnet025/mnet.25-symbol.json", "retinaface_mnet025/mnet.25-0000.params"),
)
_GENDERAGE = Real("mxnet", ("genderage_v1/model-symbol.json", "genderage_v1/model-0000.params"))
_MOBILEFACENET = Real(
    "mxnet",
    ("arcface_mobilefacenet/model-symbol.json", "arcface_mobilefacenet/model-0000.params"),
)


def _onnx(file: str) -> Real:
    return Real("onnx", (file,))


_GENDERAGE_CASE = Case(_analyzer(112, 202, _BGR), real={"genderage_v1": _GENDERAGE})
CASES: Mapping[str, Case] = {
    "insightface.FaceDetector": Case(
        Network("detector", seeded.retinaface, {**_ANY, **_BGR}),
        real={"retinaface_mnet025_v1": _MNET},  # its architecture, retrained
    ),
    "retinaface.FaceDetector": Case(
        Network("detector", seeded.retinaface, _ANY),
        ("any", "mnet25_retrained"),
        {"mnet25_retrained": _MNET},
    ),
    "scrfd.FaceDetector": Case(
        Network("detector", seeded.scrfd, {**_ANY, **_UNIT}),
        ("any", "scrfd_500m"),
        {"scrfd_500m": _onnx("scrfd/scrfd_500m.onnx")},
    ),
    "yunet.FaceDetector": Case(
        Network("detector", seeded.yunet, {**_ANY, **_BGR}),
        ("any", "yunet_n"),
        {"yunet_n": _onnx("yunet/yunet_n_dynamic.onnx")},
    ),
    "custom.Calculator": Case(_calculator(112, 64, Align.ARCFACE5, _UNIT), ("any",)),
    "facenet.Calculator": Case(_calculator(160, 512, Align.FACENET_MARGIN, _STANDARDISED)),
    "insightface.Calculator": Case(
        _calculator(112, 128, Align.ARCFACE5, _BGR),
        real={"arcface_mobilefacenet": _MOBILEFACENET},
    ),
    "agegender.AgeDetector": Case(_analyzer(160, 8, _STANDARDISED, weight=1, softmax=True)),
    "agegender.GenderDetector": Case(_analyzer(160, 2, _STANDARDISED, weight=1, softmax=True)),
    "dlib.AgeDetector": Case(
        _analyzer(64, 81, _DLIB, weight=1, softmax=True),
        ("any", "dlib_age_v1"),
        {"dlib_age_v1": _onnx("agegender_dlib/age-v1.onnx")},
    ),
    "dlib.GenderDetector": Case(
        _analyzer(32, 2, _DLIB, weight=1, softmax=True),
        ("any", "dlib_gender_v1"),
        {"dlib_gender_v1": _onnx("agegender_dlib/gender-v1.onnx")},
    ),
    "facemask.MaskDetector": Case(
        _analyzer(224, 2, {"mean": 127.5, "scale": 127.5}, weight=1, softmax=True),
        ("any", "mask_mobilenetv2"),
        {"mask_mobilenetv2": _onnx("facemask_mobilenetv2/mask_mobilenetv2_224.onnx")},
    ),
    "facenet.facemask.MaskDetector": Case(
        _analyzer(100, 3, {"mean": 0, "scale": 255}, weight=1, softmax=True)
    ),
    "genderage.AgeDetector": Case(_analyzer(96, 3, _PLAIN), ("any",)),
    "genderage.GenderDetector": Case(_analyzer(96, 3, _PLAIN), ("any",)),
    "insightface.AgeDetector": _GENDERAGE_CASE,
    "insightface.GenderDetector": _GENDERAGE_CASE,
    "insightface.Landmarks2d106Detector": Case(_analyzer(192, 212, _PLAIN, weight=1e-3)),
    "insightface.facemask.MaskDetector": Case(_analyzer(224, 3, _IMAGENET, weight=1)),
    "landmarks2d106.Landmarks2d106Detector": Case(
        _analyzer(192, 212, _PLAIN, weight=1e-3), ("any",)
    ),
}


def _notations(role: str) -> Iterator[Any]:
    """Each row of a role without a model, and with each of its models."""
    for plugin, row in PLUGINS.items():
        if row.role != role:
            continue
        if row.models is not None:
            yield pytest.param(plugin, None, id=plugin)
        for model in CASES[plugin].own if row.models is None else row.models:
            weights = row.models is None and model in CASES[plugin].real
            marks = [needs_shared] if weights else []
            yield pytest.param(plugin, model, id=f"{plugin}@{model}", marks=marks)


def test_every_row_that_runs_a_prepared_model_has_a_case_with_its_network() -> None:
    bundled = {plugin for plugin in PLUGINS if plugin.startswith("embedded.")}
    prepared = {plugin for plugin, row in PLUGINS.items() if row.models != ()} - bundled
    assert set(CASES) == prepared
    for plugin in prepared:
        assert bool(CASES[plugin].own) == (PLUGINS[plugin].models is None), plugin


class Counted:
    """A session that knows how many pictures each run took."""

    def __init__(self, path: Path) -> None:
        self._session = OnnxSession(path, threads=1)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs
        self.batches: list[int] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        self.batches.append(len(next(iter(feeds.values()))))
        return self._session.run(feeds, outputs)


class Workshop:
    """Prepares models as they are asked for, each once, and counts what their sessions run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sessions: list[Counted] = []

    def context(self, plugin: str, model: str | None) -> Context:
        case, row = CASES.get(plugin), PLUGINS[plugin]
        name = model or (row.models[0] if row.models else None)
        folder = self._folder / plugin
        if case is not None and name is not None and not (folder / name).exists():
            if name in case.real and SHARED is not None:
                self._convert(case.real[name], case.network, name, folder)
            else:
                case.network.write(folder, name)
        self.sessions = []
        return Context(open_session=self._open, models_dir=folder, length_limit=640)

    def _open(self, path: Path) -> Counted:
        self.sessions.append(Counted(path))
        return self.sessions[-1]

    @staticmethod
    def _convert(real: Real, network: Network, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [shared("models", *file.split("/")) for file in real.files]
        entry = {
            "name": name,
            "role": network.role,
            "format": real.format,
            "files": [{"path": path.name} for path in paths],
            "input": {**PLAIN_INPUT, **network.inputs},
        } | {key: network.more[key] for key in ("align", "similarity") if key in network.more}
        spec = folder / f"{name}.json"
        spec.write_text(json.dumps(entry))
        prepare(spec, paths, folder, None, lambda _: None)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("models"))


@cache
def _scene() -> tuple[Image, tuple[Detection, ...]]:
    """Five drawn faces in a row, with their boxes and landmarks."""
    side = 150
    image: Image = np.ascontiguousarray(np.concatenate(list(drawn_faces(side, _FACES)), axis=1))
    template = ARCFACE_TEMPLATE * (side / 112)
    places = [
        Detection(
            BoundingBox(side * i + 12, 4, side * (i + 1) - 12, side - 2, 0.9),
            (template + np.array([side * i, i])).astype(np.float32),
        )
        for i in range(_FACES)
    ]
    return image, tuple(places)


def _crops(spec: CropSpec) -> Crops:
    image, places = _scene()
    if spec.align is Align.FACENET_MARGIN:
        return np.stack([facenet_crop(image, place.box, spec.size) for place in places])
    marks = [place.landmarks for place in places if place.landmarks is not None]
    return np.stack([aligned_crop(image, five, spec.size) for five in marks])


def _pictures(*, photographs: bool) -> list[Image]:
    """Of several shapes, none of them a multiple of a stride."""
    image, _ = _scene()
    pictures = [image[:, :301], image[:129, :190], image[:, 440:]]
    if photographs:
        for name in ("000_5.jpg", "012_4.jpg"):
            data = shared("faces", "compreface-samples", name).read_bytes()
            pictures.append(decode(data, max_pixels=10**7).image)
    return [np.ascontiguousarray(picture) for picture in pictures]


@pytest.mark.parametrize(("plugin", "model"), list(_notations("detector")))
def test_a_detector_says_of_many_pictures_what_it_says_of_each(
    workshop: Workshop, plugin: str, model: str | None
) -> None:
    text = plugin if model is None else f"{plugin}@{model}"
    detector = registry.detector(text, workshop.context(plugin, model))
    assert detector.version == text
    assert 0 < detector.default_min_score < 1
    case = CASES.get(plugin)
    real = case is None or (model or (PLUGINS[plugin].models or ("",))[0]) in case.real
    trained = SHARED is not None and real
    pictures = _pictures(photographs=trained)
    for score in (detector.default_min_score, 0.3):
        together = detector.detect(pictures, min_score=score)
        alone = [detector.detect([picture], min_score=score)[0] for picture in pictures]
        assert [[face.box for face in faces] for faces in together] == [
            [face.box for face in faces] for faces in alone
        ]
        for one, other in zip(chain(*together), chain(*alone), strict=True):
            assert one.landmarks is not None
            assert one.landmarks.shape == (5, 2)
            assert other.landmarks is not None
            assert np.array_equal(one.landmarks, other.landmarks)
            assert score < one.box.probability <= 1
        if trained:
            assert [len(faces) for faces in together[-2:]] == [5, 4]
        elif case is not None and score < 0.5:
            assert any(together)
    whole = detector.whole(pictures[0])
    assert whole.landmarks is None
    assert whole.box == BoundingBox(0, 0, 301, 150, 1.0)


@pytest.mark.parametrize(("plugin", "model"), list(_notations("calculator")))
def test_a_calculator_says_of_a_batch_what_it_says_of_each(
    workshop: Workshop, plugin: str, model: str | None
) -> None:
    text = plugin if model is None else f"{plugin}@{model}"
    calculator = registry.calculator(text, workshop.context(plugin, model))
    assert calculator.version == text
    assert min(calculator.similarity_coefficients) > 1
    (session,) = workshop.sessions
    crops = _crops(calculator.crop)
    together = calculator.embed(crops)
    assert together.shape == (_FACES, calculator.dimension)
    assert together.dtype == np.float32
    assert session.batches[-1] == _FACES
    alone = np.concatenate([calculator.embed(crops[i : i + 1]) for i in range(_FACES)])
    assert session.batches[-1] == 1
    assert np.allclose(together, alone, rtol=1e-3, atol=1e-4 * np.abs(together).max())
    assert len(np.unique(together.round(3), axis=0)) == _FACES


@pytest.mark.parametrize(("plugin", "model"), list(_notations("analyzer")))
def test_an_analyzer_says_of_a_batch_what_it_says_of_each(
    workshop: Workshop, plugin: str, model: str | None
) -> None:
    text = plugin if model is None else f"{plugin}@{model}"
    analyzer = registry.analyzer(text, workshop.context(plugin, model))
    package, _, named = text.rpartition(".")
    assert analyzer.version == f"{package.rpartition('.')[2]}.{named}"
    for session in workshop.sessions:
        session.batches.clear()
    together = [attribute.value for attribute in analyzer.analyze(_contexts(analyzer.crop))]
    assert [session.batches for session in workshop.sessions] in ([], [[_FACES]])
    alone = [analyzer.analyze([face])[0].value for face in _contexts(analyzer.crop)]
    assert len(together) == _FACES
    for one, other in zip(together, alone, strict=True):
        _assert_alike(one, other)
    assert json.loads(json.dumps(together)) == together


def _contexts(spec: CropSpec | None) -> list[FaceContext]:
    image, places = _scene()
    crops = None if spec is None else _crops(spec)
    return [
        FaceContext(image, place, None if crops is None else crops[i : i + 1])
        for i, place in enumerate(places)
    ]


def _assert_alike(one: Any, other: Any) -> None:
    """The same but for rounding: a whole number may be one off where it was cut."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _assert_alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            _assert_alike(first, second)
    elif isinstance(one, int):
        assert abs(one - other) <= 1
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-4)
    else:
        assert one == other
