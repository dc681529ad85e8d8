"""Draws boxes, landmarks and attributes of faces on a copy of the photograph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from compreface_cli.errors import CfError
from compreface_cli.photos import faces as words

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

Corners: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom, px
# Colours of the faces in turn; distinguishable with colour blindness too (after Okabe and Ito).
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00")
_LABEL = "#101010"
_PAD = 3  # px between the text and the border of its background
_MAX_PIXELS = 178_956_970  # the engine's limit
# A label that does not fit beside its box may cover this share of it; more would hide the face.
_MAX_COVERED = 0.25


@dataclass(frozen=True, slots=True)
class Label:
    """The text beside a box, and where it is drawn."""

    text: str  # lines
    background: Corners


def draw(data: bytes, faces: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Draw `faces` (as the engine returns them) on the picture in `data`, and save it as `target`.

    Coordinates are pixels as stored: like the engine, it does not apply the EXIF orientation.
    Creates the folder of `target` if its parent exists. Raises CfError when the picture cannot be
    opened or `target` cannot be written.
    """
    image = _open(data)
    for number, face in enumerate(faces, start=1):
        _face(image, face, number)
    font = _font(image.size)
    for number, label in enumerate(labels(faces, image.size), start=1):
        _label(image, label, number, font)
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
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # as the engine does
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                if opened.width * opened.height > _MAX_PIXELS:
                    raise CfError(
                        f"a picture of {opened.width} x {opened.height} pixels is too large to draw"
                    )
                image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CfError(f"the picture cannot be drawn: {error}") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    # The original's orientation tag would rotate the drawing.
    image.info.pop("exif", None)
    return image


def _face(image: Image.Image, face: Mapping[str, Any], number: int) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    unit = _unit(image.size)
    colour = COLOURS[(number - 1) % len(COLOURS)]
    pen.rectangle(_corners(face), outline=colour, width=unit)
    for x, y in (point for point in face.get("landmarks", ()) if len(point) == 2):
        pen.ellipse((x - unit, y - unit, x + unit, y + unit), fill=colour, outline=_LABEL)


def labels(faces: Sequence[Mapping[str, Any]], picture: tuple[int, int]) -> list[Label]:
    """A label for each face, inside a picture of that width and height (px).

    Where it does not fit it is shortened: without the pose, then to the face's number.
    """
    font = _font(picture)
    boxes = [_corners(face) for face in faces]
    placed: list[Label] = []
    for number, face in enumerate(faces, start=1):
        box = boxes[number - 1]
        taken = [*boxes[: number - 1], *boxes[number:], *(label.background for label in placed)]
        for text in _texts(face, number):
            x0, y0, x1, y1 = _extent(text, font)
            width, height = x1 - x0 + 2 * _PAD, y1 - y0 + 2 * _PAD
            # All candidate places lie within this area; the first text is the largest.
            around = (box[0] - width, box[1] - height, box[2] + width, box[3] + height)
            taken = [area for area in taken if _overlap(area, around)]
            background = _place(box, (width, height), picture, taken)
            covered = _overlap(background, box) / max(1.0, (box[2] - box[0]) * (box[3] - box[1]))
            if covered <= _MAX_COVERED and not _covered(background, taken):
                break
        placed.append(Label(text, background))
    return placed


def _texts(face: Mapping[str, Any], number: int) -> list[str]:
    """The possible texts of a label, longest first."""
    age, gender, mask = words.age(face), words.gender(face), words.mask(face)
    parts = [f"{number}   {face['box']['probability']:.3f}", gender, age and f"age {age}", mask]
    short = "\n".join(filter(None, parts))
    if not face.get("pose"):
        return [short, str(number)]
    pose = " ".join(f"{name[0]}{round(face['pose'][name])}" for name in ("pitch", "yaw", "roll"))
    return [f"{short}\n{pose}", short, str(number)]


def _font(picture: tuple[int, int]) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(size=max(11, 6 * _unit(picture)))


def _extent(text: str, font: Font) -> Corners:
    """The bounding box of the text when it is drawn at 0, 0."""
    from PIL import Image, ImageDraw

    return ImageDraw.Draw(Image.new("1", (1, 1))).multiline_textbbox((0, 0), text, font=font)


def _label(image: Image.Image, label: Label, number: int, font: Font) -> None:
    """Draw white text on a dark background."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    x0, y0, _, _ = _extent(label.text, font)
    left, top, _, _ = label.background
    pen.rectangle(label.background, fill=_LABEL, outline=COLOURS[(number - 1) % len(COLOURS)])
    at = (left + _PAD - x0, top + _PAD - y0)
    pen.multiline_text(at, label.text, font=font, fill="white")


def _place(
    box: Corners, size: tuple[float, float], picture: tuple[int, int], taken: Sequence[Corners]
) -> Corners:
    """The place beside the box, inside the picture, that covers least of the `taken` areas."""
    left, top, right, bottom = box
    width, height = size
    middle = (left + right - width) / 2
    places = [
        (left, top - height),
        (left, bottom),
        (right - width, top - height),
        (right - width, bottom),
        (middle, top - height),
        (middle, bottom),
        (right, top),
        (left - width, top),
        (right, bottom - height),
        (left - width, bottom - height),
    ]
    inside = [
        (x, y, x + width, y + height)
        for x, y in places
        if x >= 0 and y >= 0 and x + width <= picture[0] and y + height <= picture[1]
    ]
    if inside:
        return min(inside, key=lambda background: _covered(background, taken))
    x = max(0.0, min(left, picture[0] - width))
    y = max(0.0, min(top, picture[1] - height))
    return x, y, x + width, y + height


def _covered(background: Corners, taken: Sequence[Corners]) -> float:
    """The area (px²) of faces and other labels that a label covers."""
    return sum(_overlap(background, area) for area in taken)


def _overlap(a: Corners, b: Corners) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _corners(face: Mapping[str, Any]) -> Corners:
    box = face["box"]
    left, right = sorted((box["x_min"], box["x_max"]))
    top, bottom = sorted((box["y_min"], box["y_max"]))
    return left, top, right, bottom


def _unit(picture: tuple[int, int]) -> int:
    """The line width, px."""
    return max(1, round(max(picture) / 400))
