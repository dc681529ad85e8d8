"""dlib's networks: the crop by the eyes, what their numbers mean, and real weights on faces."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.core.image import decode
from compreface_engine.core.types import Image, Landmarks
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.plugins.dlib import EyeAlignedCrop
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import face_networks as fn
from tests.shared import needs_shared, shared

AGE, GENDER = "dlib.AgeDetector@age", "dlib.GenderDetector@gender"
_INPUT = {"mean": [122.782, 117.001, 104.298], "scale": 256}


def _describe(folder: Path) -> None:
    fn.describe(folder, "age", size=64, **_INPUT)
    fn.describe(folder, "gender", size=32, **_INPUT)


def _made(text: str, folder: Path, row: list[float]) -> fn.Made:
    _describe(folder)
    network = fn.Network(fn.constant(row))
    return network, fn.analyzer(text, folder, network)


def _eyes(left: tuple[float, float], right: tuple[float, float]) -> Landmarks:
    return np.array([left, right, (0, 0), (0, 0), (0, 0)], np.float64)


def _spots(eyes: Landmarks, side: int, radius: float) -> Image:
    """A dark picture with a soft bright spot at each eye."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    light = sum(
        np.exp(-((x - ex) ** 2 + (y - ey) ** 2) / (2 * radius**2)) for ex, ey in eyes[:2].tolist()
    )
    return np.asarray(np.repeat((light * 200)[..., None], 3, axis=2), np.uint8)


