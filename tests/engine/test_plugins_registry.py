"""Which plugins a configuration can name, and what it is told when it names another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.types import Align, CropSpec
from compreface_engine.models.prepared import read_prepared
from compreface_engine.plugins import facenet, insightface, registry
from compreface_engine.plugins.context import Context, parse
from compreface_engine.plugins.mtcnn import MtcnnDetector


class Opened:
    """A session that only knows its file."""

    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("embedding",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        embedding = np.zeros(192 if "192" in self.path.name else 2, np.float32)
        embedding[:2] = 3, 4
        return [np.tile(embedding, (len(feeds["input"]), 1))]


def _context(models_dir: Path | None = None) -> Context:
    return Context(open_session=Opened, models_dir=models_dir, length_limit=640)


def _prepared(folder: Path, name: str, **changes: Any) -> Path:
    """A prepared model's folder; `changes` go into its model.json."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(b"weights")
    described: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "role": "calculator",
        "file": "model.onnx",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "input": {
            "size": 112,
            "layout": "nchw",
            "colour": "bgr",
            "mean": 127.5,
            "scale": [1, 2, 3],
        },
        "align": "arcface5",
        "similarity": [1.2, 5],
        "dimension": 2,
    }
    described.update(changes)
    (place / "model.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(
    ("text", "package", "name", "model", "version"),
    [
        ("facenet.Calculator", "facenet", "Calculator", "", "facenet.Calculator"),
        (" facenet.Calculator@20180402-114759 ", "facenet", "Calculator", "20180402-114759",
         "facenet.Calculator@20180402-114759"),
        ("facenet.facemask.MaskDetector", "facenet.facemask", "MaskDetector", "",
         "facemask.MaskDetector"),
    ],
)  # fmt: skip
def test_a_notation_is_taken_apart_and_echoed_as_the_original_does(
    text: str, package: str, name: str, model: str, version: str
) -> None:
    notation = parse(text)
    assert (notation.package, notation.name, notation.model) == (package, name, model)
    assert notation.version == version


@pytest.mark.parametrize("text", ["", "facenet", "a.B@", "a.B@x@y", "a.B@v1.0", ".B", "a."])
def test_what_is_no_notation_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a plugin.*for example"):
        parse(text)


@pytest.mark.parametrize("plugin", registry.PLUGINS)
def test_the_factory_of_every_row_exists(plugin: str) -> None:
    module, _, function = registry.PLUGINS[plugin].factory.partition(":")
    assert callable(getattr(import_module(f"compreface_engine.plugins.{module}"), function))


@pytest.mark.parametrize("family", [facenet, insightface])
def test_each_model_of_upstreams_calculators_has_its_coefficients(family: ModuleType) -> None:
    package = family.__name__.rpartition(".")[2]
    models = registry.PLUGINS[f"{package}.Calculator"].models
    assert models == tuple(family.SIMILARITY)


@pytest.mark.parametrize(
    "text", ["facenet.FaceDetector", "embedded.FaceDetector@mtcnn", "embedded.FaceDetector"]
)
def test_detectors_load_the_bundled_networks_and_keep_their_notation(text: str) -> None:
    detector = registry.detector(text, _context())
    assert isinstance(detector, MtcnnDetector)
    assert detector.version == text
    assert detector.default_min_score == 0.85


def test_the_bundled_calculator_is_aligned_and_of_unit_length() -> None:
    calculator = registry.calculator("embedded.Calculator@mobilefacenet192", _context())
    assert calculator.version == "embedded.Calculator@mobilefacenet192"
    assert calculator.similarity_coefficients == (1.10, 6.0)
    assert calculator.crop == CropSpec(112, Align.ARCFACE5)
    assert calculator.dimension == 192
    embedding = calculator.embed(np.zeros((1, 112, 112, 3), np.uint8))[0]
    assert embedding[:3] == pytest.approx([0.6, 0.8, 0])


@pytest.mark.parametrize(
    ("text", "model", "similarity"),
    [
        ("facenet.Calculator", "20180402-114759", (1.1817961, 5.291995557)),
        ("facenet.Calculator@20180402-114759", "20180402-114759", (1.1817961, 5.291995557)),
        ("facenet.Calculator@20180408-102900", "20180408-102900", (1.1362496, 5.803152427)),
    ],
)
def test_facenet_has_upstreams_models_and_raw_embeddings(
    tmp_path: Path, text: str, model: str, similarity: tuple[float, float]
) -> None:
    inputs = {"size": 160, "mean": None, "scale": None}
    _prepared(tmp_path, model, align="facenet-margin", input=inputs)
    calculator = registry.calculator(text, _context(tmp_path))
    assert calculator.version == text
    assert calculator.similarity_coefficients == similarity
    assert calculator.crop == CropSpec(160, Align.FACENET_MARGIN)
    assert calculator.embed(np.zeros((1, 160, 160, 3))).tolist() == [[3, 4]]


