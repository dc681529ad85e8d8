"""The memory that decoding a picture needs, estimated from its header; measured, see the README."""

from __future__ import annotations

from typing import Final, TypeAlias

Data: TypeAlias = bytes | memoryview

RGB: Final = 3.0
"""Bytes a pixel of the result, uint8 RGB."""

_STORED: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes a pixel in which Pillow stores a mode (its Storage.c); 4 for all others."""
_BANDS: Final = 8 << 20
"""Bytes of the rows that are converted to RGB at once, as float64 at most."""
_WHOLE: Final = {"WEBP": 18.0, "JPEG2000": 28.0}
"""Bytes a pixel, RGB included, where the decoder itself holds more than one picture."""
_MCU: Final = 32  # libjpeg pads pictures to whole blocks of at most so many pixels a side


def jpeg_bytes(kept: float, width: int, height: int, stored: float = RGB) -> int:
    """The bytes for a JPEG whose pixels are decoded to `stored` bytes each; `kept` as in `Scans`.

    For a file of several scans (progressive, or baseline with a scan for each colour) libjpeg keeps
    all coefficients, of 16 bits each, until the last scan.
    """
    rows = (width + _MCU) * (height + _MCU)
    return int(width * height * stored + rows * 2 * kept)


def other_bytes(
    kind: str, mode: str, width: int, height: int, data: Data, kept: float = 0.0
) -> int:
    """The bytes for a file that Pillow decodes, in its format `kind`, with one copy of the file.

    `kept` is a JPEG's, as in `Scans`.
    """
    pixels, copies = width * height, len(data) + _BANDS
    if kind in _WHOLE:
        return int(pixels * _WHOLE[kind]) + copies
    stored = _STORED.get(mode, 4)
    if kind in ("JPEG", "MPO"):  # the coefficients are freed before the conversion to RGB
        held = jpeg_bytes(kept, width, height, stored)
        return max(held, int(pixels * (stored + RGB))) + copies
    return int(pixels * (stored + RGB)) + copies


def webp_size(data: Data) -> tuple[int, int] | None:
    """Width and height of a WebP's canvas, which its decoder allocates on opening.

    None where `data` is not a WebP. Source: RFC 9649, sections 2.5 to 2.7.
    """
    head = bytes(data[:30])
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[i : i + 3], "little") for i in (24, 27))
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (26, 28))
    elif kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        return None
    return width, height
