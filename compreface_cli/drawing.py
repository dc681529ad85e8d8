"""Pictures of results: boxes, landmarks and attributes, drawn on a copy of the photograph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compreface_cli.errors import CfError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

# Told apart by people who see no red or green as well (after Okabe and Ito), by face in turn.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00")
_LABEL = "#101010"
_MAX_PIXELS = 178_956_970  # as the engine
_MASKS = {
    "without_mask": "no mask",
    "with_mask": "mask",
    "mask_weared_incorrect": "mask worn wrongly",
}


def attributes(face: Mapping[str, Any]) -> list[str]:
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
    if "pose" in face:
        pose = face["pose"]
        words.append(f"pitch {pose['pitch']:.0f}, yaw {pose['yaw']:.0f}, roll {pose['roll']:.0f}")
    return words


def draw(data: bytes, faces: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Save the picture in `data` with `faces` (as the engine gives them) drawn on it, as `target`.

    Coordinates are pixels as they are stored: EXIF orientation is not applied, as in the engine.
    Raises CfError when the picture cannot be opened or `target` not be written.
    """
    image = _open(data)
    for number, face in enumerate(faces, start=1):
        _face(image, face, number)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".png":
            image.save(target)
        else:
            image.save(target, "JPEG", quality=92)
    except (OSError, ValueError) as error:
        raise CfError(f"cannot save {target}: {error}") from error


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
    # No metadata: the original's orientation tag would turn the drawing.
    image.info.clear()
    return image


def _face(image: Image.Image, face: Mapping[str, Any], number: int) -> None:
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 400))
    colour = COLOURS[(number - 1) % len(COLOURS)]
    box = face["box"]
    left, right = sorted((box["x_min"], box["x_max"]))
    top, bottom = sorted((box["y_min"], box["y_max"]))
    pen.rectangle((left, top, right, bottom), outline=colour, width=unit)
    for x, y in (point for point in face.get("landmarks", ()) if len(point) == 2):
        pen.ellipse((x - unit, y - unit, x + unit, y + unit), fill=colour, outline=_LABEL)
    font = ImageFont.load_default(size=max(11, 6 * unit))
    lines = [f"{number}   {box['probability']:.3f}", *attributes(face)]
    _label(pen, image.size, (left, top, bottom), lines, font, colour)


def _label(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    at: tuple[float, float, float],
    lines: Sequence[str],
    font: Font,
    colour: str,
) -> None:
    """Text on a dark ground above the box, below it, or inside: where it is whole."""
    left, top, bottom = at
    text = "\n".join(lines)
    x0, y0, x1, y1 = pen.multiline_textbbox((0, 0), text, font=font)
    pad = 3
    width, height = x1 - x0 + 2 * pad, y1 - y0 + 2 * pad
    if top - height >= 0:
        y = top - height
    elif bottom + height <= size[1]:
        y = bottom
    else:
        y = max(0.0, min(top, size[1] - height))
    x = max(0.0, min(left, size[0] - width))
    pen.rectangle((x, y, x + width, y + height), fill=_LABEL, outline=colour)
    pen.multiline_text((x + pad - x0, y + pad - y0), text, font=font, fill="white")
