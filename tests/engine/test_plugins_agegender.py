"""Upstream's `agegender`: the standardised crop, eight ranges of ages, two genders."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from compreface_engine.core.geometry import facenet_crop
from compreface_engine.core.types import Align, BoundingBox, CropSpec
from compreface_engine.plugins.api import Analyzer, FaceContext
from tests.engine import face_networks as fn

AGE, GENDER = "agegender.AgeDetector", "agegender.GenderDetector"


def _made(text: str, folder: Path, row: list[float], layout: str = "nchw") -> fn.Made:
    model = "22801" if text == AGE else "21936"
    fn.describe(folder, model, size=160, mean=None, scale=None, layout=layout)
    network = fn.Network(fn.constant(row))
    return network, fn.analyzer(text, folder, network)


def _face() -> FaceContext:
    image = fn.noise()
    return fn.face(image, crop=facenet_crop(image, BoundingBox(10, 12, 90, 85, 1.0), 160))


def _spec(plugin: Analyzer) -> tuple[object, ...]:
    return plugin.slug, plugin.key, plugin.crop, plugin.needs_landmarks


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_networks_see_facenets_crop_standardised_pixel_by_pixel(
    tmp_path: Path, layout: str
) -> None:
    network, plugin = _made(GENDER, tmp_path, [0.5, 0.5], layout)
    face = _face()
    fn.answers(plugin, [face])
    assert face.crop is not None
    values = face.crop[0].ravel().tolist()
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    expected = (face.crop[0] - mean) / max(deviation, 1 / math.sqrt(len(values)))
    seen = network.fed[0][0] if layout == "nhwc" else network.fed[0][0].transpose(1, 2, 0)
    assert seen.shape == (160, 160, 3)
    assert np.allclose(seen, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("best", "low", "high"),
    [(0, 0, 2), (1, 4, 6), (2, 8, 12), (3, 15, 20), (4, 25, 32), (5, 38, 43), (6, 48, 53),
     (7, 60, 100)],
)  # fmt: skip
def test_an_age_is_the_most_probable_range(tmp_path: Path, best: int, low: int, high: int) -> None:
    row = [0.0625] * 8
    row[best] = 0.5625
    _, plugin = _made(AGE, tmp_path, row)
    assert _spec(plugin) == ("age", "age", CropSpec(160, Align.FACENET_MARGIN), False)
    assert fn.answers(plugin, [_face()]) == [{"low": low, "high": high, "probability": 0.5625}]


@pytest.mark.parametrize(("row", "value"), [([0.75, 0.25], "male"), ([0.25, 0.75], "female")])
def test_male_stands_first(tmp_path: Path, row: list[float], value: str) -> None:
    _, plugin = _made(GENDER, tmp_path, row)
    assert _spec(plugin) == ("gender", "gender", CropSpec(160, Align.FACENET_MARGIN), False)
    assert fn.answers(plugin, [_face()]) == [{"value": value, "probability": 0.75}]


def test_age_and_gender_are_two_networks(tmp_path: Path) -> None:
    network, gender = _made(GENDER, tmp_path, [0.75, 0.25])
    other, age = _made(AGE, tmp_path, [0.125] * 8)
    face = _face()
    assert fn.answers(gender, [face])[0]["value"] == "male"
    assert fn.answers(age, [face])[0]["low"] == 0
    assert (network.batches, other.batches) == ([1], [1])
