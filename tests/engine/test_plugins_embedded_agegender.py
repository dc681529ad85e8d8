"""The embedded age and gender: what the network sees, what its numbers mean, real faces."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.geometry import shrinking_warp
from compreface_engine.core.image import decode
from compreface_engine.core.types import BoundingBox, Detection, Image, Landmarks
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.plugins import embedded_agegender, registry
from compreface_engine.plugins.api import Analyzer, FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.plugins.embedded_agegender import PointAlignedCrop
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import face_networks as fn
from tests.engine.drawn_faces import drawn_faces
from tests.shared import needs_shared, shared

PLUGINS = ("embedded.AgeDetector", "embedded.GenderDetector")
BOTH = frozenset({"age", "gender"})
# Where the README of the network puts the eyes, the nose and the mouth.
PLACES = np.array(
    [
        (35.5603, 29.7931),
        (76.4397, 29.5669),
        (56.1299, 53.0422),
        (39.3362, 76.9742),
        (73.1891, 76.787),
    ]
)
CUT = PointAlignedCrop()


def _pair(row: Sequence[float]) -> tuple[fn.Network, Analyzer, Analyzer]:
    network = fn.Network(fn.constant(row))
    age, gender = fn.analyzers(PLUGINS, Path("unused"), network)
    network.fed.clear()
    return network, age, gender


def _moved(scale: float, turn: float, x: float, y: float) -> Landmarks:
    """The places, turned and scaled about the nose, which comes to (x, y)."""
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    return np.asarray((PLACES - PLACES[2]) @ np.array([[c, s], [-s, c]]) + (x, y))


def _spots(marks: Landmarks, side: int, radius: float) -> Image:
    """A dark picture with a soft bright spot at each of the points."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    light = sum(
        np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2)) for px, py in marks.tolist()
    )
    return np.asarray(np.repeat((np.minimum(light, 1) * 200)[..., None], 3, axis=2), np.uint8)


