"""What the engine says of a face, in words; an empty text for what it leaves out."""

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
    """Left, top - right, bottom of the box, px."""
    box = face["box"]
    return f"{box['x_min']}, {box['y_min']} - {box['x_max']}, {box['y_max']}"


def sure(face: Mapping[str, Any]) -> str:
    """The detector's probability, 0..1."""
    return f"{face['box']['probability']:.4f}"


def angles(face: Mapping[str, Any]) -> str:
    """Whole degrees under the heading ANGLES."""
    pose = face.get("pose")
    if pose is None:
        return ""
    pitch, yaw, roll = (round(pose[name]) for name in ("pitch", "yaw", "roll"))
    return f"{pitch:>5} {yaw:>4} {roll:>4}"


def age(face: Mapping[str, Any]) -> str:
    """The range, whole years: `23-35`, or `30` where it is one year."""
    try:
        low, high = (round(face["age"][end]) for end in ("low", "high"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return ""
    return f"{low}" if low == high else f"{low}-{high}"


def gender(face: Mapping[str, Any]) -> str:
    """The network's class and its probability, 0..1: `female 0.99`."""
    said = face.get("gender")
    if not isinstance(said, Mapping) or "value" not in said:
        return ""
    try:
        return f"{said['value']} {said['probability']:.2f}"
    except (KeyError, TypeError, ValueError):
        return str(said["value"])


def mask(face: Mapping[str, Any]) -> str:
    """How a mask is worn, in words."""
    said = face.get("mask")
    if not isinstance(said, Mapping) or "value" not in said:
        return ""
    value = str(said["value"])
    return _MASKS.get(value, value)


# What an engine may leave out, by the heading of its column.
_OPTIONAL: dict[str, Callable[[Mapping[str, Any]], str]] = {
    ANGLES: angles,
    "age": age,
    "gender": gender,
    "mask": mask,
}


def columns(
    faces: Iterable[Mapping[str, Any]], headings: Iterable[str] = tuple(_OPTIONAL)
) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """Of these headings those under which something is said of one face at least, with what."""
    every = list(faces)
    return {
        heading: _OPTIONAL[heading]
        for heading in headings
        if any(_OPTIONAL[heading](face) for face in every)
    }
