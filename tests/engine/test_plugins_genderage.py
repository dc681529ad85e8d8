"""Gender and age: what the networks see, what their numbers mean, one evaluation for both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from compreface_convert.__main__ import main
from compreface_engine.core.geometry import aligned_crop
from compreface_engine.core.image import decode
from compreface_engine.core.types import Align, CropSpec
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import Analyzer, FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.plugins.square_crop import SquareCrop
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import face_networks as fn
from tests.shared import needs_shared, shared

UPSTREAMS = ["insightface.GenderDetector", "insightface.AgeDetector"]
OURS = ["genderage.GenderDetector@mine", "genderage.AgeDetector@mine"]
FILES = ("symbol.json", "0000.params")

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
    assert np.array_equal(network.fed[0][0], SquareCrop(96)(face).transpose(2, 0, 1))


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


def _prepared(out: Path, name: str, colour: str) -> None:
    """genderage_v1 by the converter, fed in the order of `colour`."""
    sources = [shared("models", "genderage_v1", f"model-{part}") for part in FILES]
    entry = {
        "name": name,
        "role": "analyzer",
        "format": "mxnet",
        "files": [{"path": path.name, "sha256": None} for path in sources],
        "input": {"size": 112, "layout": "nchw", "colour": colour, "mean": 0, "scale": 1},
    }
    spec = out / f"{name}.json"
    spec.write_text(json.dumps(entry))
    arguments = ["prepare", "--spec", str(spec), "--models-source", *map(str, sources)]
    assert main([*arguments, "--out", str(out)]) == 0


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Over both ways of feeding the real weights."""
    out = tmp_path_factory.mktemp("models")
    _prepared(out, "genderage_v1", "bgr")
    _prepared(out, "mine", "rgb")
    return Context(lambda path: OnnxSession(path, threads=1, gpu_idx=-1), out, 640)


@needs_shared
def test_real_rows_are_mxnets(real: Context) -> None:
    """Given crops with their channels turned round, upstream's plugins see MXNet's own inputs."""
    reference = np.load(shared("models", "genderage_v1", "mxnet_reference.npz"))
    crops = reference["faces_rgb_nchw_u8"].transpose(0, 2, 3, 1)
    for texts, order in ((UPSTREAMS, -1), (OURS, 1)):
        gender, age = (registry.analyzer(text, real) for text in texts)
        faces = [fn.face(fn.noise(), crop=crop[..., ::order]) for crop in crops]
        genders, ages = fn.answers(gender, faces), fn.answers(age, faces)
        for row, is_a, aged in zip(reference["faces_fc1"], genders, ages, strict=True):
            assert is_a["value"] == ("male" if row[1] > row[0] else "female")
            assert aged["low"] == sum(row[3 + 2 * year] > row[2 + 2 * year] for year in range(100))
        alone = [fn.answers(gender, [fn.face(fn.noise(), crop=c[..., ::order])])[0] for c in crops]
        for one, among in zip(alone, genders, strict=True):
            assert one["value"] == among["value"]
            assert one["probability"] == pytest.approx(among["probability"], abs=1e-5)


@needs_shared
def test_real_weights_know_the_annotated_people_in_rgb(real: Context) -> None:
    """Two pictures of one woman lie near an even chance and turn with the detector's points."""
    samples = shared("faces", "compreface-samples")
    people = json.loads((samples / "annotations.json").read_text())["images"]
    detector = registry.detector("embedded.FaceDetector@mtcnn", real)
    gender, age = (registry.analyzer(text, real) for text in OURS)
    right, sure = [], []
    for name, person in people.items():
        if "age" not in person:
            continue
        picture = decode((samples / name).read_bytes(), max_pixels=10**8, apply_exif=False).image
        (found,) = detector.detect([picture], min_score=0.85)
        detection = max(found, key=lambda one: one.box.area)
        assert detection.landmarks is not None
        face = fn.face(picture, crop=aligned_crop(picture, detection.landmarks, 112))
        (is_a,), (aged,) = fn.answers(gender, [face]), fn.answers(age, [face])
        right.append(is_a["value"] == person["sex"])
        sure.append(is_a["probability"] > 0.73)
        assert right[-1] or not sure[-1]
        assert aged["low"] == pytest.approx(person["age"], abs=10)
    assert len(right) == 9
    assert sum(right) >= 8
    assert sum(sure) >= 7
