"""What the engine says of a face, in words; what it does not say, or says wrongly, is empty."""

from __future__ import annotations

from typing import Any

import pytest

from compreface_cli.photos import faces


@pytest.mark.parametrize(
    ("age", "text"),
    [
        ({"low": 23, "high": 35, "probability": 0.81}, "23-35"),
        ({"low": 30, "high": 30, "probability": 1.0}, "30"),
        ({"low": 0, "high": 3}, "0-3"),
        ({"low": 22.6, "high": 31.2}, "23-31"),
        ({"low": 22.6, "high": 23.4}, "23"),
        ({"low": 1, "high": float("inf")}, ""),
        ({"low": float("nan"), "high": 2}, ""),
        ({"low": 23}, ""),
        ({"low": "young", "high": "old"}, ""),
        (None, ""),
        ([20, 30], ""),
    ],
)
def test_age_is_a_range_of_whole_years(age: Any, text: str) -> None:
    assert faces.age({"age": age}) == text


@pytest.mark.parametrize(
    ("gender", "text"),
    [
        ({"value": "female", "probability": 0.987}, "female 0.99"),
        ({"value": "male", "probability": 1}, "male 1.00"),
        ({"value": "male"}, "male"),
        ({"value": "male", "probability": None}, "male"),
        ({"value": "male", "probability": "high"}, "male"),
        ({"probability": 0.9}, ""),
        (None, ""),
        ("female", ""),
    ],
)
def test_gender_is_its_word_and_how_sure_the_network_is(gender: Any, text: str) -> None:
    assert faces.gender({"gender": gender}) == text


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        ({"value": "mask_weared_incorrect", "probability": 0.7}, "mask worn wrongly"),
        ({"value": "without_mask"}, "no mask"),
        ({"value": "scarf"}, "scarf"),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_mask_is_words(mask: Any, text: str) -> None:
    assert faces.mask({"mask": mask}) == text


def test_a_face_with_only_a_box_has_empty_columns() -> None:
    face = {"box": {"x_min": 1, "y_min": -2, "x_max": 30, "y_max": 40, "probability": 0.99994}}
    assert faces.edges(face) == "1, -2 - 30, 40"
    assert faces.sure(face) == "0.9999"
    for words in (faces.age, faces.gender, faces.mask, faces.angles):
        assert words(face) == ""


def test_angles_stand_under_their_heading() -> None:
    face = {"pose": {"pitch": -12.4, "yaw": 3.2, "roll": -170.0}}
    assert faces.angles(face) == "  -12    3 -170"
    assert len(faces.angles(face)) == len(faces.ANGLES)
