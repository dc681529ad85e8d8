"""Gender and age: what the networks see, what their numbers mean, one evaluation for both."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from compreface_engine.core.types import Align, CropSpec
from compreface_engine.plugins.api import Analyzer, FaceContext
from compreface_engine.plugins.upright import Upright
from tests.engine import face_networks as fn

UPSTREAMS = ["insightface.GenderDetector", "insightface.AgeDetector"]
OURS = ["genderage.GenderDetector@mine", "genderage.AgeDetector@mine"]
BLANK = np.zeros(202, np.float32)

Pair: TypeAlias = tuple[fn.Network, Analyzer, Analyzer]


def _pair(texts: list[str], folder: Path, row: list[float]) -> Pair:
    """A network that says `row`, and the two plugins over it."""
    network = fn.Network(fn.constant(row))
    gender, age = fn.analyzers(texts, folder, network)
    network.fed.clear()
    return network, gender, age


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("models")
    fn.describe(folder, "genderage_v1", size=112, colour="bgr")
    return _pair(UPSTREAMS, folder, [0] * 202)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("models")
    fn.describe(folder, "mine", size=96)
    return _pair(OURS, folder, [0] * 3)


def _pairs(gender: tuple[float, float], years: int) -> list[float]:
    return [*gender, *([0.5, 1.5] * years), *([2.5, 1.5] * (100 - years))]


def _faces(count: int = 1) -> list[FaceContext]:
    return [fn.face(fn.noise(), crop=fn.noise(112, 112, seed)) for seed in range(count)]


def test_upstreams_network_sees_the_aligned_crop_in_bgr(upstreams: Pair) -> None:
    network, gender, age = upstreams
    network.fed.clear()
    assert gender.crop == age.crop == CropSpec(112, Align.ARCFACE5)
    (face,) = _faces()
    fn.answers(age, [face])
    assert face.crop is not None
    assert network.fed[0].shape == (1, 3, 112, 112)
    for channel in range(3):
        assert np.array_equal(network.fed[0][0, channel], face.crop[0, :, :, 2 - channel])


def test_upstreams_answers_are_certain_and_the_age_is_one_year(upstreams: Pair) -> None:
    network, gender, age = upstreams
    network.compute = fn.constant(_pairs((-0.25, 0.75), 37))
    assert (gender.slug, gender.key, age.slug, age.key) == ("gender", "gender", "age", "age")
    assert fn.answers(gender, _faces()) == [{"value": "male", "probability": 1.0}]
    assert fn.answers(age, _faces()) == [{"low": 37, "high": 37, "probability": 1.0}]
    assert not gender.needs_landmarks
    assert not age.needs_landmarks


@given(arrays(np.float32, 202, elements=st.integers(-2, 2).map(float)))
def test_rows_are_read_value_by_value_as_the_contract_says(
    upstreams: Pair, row: NDArray[np.float32]
) -> None:
    network, gender, age = upstreams
    network.compute = fn.constant(row.tolist())
    years = 0
    for pair in range(100):
        years += bool(row[2 + 2 * pair + 1] > row[2 + 2 * pair])
    value = "male" if row[1] > row[0] else "female"
    assert fn.answers(gender, _faces())[0]["value"] == value
    assert fn.answers(age, _faces()) == [{"low": years, "high": years, "probability": 1.0}]


def test_both_plugins_of_a_request_share_one_evaluation_of_each_face(upstreams: Pair) -> None:
    network, gender, age = upstreams
    network.compute = lambda batch: np.concatenate(
        (batch[:, 0, 0, :2] - 100, np.tile(_pairs((0, 0), 5)[2:], (len(batch), 1))), axis=1
    )
    network.fed.clear()
    faces = _faces(3)
    genders = fn.answers(gender, faces)
    assert [a["low"] for a in fn.answers(age, faces)] == [5, 5, 5]
    assert network.batches == [3]
    alone = [fn.answers(gender, [face])[0] for face in _faces(3)]
    assert genders == alone


def test_the_rgb_way_reads_the_same_rows_and_gives_the_genders_probability(tmp_path: Path) -> None:
    fn.describe(tmp_path, "mine", size=112)
    network, gender, age = _pair(OURS, tmp_path, _pairs((0, float(np.log(3))), 12))
    assert gender.crop == age.crop == CropSpec(112, Align.ARCFACE5)
    (face,) = _faces()
    assert fn.answers(gender, [face]) == [
        {"value": "male", "probability": pytest.approx(0.75, abs=1e-6)}
    ]
    assert fn.answers(age, [face]) == [{"low": 12, "high": 12, "probability": 1.0}]
    assert face.crop is not None
    assert network.batches == [1]
    assert np.array_equal(network.fed[0][0], face.crop[0].transpose(2, 0, 1))


def test_the_onnx_file_sees_an_upright_square_around_the_box(direct: Pair) -> None:
    network, gender, age = direct
    network.fed.clear()
    assert gender.crop is None
    assert age.crop is None
    face = fn.face(fn.smooth(90, 110), (13, 20, 60, 71))
    fn.answers(gender, [face])
    fn.answers(age, [face])
    assert network.batches == [1]
    assert np.array_equal(network.fed[0][0], Upright(96)(face).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("row", "value", "probability", "years"),
    [
        ([0, np.log(4), 0.304], "male", 0.8, 30),
        ([np.log(4), 0, 0.306], "female", 0.8, 31),
        ([1, 1, -0.03], "female", 0.5, 0),
    ],
)
def test_the_onnx_files_three_numbers_are_two_scores_and_centuries(
    direct: Pair, row: list[float], value: str, probability: float, years: int
) -> None:
    network, gender, age = direct
    network.compute = fn.constant(row)
    face = fn.face(fn.noise())
    assert fn.answers(gender, [face]) == [
        {"value": value, "probability": pytest.approx(probability, abs=1e-6)}
    ]
    assert fn.answers(age, [face]) == [{"low": years, "high": years, "probability": 1.0}]
