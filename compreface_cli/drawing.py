"""Pictures of results: boxes, landmarks and attributes, drawn on a copy of the photograph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from compreface_cli.errors import CfError

if TYPE_CHECKING:
    from PIL import Image

Corners: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom, px
# Told apart by people who see no red or green as well (after Okabe and Ito), by face in turn.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00")
_LABEL = "#101010"
_MAX_PIXELS = 178_956_970  # as the engine
_MASKS = {
    "without_mask": "no mask",
    "with_mask": "mask",
    "mask_weared_incorrect": "mask worn wrongly",
}


def attributes(face: Mapping[str, Any], *, pose: bool = True) -> list[str]:
    """What the plugins say of a face beside its box, in words: gender, age, mask, pose."""
    words = []
    if "gender" in face:
        words.append(str(face["gender"]["value"]))
    if "age" in face:
        low, high = face["age"]["low"], face["age"]["high"]
        words.append(f"age {low}" if low == high else f"age {low}-{high}")
    if "mask" in face:
        value = str(face["mask"]["value"])
        words.append(_MASKS.get(value, value))
    if pose and "pose" in face:
        words.append(", ".join(f"{name} {round(value)}" for name, value in _pose(face)))
    return words


def draw(data: bytes, faces: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Save the picture in `data` with `faces` (as the engine gives them) drawn on it, as `target`.

    Coordinates are pixels as they are stored: EXIF orientation is not applied, as in the engine.
    The folder of `target` is made if only it is missing.
    Raises CfError when the picture cannot be opened or `target` not be written.
    """
    image = _open(data)
    taken = [_corners(face) for face in faces]
    for number, face in enumerate(faces, start=1):
        _face(image, face, number)
    for number, face in enumerate(faces, start=1):
        taken.append(_label(image, face, number, taken))
    try:
        target.parent.mkdir(exist_ok=True)
        if target.suffix.lower() == ".png":
            image.save(target)
        else:
            image.save(target, "JPEG", quality=92)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CfError(f"the drawing could not be saved as {target}: {why}") from error


def _open(data: bytes) -> Image.Image:
    from PIL import Image, ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # the engine takes a cut file too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > _MAX_PIXELS:
                    raise CfError(
                        f"{opened.width} x {opened.height} pixels are too many to draw on"
                    )
                image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CfError(f"the picture cannot be drawn on: {error}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    # The original's orientation tag would turn the drawing.
    image.info.pop("exif", None)
    return image


def _face(image: Image.Image, face: Mapping[str, Any], number: int) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    unit = _unit(image)
    colour = COLOURS[(number - 1) % len(COLOURS)]
    pen.rectangle(_corners(face), outline=colour, width=unit)
    for x, y in (point for point in face.get("landmarks", ()) if len(point) == 2):
        pen.ellipse((x - unit, y - unit, x + unit, y + unit), fill=colour, outline=_LABEL)


def _label(
    image: Image.Image, face: Mapping[str, Any], number: int, taken: Sequence[Corners]
) -> Corners:
    """Text on a dark ground beside the box, where it covers no face and no other label if it can.

    `taken` are the faces in order, then the labels so far. Returns where it stands.
    """
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(11, 6 * _unit(image)))
    words = attributes(face, pose=False)
    if "pose" in face:
        words.append(" ".join(f"{name[0]}{round(value)}" for name, value in _pose(face)))
    text = "\n".join([f"{number}   {face['box']['probability']:.3f}", *words])
    x0, y0, x1, y1 = pen.multiline_textbbox((0, 0), text, font=font)
    pad = 3
    size = (x1 - x0 + 2 * pad, y1 - y0 + 2 * pad)
    others = [corners for at, corners in enumerate(taken) if at != number - 1]
    x, y = _place(taken[number - 1], size, image.size, others)
    ground = (x, y, x + size[0], y + size[1])
    pen.rectangle(ground, fill=_LABEL, outline=COLOURS[(number - 1) % len(COLOURS)])
    pen.multiline_text((x + pad - x0, y + pad - y0), text, font=font, fill="white")
    return ground


def _place(
    box: Corners, size: tuple[float, float], picture: tuple[int, int], taken: Sequence[Corners]
) -> tuple[float, float]:
    """Above, below, right or left of the box, inside the picture: where least is covered."""
    left, top, right, bottom = box
    width, height = size
    places = [
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (right, top),
        (left - width, top),
    ]

    def covered(x: float, y: float) -> float:
        across = (min(x + width, r) - max(x, l_) for l_, _, r, _ in taken)
        down = (min(y + height, b) - max(y, t) for _, t, _, b in taken)
        pairs = zip(across, down, strict=True)
        return sum(max(0.0, w) * max(0.0, h) for w, h in pairs)

    whole = [
        (x, y)
        for x, y in places
        if x >= 0 and y >= 0 and x + width <= picture[0] and y + height <= picture[1]
    ]
    if whole:
        return min(whole, key=lambda place: covered(*place))
    x = max(0.0, min(left, picture[0] - width))
    return x, max(0.0, min(top, picture[1] - height))


def _corners(face: Mapping[str, Any]) -> Corners:
    box = face["box"]
    left, right = sorted((box["x_min"], box["x_max"]))
    top, bottom = sorted((box["y_min"], box["y_max"]))
    return left, top, right, bottom


def _pose(face: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, face["pose"][name]) for name in ("pitch", "yaw", "roll")]


def _unit(image: Image.Image) -> int:
    """Width of a line, px."""
    return max(1, round(max(image.size) / 400))