def test_facenet_refuses_a_model_that_wants_another_crop(tmp_path: Path) -> None:
    inputs = {"size": 160, "mean": None, "scale": None}
    _prepared(tmp_path, "20180402-114759", input=inputs)
    told = r"aligned by `arcface5`.*`facenet-margin`.*custom\.Calculator"
    with pytest.raises(ConfigurationError, match=told):
        registry.calculator("facenet.Calculator", _context(tmp_path))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mean": 127.5, "scale": 128}, r"`input\.mean` 127\.5, 127\.5, 127\.5, .* has null"),
        ({"colour": "bgr"}, r"`input\.colour` bgr, CompreFace's has rgb"),
        ({"size": 112}, r"`input\.size` 112, CompreFace's has 160"),
    ],
)
def test_facenet_refuses_a_model_that_is_fed_in_another_way(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    inputs = {"size": 160, "mean": None, "scale": None, **changes}
    _prepared(tmp_path, "20180402-114759", align="facenet-margin", input=inputs)
    with pytest.raises(ConfigurationError, match=f"{told}.*custom.Calculator@NAME"):
        registry.calculator("facenet.Calculator", _context(tmp_path))


def test_a_model_of_ones_own_needs_nothing_but_its_folder(tmp_path: Path) -> None:
    calculator = registry.calculator(
        "custom.Calculator@mine", _context(_prepared(tmp_path, "mine"))
    )
    assert calculator.version == "custom.Calculator@mine"
    assert calculator.similarity_coefficients == (1.2, 5.0)
    assert calculator.crop == CropSpec(112, Align.ARCFACE5)
    assert calculator.embed(np.zeros((1, 112, 112, 3), np.uint8))[0] == pytest.approx([0.6, 0.8])
    model = read_prepared(tmp_path, "mine", "custom.Calculator@mine")
    assert model.inputs.scale == (1.0, 2.0, 3.0)
    assert model.inputs.colour == "bgr"


def test_a_custom_calculator_must_name_its_model() -> None:
    with pytest.raises(ConfigurationError, match="names no model"):
        registry.calculator("custom.Calculator", _context())


def test_analyzers_load_without_models() -> None:
    context = _context()
    assert registry.analyzer("facenet.LandmarksDetector", context).slug == "landmarks"
    assert registry.analyzer("facenet.PoseEstimator", context).key == "pose"


def test_an_unknown_plugin_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no detector `foo\.Bar`.*facenet\.FaceDetector"):
        registry.detector("foo.Bar", _context())
    with pytest.raises(ConfigurationError, match="no calculator"):
        registry.calculator("facenet.FaceDetector", _context())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("facenet.FaceDetector@x", "it takes none"),
        ("embedded.FaceDetector@yunet", "known are mtcnn"),
        ("embedded.Calculator@other", "known are mobilefacenet192"),
        ("facenet.Calculator@other", "known are 20180402-114759, 20180408-102900"),
        ("facenet.LandmarksDetector@x", "it takes none"),
    ],
)
def test_an_unknown_model_is_refused_with_the_known_ones(text: str, told: str) -> None:
    load = registry.calculator
    if "Detector" in text:
        load = registry.analyzer if "Landmarks" in text else registry.detector  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match=told):
        load(text, _context())


def test_without_a_folder_of_models_the_variable_to_set_is_named() -> None:
    with pytest.raises(ConfigurationError, match="CF_MODELS_DIR"):
        registry.calculator("facenet.Calculator", _context())


def test_a_model_that_was_never_prepared_says_how_to_prepare_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"does not exist.*compreface_convert"):
        registry.calculator("custom.Calculator@mine", _context(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"role": "oracle"},
        {"input": {"size": None}},
        {"input": {"size": 0}},
        {"input": []},
        {"source": {"format": "onnx", "files": [{"name": "../x", "sha256": ""}]}},
        {"align": "sideways"},
        {"similarity": [1]},
        {"file": "../model.onnx"},
        {"input": {"size": 112, "layout": "chwn"}},
        {"input": {"size": 112, "colour": "hsv"}},
        {"input": {"size": 112, "mean": [1, 2], "scale": 1}},
        {"dimension": None},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    _prepared(tmp_path, "mine", **changes)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        registry.calculator("custom.Calculator@mine", _context(tmp_path))


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (_prepared(tmp_path, "mine") / "mine" / "model.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        registry.calculator("custom.Calculator@mine", _context(tmp_path))


def test_weights_that_changed_are_refused_with_both_hashes(tmp_path: Path) -> None:
    (_prepared(tmp_path, "mine") / "mine" / "model.onnx").write_bytes(b"weightS")
    with pytest.raises(ConfigurationError, match=r"damaged: its SHA-256 is [0-9a-f]{64}, not"):
        registry.calculator("custom.Calculator@mine", _context(tmp_path))


def test_weights_that_are_gone_are_refused(tmp_path: Path) -> None:
    (_prepared(tmp_path, "mine") / "mine" / "model.onnx").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        registry.calculator("custom.Calculator@mine", _context(tmp_path))
