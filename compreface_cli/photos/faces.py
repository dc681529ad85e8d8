"""The values of a face in the engine's answer as text; empty for those that it left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

ANGLES = "pitch  yaw roll"  # the heading over `angles`
_MASKS = {
    "without_mask": "no mask",
    "with_mask": "mask",
    "mask_weared_incorrect": "mask worn wrongly",
}


def edges(face: Mapping[str, Any]) -> str:
    """The box: left, top - right, bottom, px."""
    box = face["box"]
    return f"{box['x_min']}, {box['y_min']} - {box['x_max']}, {box['y_max']}"


def sure(face: Mapping[str, Any]) -> str:
    """The detector's probability, 0..1."""
    return f"{face['box']['probability']:.4f}"


def angles(face: Mapping[str, Any]) -> str:
    """The pose in whole degrees, aligned with the heading ANGLES."""
    pose = face.get("pose")
    if pose is None:
        return ""
    pitch, yaw, roll = (round(pose[name]) for name in ("pitch", "yaw", "roll"))
    return f"{pitch:>5} {yaw:>4} {roll:>4}"


def age(face: Mapping[str, Any]) -> str:
    """The age range in whole years: `23-35`, or `30` for a single year."""
    try:
        low, high = (round(face["age"][end]) for end in ("low", "high"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""
    return f"{low}" if low == high else f"{low}-{high}"


def gender(face: Mapping[str, Any]) -> str:
    """The network's class and its probability, 0..1: `female 0.99`."""
    answer = face.get("gender")
    if not isinstance(answer, Mapping) or "value" not in answer:
        return ""
    try:
        return f"{answer['value']} {answer['probability']:.2f}"
    except (KeyError, TypeError, ValueError):
        return str(answer["value"])


def mask(face: Mapping[str, Any]) -> str:
    """Whether and how a mask is worn."""
    answer = face.get("mask")
    if not isinstance(answer, Mapping) or "value" not in answer:
        return ""
    value = str(answer["value"])
    return _MASKS.get(value, value)


# Values that an engine may leave out, by the heading of their column.
_OPTIONAL: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ANGLES: angles,
    "age": age,
    "gender": gender,
    "mask": mask,
}


def columns(
    faces: Iterable[Mapping[str, Any]], headings: Iterable[str] = tuple(_OPTIONAL)
) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """Those of `headings` for which some face has a value, with the function that renders it."""
    faces = list(faces)
    return {
        heading: _OPTIONAL[heading]
        for heading in headings
        if any(_OPTIONAL[heading](face) for face in faces)
    }
