"""Pictures of results: boxes, landmarks and attributes, drawn on a copy of the photograph."""

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
# Told apart by people who see no red or green as well (after Okabe and Ito), by face in turn.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00")
_LABEL = "#101010"
_PAD = 3  # px between the text and the border of its ground
_MAX_PIXELS = 178_956_970  # as the engine
# A label that cannot stand beside its box may take this part of it; more would hide the face.
_OF_THE_BOX = 0.25


@dataclass(frozen=True, slots=True)
class Label:
    """What stands beside a box, and where."""

    text: str  # lines
    ground: Corners


def draw(data: bytes, faces: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Save the picture in `data` with `faces` (as the engine gives them) drawn on it, as `target`.

    Coordinates are pixels as they are stored: EXIF orientation is not applied, as in the engine.
    The folder of `target` is made if only it is missing.
    Raises CfError when the picture cannot be opened or `target` not be written.
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
    unit = _unit(image.size)
    colour = COLOURS[(number - 1) % len(COLOURS)]
    pen.rectangle(_corners(face), outline=colour, width=unit)
    for x, y in (point for point in face.get("landmarks", ()) if len(point) == 2):
        pen.ellipse((x - unit, y - unit, x + unit, y + unit), fill=colour, outline=_LABEL)


def labels(faces: Sequence[Mapping[str, Any]], picture: tuple[int, int]) -> list[Label]:
    """A label for each face of a picture of that width and height, px, inside the picture.

    Where no place is free it says less: no pose, then the face's number alone.
    """
    font = _font(picture)
    boxes = [_corners(face) for face in faces]
    found: list[Label] = []
    for number, face in enumerate(faces, start=1):
        box = boxes[number - 1]
        taken = [*boxes[: number - 1], *boxes[number:], *(label.ground for label in found)]
        for text in _texts(face, number):
            x0, y0, x1, y1 = _ink(text, font)
            width, height = x1 - x0 + 2 * _PAD, y1 - y0 + 2 * _PAD
            # All the places lie in here; the first text is the largest.
            around = (box[0] - width, box[1] - height, box[2] + width, box[3] + height)
            taken = [one for one in taken if _shared(one, around)]
            ground = _place(box, (width, height), picture, taken)
            hidden = _shared(ground, box) / max(1.0, (box[2] - box[0]) * (box[3] - box[1]))
            if hidden <= _OF_THE_BOX and not _covered(ground, taken):
                break
        found.append(Label(text, ground))
    return found


def _texts(face: Mapping[str, Any], number: int) -> list[str]:
    """What a label may say, the most first."""
    age, gender, mask = words.age(face), words.gender(face), words.mask(face)
    said = [f"{number}   {face['box']['probability']:.3f}", gender, age and f"age {age}", mask]
    short = "\n".join(filter(None, said))
    if not face.get("pose"):
        return [short, str(number)]
    pose = " ".join(f"{name[0]}{round(face['pose'][name])}" for name in ("pitch", "yaw", "roll"))
    return [f"{short}\n{pose}", short, str(number)]


def _font(picture: tuple[int, int]) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(size=max(11, 6 * _unit(picture)))


def _ink(text: str, font: Font) -> Corners:
    """Where the text lies if it is written at 0, 0."""
    from PIL import Image, ImageDraw

    return ImageDraw.Draw(Image.new("1", (1, 1))).multiline_textbbox((0, 0), text, font=font)


def _label(image: Image.Image, label: Label, number: int, font: Font) -> None:
    """White text on a dark ground."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    x0, y0, _, _ = _ink(label.text, font)
    left, top, _, _ = label.ground
    pen.rectangle(label.ground, fill=_LABEL, outline=COLOURS[(number - 1) % len(COLOURS)])
    at = (left + _PAD - x0, top + _PAD - y0)
    pen.multiline_text(at, label.text, font=font, fill="white")


def _place(
    box: Corners, size: tuple[float, float], picture: tuple[int, int], taken: Sequence[Corners]
) -> Corners:
    """Above, below, right or left of the box, inside the picture: where least is covered."""
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
    grounds = [(x, y, x + width, y + height) for x, y in places]
    whole = [
        ground
        for ground in grounds
        if ground[0] >= 0 and ground[1] >= 0 and ground[2] <= picture[0] and ground[3] <= picture[1]
    ]
    if whole:
        return min(whole, key=lambda ground: _covered(ground, taken))
    x = max(0.0, min(left, picture[0] - width))
    y = max(0.0, min(top, picture[1] - height))
    return x, y, x + width, y + height


def _covered(ground: Corners, taken: Sequence[Corners]) -> float:
    """The area that a label takes from faces and other labels, px."""
    return sum(_shared(ground, one) for one in taken)


def _shared(one: Corners, other: Corners) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)


def _corners(face: Mapping[str, Any]) -> Corners:
    box = face["box"]
    left, right = sorted((box["x_min"], box["x_max"]))
    top, bottom = sorted((box["y_min"], box["y_max"]))
    return left, top, right, bottom


def _unit(picture: tuple[int, int]) -> int:
    """Width of a line, px."""
    return max(1, round(max(picture) / 400))