@given(st.floats(0.6, 6), st.floats(-math.pi, math.pi), st.floats(-20, 20))
def test_the_five_points_come_to_their_places_at_any_size_and_turn(
    scale: float, turn: float, shift: float
) -> None:
    side = 700
    marks = _moved(scale, turn, side / 2 + shift, side / 2 - shift)
    crop = CUT(fn.face(_spots(marks, side, 2.5 * scale), landmarks=marks))
    assert crop.shape == (112, 112, 3)
    rows, columns = np.mgrid[0:112, 0:112]
    for x, y in PLACES.tolist():
        near = np.hypot(columns - x, rows - y) < 8
        light = np.where(near, crop[..., 0], 0).astype(np.float64)
        found = (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()
        assert found == pytest.approx((x, y), abs=0.6)


def test_a_face_of_up_to_twice_the_size_is_sampled_and_a_larger_one_averaged() -> None:
    """A chessboard of single pixels is grey after averages."""
    board = ((np.indices((900, 900)).sum(axis=0) % 2) * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=2)
    for scale, averaged in ((1.9, False), (2.3, True), (5.5, True)):
        crop = CUT(fn.face(image, landmarks=_moved(scale, 0.01, 450, 450)))
        assert bool(np.abs(crop.astype(int) - 127).max() <= 40) is averaged


def test_what_lies_outside_the_picture_is_black() -> None:
    """Half of the face is beyond the left border."""
    image = np.full((200, 200, 3), 180, np.uint8)
    crop = CUT(fn.face(image, landmarks=_moved(1.0, 0.0, 0, 100)))
    assert not crop[:, :55].any()
    assert (crop[:, 58:] == 180).all()


@pytest.mark.parametrize(
    "marks",
    [
        *(_moved(0.01, 0.3, 20, 20), _moved(1e-6, 0.0, 5, 5), _moved(900, 0.0, 0, 0)),
        _moved(1.0, 0.0, -9000, 9000),
        np.full((5, 2), 7.0),
    ],
    ids=["tiny", "smaller than a pixel", "huge", "elsewhere", "one point"],
)
def test_odd_landmarks_give_a_crop_and_an_answer(marks: Landmarks) -> None:
    face = fn.face(fn.smooth(40, 50), landmarks=marks)
    assert CUT(face).shape == (112, 112, 3)
    for plugin in _real():
        (answer,) = fn.answers(plugin, [face])
        assert json.loads(json.dumps(answer)) == answer


def test_without_landmarks_the_box_stands_in_a_black_square() -> None:
    image = np.full((100, 80, 3), 90, np.uint8)
    crop = CUT(fn.face(image, (10, 10, 50, 90)))
    assert not crop[:, :28].any()
    assert not crop[:, 84:].any()
    assert (crop[:, 28:84] == 90).all()
    beyond = CUT(fn.face(image, (60, -40, 100, 50)))
    assert (beyond[:, 33:78] == 90).all()
    assert not beyond[:, :33].any()
    assert not beyond[:, 78:].any()


def test_the_network_gets_the_crop_in_rgb_as_it_is() -> None:
    network, age, gender = _pair([30, 0.25, 0.75])
    face = fn.face(fn.noise(), landmarks=_moved(0.4, 0.2, 50, 50))
    fn.answers(age, [face])
    assert np.array_equal(network.fed[0][0], CUT(face).transpose(2, 0, 1))
    assert (age.slug, age.key, gender.slug, gender.key) == ("age", "age", "gender", "gender")
    assert age.crop is gender.crop is None
    assert not age.needs_landmarks
    assert not gender.needs_landmarks


@pytest.mark.parametrize(
    ("years", "low", "high", "probability"),
    [
        (-3.0, 0, 1, 0.70),
        (0.0, 0, 1, 0.70),
        (1.0, 0, 2, 0.70),
        (4.0, 1, 7, 0.70),
        (10.0, 4, 16, 0.70),
        (16.52, 10, 24, 0.70),
        (25.9, 19, 33, 0.70),
        (26.0, 19, 33, 0.83),
        (40.4, 33, 47, 0.83),
        (75.0, 68, 82, 0.83),
        (85.0, 74, 96, 0.83),
        (100.0, 83, 117, 0.83),
    ],
)
def test_an_age_is_a_range_with_the_share_of_such_ranges_that_held(
    years: float, low: int, high: int, probability: float
) -> None:
    _, age, _ = _pair([years, 0.5, 0.5])
    (answer,) = fn.answers(age, [fn.face(fn.noise())])
    assert answer == {"low": low, "high": high, "probability": probability}
    assert (type(answer["low"]), type(answer["high"])) == (int, int)


@given(st.floats(-100, 200))
def test_a_range_holds_its_age_and_widens_from_the_child_to_the_old(years: float) -> None:
    row = np.array([years, 0.5, 0.5], np.float32)
    answer = embedded_agegender._age(row, fn.face(fn.noise()))
    assert 0 <= answer["low"] <= max(0, years) + 0.5
    assert answer["high"] >= max(0, years) - 0.5
    half = 7 + 0.4 * (years - 75) if years > 75 else min(7, 1 + 0.45 * max(0, years))
    assert answer["high"] - max(0, years) == pytest.approx(half, abs=0.51)


@pytest.mark.parametrize(
    ("row", "value"), [((9, 0.75, 0.25), "male"), ((9, 0.125, 0.875), "female")]
)
def test_a_gender_is_the_larger_share(row: tuple[float, float, float], value: str) -> None:
    _, _, gender = _pair(row)
    assert fn.answers(gender, [fn.face(fn.noise())]) == [
        {"value": value, "probability": max(row[1:])}
    ]


def test_no_other_model_can_be_named() -> None:
    context = Context(lambda _: fn.Network(fn.constant([0, 0, 0])), None, 640)
    with pytest.raises(ConfigurationError, match=r"has no model `mine`: it takes none"):
        registry.analyzer("embedded.AgeDetector@mine", context)


# --- the network itself ---------------------------------------------------------------------------


def _real() -> list[Analyzer]:
    context = Context(lambda path: OnnxSession(path, threads=1), None, 640)
    return [registry.analyzer(text, context) for text in PLUGINS]


def test_a_black_picture_is_16_years_old() -> None:
    """The published network says 16.5 of it; the range of that."""
    age, gender = _real()
    black = [fn.face(np.zeros((50, 60, 3), np.uint8))]
    assert fn.answers(age, black) == [{"low": 10, "high": 24, "probability": 0.70}]
    (answer,) = fn.answers(gender, black)
    assert answer["value"] in ("male", "female")


def test_a_batch_is_answered_as_one_by_one() -> None:
    contexts = []
    for i, image in enumerate(drawn_faces(150, 11)):
        marks = _moved(0.9 + i / 20, i / 9, 75, 70)
        contexts.append(
            FaceContext(image, Detection(BoundingBox(9, 9, 140, 140, 0.9), marks), None)
        )
    for plugin in _real():
        together = fn.answers(plugin, [replace(face, memo={}) for face in contexts])
        alone = [fn.answers(plugin, [replace(face, memo={})])[0] for face in contexts]
        for one, other in zip(together, alone, strict=True):
            assert one.pop("probability") == pytest.approx(other.pop("probability"), abs=1e-5)
            assert one == other


@needs_shared
def test_the_answers_to_the_recorded_crops_are_the_originals() -> None:
    with np.load(shared("models", "agegender_faceapi", "reference.npz")) as arrays:
        crops = [np.ascontiguousarray(c.transpose(1, 2, 0)) for c in arrays["faces_rgb_nchw_u8"]]
        years, shares = arrays["age"], arrays["gender"]
    age, gender = _real()
    # A square box is the crop itself.
    faces = [fn.face(crop, (0, 0, 112, 112)) for crop in crops]
    assert np.array_equal(CUT(faces[0]), crops[0])
    assert [(a["low"], a["high"]) for a in fn.answers(age, faces)] == [
        (round(y - min(7, 1 + 0.45 * y)), round(y + min(7, 1 + 0.45 * y))) for y in years.tolist()
    ]
    for found, share in zip(fn.answers(gender, faces), shares, strict=True):
        assert found["value"] == ("male", "female")[int(share.argmax())]
        assert found["probability"] == pytest.approx(float(share.max()), abs=1e-6)


@needs_shared
def test_real_faces_have_their_gender_and_an_age_near_theirs() -> None:
    samples = shared("faces", "compreface-samples")
    people = json.loads((samples / "annotations.json").read_text())["images"]
    context = Context(lambda path: OnnxSession(path, threads=1), None, 640)
    detector = registry.detector("embedded.FaceDetector@mtcnn", context)
    age, gender = _real()
    for name in ("004_A.jpg", "007_B.jpg", "008_B.jpg", "009_C.jpg"):
        picture = decode((samples / name).read_bytes(), max_pixels=10**8, apply_exif=False).image
        ((found,),) = detector.detect([picture], min_score=0.85)
        face = FaceContext(picture, found, None)
        (is_a,), (aged,) = fn.answers(gender, [face]), fn.answers(age, [face])
        assert is_a["value"] == people[name]["sex"]
        assert aged["low"] - 5 <= people[name]["age"] <= aged["high"] + 5
        # The same face small, and half of it: an answer, whatever it is worth.
        marks = found.landmarks
        assert marks is not None
        small = cv2.resize(picture, None, fx=0.05, fy=0.05, interpolation=cv2.INTER_AREA)
        middle = round(float(marks[2, 0]))
        for image, points in ((small, marks * 0.05), (picture[:, :middle], marks)):
            part = FaceContext(np.ascontiguousarray(image), replace(found, landmarks=points), None)
            (answer,) = fn.answers(age, [part])
            assert 0 <= answer["low"] <= answer["high"]


# --- what a request pays --------------------------------------------------------------------------


def test_a_request_for_neither_makes_no_crop_and_no_run_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default build, its detector's two faces given; both plugins are loaded."""
    ran: list[str] = []
    cut: list[str] = []
    infer, warp = OnnxSession.run, shrinking_warp

    def run(self: OnnxSession, feeds: Any, outputs: Any = None) -> Any:
        if tuple(self.outputs) == ("age_gender",):
            ran.append("age_gender")
        return infer(self, feeds, outputs)

    def warped(*args: Any, **more: Any) -> Image:
        cut.append("crop")
        return warp(*args, **more)

    monkeypatch.setattr(OnnxSession, "run", run)
    monkeypatch.setattr(f"{embedded_agegender.__name__}.shrinking_warp", warped)
    image = np.ascontiguousarray(np.concatenate(list(drawn_faces(150, 2)), axis=1))
    marks = [_moved(0.9, 0.0, 75 + 150 * i, 70) for i in range(2)]
    faces = [Detection(BoundingBox(9, 9, 140, 140, 0.9), mark) for mark in marks]

    class Given:
        version = "fake.FaceDetector"
        default_min_score = 0.5

        def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
            return [faces for _ in images]

        def whole(self, image: Image) -> Detection:
            return Detection(BoundingBox(0, 0, image.shape[1], image.shape[0], 1.0), None)

    monkeypatch.setattr(registry, "detector", lambda *_: Given())
    loaded = Pipeline.load(PipelineConfig())
    ran.clear()
    cut.clear()
    rest = frozenset({"calculator", "landmarks", "pose"})
    (first, second) = loaded.scan(image, min_score=None, detect=True, slugs=rest)
    assert first.answers.keys() == second.answers.keys() == {"embedding", "landmarks", "pose"}
    loaded.scan(image, min_score=None, detect=False, slugs=rest)
    assert (ran, cut) == ([], [])
    for slugs in (BOTH, frozenset({"age"}), frozenset({"gender"})):
        found = loaded.scan(image, min_score=None, detect=True, slugs=slugs)
        assert [face.answers.keys() for face in found] == [slugs] * 2
        assert (len(ran), len(cut)) == (1, 2)  # one run of two faces, one crop each
        ran.clear()
        cut.clear()