@given(
    st.floats(20, 260),
    st.floats(-math.pi, math.pi),
    st.floats(0.45, 0.55),
    st.sampled_from([32, 64]),
)
def test_the_eyes_come_to_dlibs_places_at_any_size_and_turn(
    apart: float, turn: float, middle: float, size: int
) -> None:
    across, down = apart / 2 * math.cos(turn), apart / 2 * math.sin(turn)
    x, y = 400 * middle, 400 * (1 - middle)
    eyes = _eyes((x - across, y - down), (x + across, y + down))
    crop = EyeAlignedCrop(size)(fn.face(_spots(eyes, 400, apart / 10), landmarks=eyes))
    assert crop.shape == (size, size, 3)
    light = crop[..., 0].astype(np.float64)
    for columns, place in (
        (slice(0, size // 2), (0.2305, 0.2214)),
        (slice(size // 2, size), (0.7528, 0.2212)),
    ):
        half = np.zeros_like(light)
        half[:, columns] = light[:, columns]
        rows, cols = np.mgrid[0:size, 0:size]
        found = (half * cols).sum() / half.sum(), (half * rows).sum() / half.sum()
        expected = [(v + 0.2) / 1.4 * size for v in place]
        assert found == pytest.approx(expected, abs=0.35)


def test_a_large_face_is_averaged_not_sampled() -> None:
    """A chessboard of single pixels is grey after averages; bilinear sampling would alias."""
    board = ((np.indices((800, 800)).sum(axis=0) % 2) * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    eyes = _eyes((325.3, 300.7), (475.1, 301.2))
    crop = EyeAlignedCrop(32)(fn.face(image, landmarks=eyes))
    assert np.abs(crop.astype(int) - 127).max() <= 8


def test_a_small_face_is_enlarged_bilinearly() -> None:
    image = fn.smooth(60, 60)
    eyes = _eyes((25, 25), (35, 25))
    crop = EyeAlignedCrop(64)(fn.face(image, landmarks=eyes))
    centre = (64 * (0.5 * (0.2305 + 0.7528) + 0.2) / 1.4, 64 * (0.2213 + 0.2) / 1.4)
    pixel = crop[round(centre[1]), round(centre[0])].astype(int)
    assert pixel == pytest.approx(image[25, 30].astype(int), abs=4)


@pytest.mark.parametrize("eyes", [((-900, -900), (-700, -900)), ((5, 5), (5000, 9000))])
def test_eyes_far_outside_the_picture_give_a_crop_too(
    eyes: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    assert EyeAlignedCrop(32)(fn.face(fn.smooth(40, 50), landmarks=_eyes(*eyes))).shape == (
        32,
        32,
        3,
    )


def test_eyes_at_one_place_are_answered_from_a_black_crop(tmp_path: Path) -> None:
    _, plugin = _made(GENDER, tmp_path, [0.25, 0.75])
    face = fn.face(fn.smooth(40, 50), landmarks=_eyes((20, 20), (20, 20)))
    assert not EyeAlignedCrop(32)(face).any()
    assert fn.answers(plugin, [face]) == [{"value": "male", "probability": 0.75}]


def test_without_landmarks_the_whole_picture_is_the_face() -> None:
    image = fn.smooth(80, 90)
    expected = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(EyeAlignedCrop(32)(fn.face(image)), expected)


def test_the_networks_are_fed_as_their_models_describe(tmp_path: Path) -> None:
    network, plugin = _made(GENDER, tmp_path, [0.25, 0.75])
    face = fn.face(fn.noise(), landmarks=_eyes((40, 40), (60, 42)))
    assert fn.answers(plugin, [face]) == [{"value": "male", "probability": 0.75}]
    assert (plugin.slug, plugin.key, plugin.crop) == ("gender", "gender", None)
    assert not plugin.needs_landmarks
    expected = (EyeAlignedCrop(32)(face) - np.array(_INPUT["mean"])) / 256
    assert np.allclose(network.fed[0][0], expected.transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("shares", "low", "high", "probability"),
    [
        ({30: 1.0}, 30, 30, 1.0),
        ({20: 0.5, 30: 0.5}, 20, 30, 1.0),
        ({20: 0.125, 30: 0.75, 40: 0.125}, 25, 35, 0.75),
        ({0: 1.0}, 0, 0, 1.0),
        ({0: 0.5, 1: 0.5}, 0, 1, 1.0),
        ({70: 0.25, 80: 0.75}, 73, 80, 0.75),
        ({0: 0.75, 8: 0.25}, 0, 6, 0.75),  # the first year counts a quarter
    ],
)
def test_an_age_is_the_years_within_a_deviation_of_the_expected_one(
    tmp_path: Path, shares: dict[int, float], low: int, high: int, probability: float
) -> None:
    _, plugin = _made(AGE, tmp_path, [shares.get(year, 0.0) for year in range(81)])
    assert (plugin.slug, plugin.key) == ("age", "age")
    (answer,) = fn.answers(plugin, [fn.face(fn.noise())])
    assert answer == {"low": low, "high": high, "probability": pytest.approx(probability)}
    assert type(answer["low"]) is int


@needs_shared
def test_real_weights_know_the_annotated_people(tmp_path: Path) -> None:
    _describe(tmp_path)
    samples = shared("faces", "compreface-samples")
    detector = registry.detector(
        "embedded.FaceDetector@mtcnn",
        Context(lambda path: OnnxSession(path, threads=1, gpu_idx=-1), None, 640),
    )
    context = Context(
        lambda path: OnnxSession(
            shared("models", "agegender_dlib", f"{path.parent.name}-v1.onnx"), threads=1, gpu_idx=-1
        ),
        tmp_path,
        640,
    )
    age, gender = (registry.analyzer(text, context) for text in (AGE, GENDER))
    people = json.loads((samples / "annotations.json").read_text())["images"]
    faces, expected = [], []
    for name in ("004_A.jpg", "007_B.jpg", "008_B.jpg", "009_C.jpg"):
        picture = decode((samples / name).read_bytes(), max_pixels=10**8, apply_exif=False).image
        ((found,),) = detector.detect([picture], min_score=0.85)
        faces.append(FaceContext(picture, found, None))
        expected.append(people[name])
    for person, is_a, aged in zip(
        expected, fn.answers(gender, faces), fn.answers(age, faces), strict=True
    ):
        assert is_a["value"] == person["sex"]
        assert is_a["probability"] > 0.9
        assert aged["low"] - 4 <= person["age"] <= aged["high"] + 4
    alone = [fn.answers(gender, [FaceContext(f.image, f.detection, None)])[0] for f in faces]
    assert [a["probability"] for a in alone] == pytest.approx(
        [a["probability"] for a in fn.answers(gender, faces)], abs=1e-5
    )
