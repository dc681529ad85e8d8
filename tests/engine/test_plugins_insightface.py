"""Upstream's InsightFace calculators: its coefficients, its colour order, rows as they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.types import Align, CropSpec
from compreface_engine.plugins import registry
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine.seeded_networks import Network, retinaface, rows

_INPUT = {"size": 112, "colour": "bgr"}
_MORE = {"align": "arcface5", "similarity": [1.0, 2.0], "dimension": 16}
_ARCFACE = Network("calculator", lambda: rows(112, 16, scale=0.01), _INPUT, _MORE)
_RETINAFACE = Network("detector", retinaface, {"size": None, "colour": "bgr"})


def _context(folder: Path) -> Context:
    return Context(lambda path: OnnxSession(path, threads=1), folder, 640)


# Contract section 11.3.
@pytest.mark.parametrize(
    ("name", "similarity"),
    [
        ("arcface_mobilefacenet", (1.26538905, 5.552089201)),
        ("arcface_r100_v1", (1.23132175, 6.602259425)),
        ("arcface_resnet34", (1.2462842, 5.981636853)),
        ("arcface_resnet50", (1.2375747, 5.973354538)),
        ("arcface-r50-msfdrop75", (1.2350148, 7.071431642)),
        ("arcface-r100-msfdrop75", (1.224676, 6.322647217)),
        ("arcface_mobilefacenet_casia_masked", (1.22507105, 7.321198934)),
    ],
)
def test_upstreams_models_have_upstreams_coefficients(
    tmp_path: Path, name: str, similarity: tuple[float, float]
) -> None:
    _ARCFACE.write(tmp_path, name)
    text = f"insightface.Calculator@{name}"
    calculator = registry.calculator(text, _context(tmp_path))
    assert calculator.similarity_coefficients == similarity
    assert calculator.crop == CropSpec(112, Align.ARCFACE5)
    assert calculator.version == text


def test_rows_are_those_of_the_network_over_bgr(tmp_path: Path) -> None:
    _ARCFACE.write(tmp_path, "arcface_mobilefacenet")
    calculator = registry.calculator("insightface.Calculator", _context(tmp_path))
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    tensor = np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2), np.float32)
    session = OnnxSession(tmp_path / "arcface_mobilefacenet" / "model.onnx", threads=1)
    (expected,) = session.run({"input": tensor})
    found = calculator.embed(crops)
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert abs(np.linalg.norm(found, axis=1) - 1).min() > 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": "rgb"}, r"`input\.colour` rgb, CompreFace's has bgr"),
        ({"mean": 127.5}, r"`input\.mean` 127\.5, 127\.5, 127\.5, CompreFace's has 0, 0, 0"),
        ({"mean": None, "scale": None}, r"`input\.mean` null"),
    ],
)
@pytest.mark.parametrize(
    ("network", "text", "instead"),
    [
        (_ARCFACE, "insightface.Calculator@arcface_r100_v1", "custom.Calculator@NAME"),
        (
            _RETINAFACE,
            "insightface.FaceDetector@retinaface_r50_v1",
            "retinaface.FaceDetector@NAME",
        ),
    ],
)
def test_a_model_fed_in_another_way_may_not_bear_upstreams_name(
    tmp_path: Path, network: Network, text: str, instead: str, changes: dict[str, Any], told: str
) -> None:
    other = replace(network, inputs={**network.inputs, **changes})
    other.write(tmp_path, text.partition("@")[2])
    load = registry.detector if network is _RETINAFACE else registry.calculator
    with pytest.raises(ConfigurationError, match=f"{told}.*{instead}"):
        load(text, _context(tmp_path))


def test_a_calculator_of_another_alignment_may_not_bear_upstreams_name(tmp_path: Path) -> None:
    other = replace(_ARCFACE, more={**_MORE, "align": "facenet-margin"})
    other.write(tmp_path, "arcface_mobilefacenet")
    with pytest.raises(ConfigurationError, match=r"`facenet-margin`.*`arcface5`"):
        registry.calculator("insightface.Calculator", _context(tmp_path))


@pytest.mark.parametrize("text", ["scrfd.FaceDetector", "yunet.FaceDetector"])
def test_a_detector_needs_numbers_for_its_input(tmp_path: Path, text: str) -> None:
    inputs = {"size": None, "mean": None, "scale": None}
    Network("detector", retinaface, inputs).write(tmp_path, "mine")
    with pytest.raises(ConfigurationError, match="gives no `mean` and `scale`"):
        registry.detector(f"{text}@mine", _context(tmp_path))


def test_a_model_for_another_role_is_refused(tmp_path: Path) -> None:
    _RETINAFACE.write(tmp_path, "mine")
    with pytest.raises(ConfigurationError, match=r"custom.Calculator@mine.*`role: calculator`"):
        registry.calculator("custom.Calculator@mine", _context(tmp_path))
