"""What decoding a picture takes of memory, foretold from its header; measured, see the README."""

from __future__ import annotations

from typing import Final, TypeAlias

Data: TypeAlias = bytes | memoryview

RGB: Final = 3.0
"""Bytes a pixel of what every picture ends as, uint8 RGB."""

_STORED: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes a pixel in which Pillow keeps a mode (its Storage.c); 4 for all others."""
_BANDS: Final = 8 << 20
"""Bytes of the rows that are turned to RGB at once, as float64 at most."""
_WHOLE: Final = {"WEBP": 18.0, "JPEG2000": 28.0}
"""Bytes a pixel, RGB included, where the decoder itself holds more than one picture."""
_MOST_SEGMENTS: Final = 4096

_SOS: Final = 0xDA
_BASELINE: Final = frozenset({0xC0, 0xC1, 0xC5, 0xC9, 0xCD})
_OTHER: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} - _BASELINE)
_STANDALONE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_MCU: Final = 32  # libjpeg fills pictures up to whole blocks, of at most so many pixels a side


def of_jpeg(data: Data, width: int, height: int, stored: float = RGB) -> int:
    """Bytes for a JPEG whose pixels are decoded to `stored` bytes each.

    A file of several scans (progressive, or a baseline file with its colours one by one) is held
    whole as coefficients of 16 bits before its first pixel is made.
    """
    rows = (width + _MCU) * (height + _MCU)
    return int(width * height * stored + rows * 2 * coefficients(data))


def of_other(kind: str, mode: str, width: int, height: int, data: Data) -> int:
    """Bytes for a file that Pillow decodes, of its format `kind`; a copy of the file counts too."""
    pixels, copies = width * height, len(data) + _BANDS
    if kind in _WHOLE:
        return int(pixels * _WHOLE[kind]) + copies
    stored = _STORED.get(mode, 4)
    if kind in ("JPEG", "MPO"):  # the coefficients are gone before RGB is made
        held = of_jpeg(data, width, height, stored)
        return max(held, int(pixels * (stored + RGB))) + copies
    return int(pixels * (stored + RGB)) + copies


def coefficients(data: Data) -> float:
    """Coefficients a pixel that the decoder keeps of a JPEG: 0 for one scan of all its colours.

    Reads markers up to the first scan. What cannot be read counts as the dearest there is.
    """
    at, samples, components, buffered = 2, 4.0, 0, True
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(data):
            break
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at += 1 if data[at] == 0xFF else _garbage(data, at)
            continue
        kind = data[at + 1]
        if kind in _STANDALONE:
            at += 2
            continue
        if kind == _SOS:
            first = data[at + 4] if at + 4 < len(data) else 0
            return samples if buffered or first < components else 0.0
        if kind in _BASELINE or kind in _OTHER:
            buffered, components = kind in _OTHER, data[at + 9] if at + 9 < len(data) else 4
            samples = _samples(data, at + 10, components)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return samples


def _garbage(data: Data, at: int) -> int:
    """Bytes from `at` to the next marker; libjpeg skips them too."""
    found = bytes(data[at : at + (1 << 16)]).find(b"\xff")
    return found if found > 0 else 1 << 16


def _samples(data: Data, at: int, components: int) -> float:
    """Samples a pixel of all components, from their sampling factors; 4 where these are odd."""
    factors = [data[place] for place in range(at + 1, at + 3 * components, 3) if place < len(data)]
    across, down = [one >> 4 for one in factors], [one & 15 for one in factors]
    if not factors or len(factors) != components or 0 in across or 0 in down:
        return 4.0
    most = max(across) * max(down)
    return sum(x * y for x, y in zip(across, down, strict=True)) / most


def webp_size(data: Data) -> tuple[int, int] | None:
    """Width and height of a WebP's canvas, which its decoder takes memory for when it is opened.

    None for what is no WebP. Source: RFC 9649, sections 2.5 to 2.7.
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
