"""Into how many pieces a picture may be cut: each piece costs time, and may hide a large result."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import TooCostly

MAX_CHUNKS: Final = 1 << 16
"""Of a PNG: as many of libpng's 8 KiB hold eight times the largest body that is accepted."""
MAX_OTHER_CHUNKS: Final = 512
"""Of a PNG, without image data. Each may hold a colour profile that unpacks to 1 MiB in 3 ms."""
MAX_TIFF_PARTS: Final = 1 << 18
"""Strips or tiles of a TIFF: one for each row of three planes of 65 535 rows."""
MAX_PARTS_BYTES: Final = 1 << 28
"""That all parts of a TIFF are said to hold together: they may all be the same bytes."""
MAX_BEYOND: Final = 1 << 25
"""Pixels of a TIFF's tiles beyond its right and lower edge, decoded too: more than those of
13 000 by 13 000 pixels in tiles of 1024."""
MAX_READS: Final = 1 << 16
"""Calls of a decoder in Python for more data while it reads a header; a photograph's needs 100."""
MAX_READS_IN_PYTHON: Final = 3 << 21
"""The same for pixels that are decoded in Python: two for each of 2 megapixels, and some more."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PLANES, _SAMPLES = 284, 277
_ROWS, _STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES = 278, 273, 279, 324, 325
_NUMPY: Final = {3: "u2", 4: "u4", 16: "u8"}  # TIFF's types of whole numbers


def check_chunks(data: bytes | memoryview) -> None:
    """Raises TooCostly for a PNG of more chunks than any encoder writes; else does nothing."""
    if data[:8] != _PNG:
        return
    at, chunks, others = 8, 0, 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks += 1
        others += kind != b"IDAT"
        if chunks > MAX_CHUNKS or others > MAX_OTHER_CHUNKS:
            raise TooCostly(
                f"The PNG has more than {MAX_CHUNKS} chunks, or more than {MAX_OTHER_CHUNKS} "
                "that are no image data"
            )
        if kind == b"IEND":
            return
        at += 12 + length


class Directory(Protocol):
    """What Pillow has read of a TIFF's first directory: bytes of a tag, and their type."""

    prefix: Any
    tagtype: dict[int, int]
    _tagdata: dict[int, bytes]


def check_parts(directory: Directory, width: int, height: int) -> None:
    """Raises TooCostly for strips or tiles that make a TIFF cost more than its pixels.

    These are too many of them, tiles that reach far beyond the picture, and parts that are said to
    hold more bytes than any file that is accepted: the same bytes again and again.
    """
    tile = _first(directory, _TILE_WIDTH, 0), _first(directory, _TILE_HEIGHT, 0)
    tiled = min(tile) > 0
    part = tile if tiled else (width, max(1, min(height, _first(directory, _ROWS, height))))
    across, down = -(-width // part[0]), -(-height // part[1])
    planes = _first(directory, _SAMPLES, 1) if _first(directory, _PLANES, 1) == 2 else 1
    parts = across * down * planes
    if parts > MAX_TIFF_PARTS:
        raise TooCostly(f"The TIFF has {parts} strips or tiles, at most {MAX_TIFF_PARTS} are read")
    said = _sum(directory, _TILE_SIZES if tiled else _STRIP_SIZES)
    if said > MAX_PARTS_BYTES:
        raise TooCostly(
            f"The strips or tiles of the TIFF are said to hold {said} bytes, "
            f"at most {MAX_PARTS_BYTES} are read"
        )
    beyond = across * part[0] * down * part[1] - width * height
    if tiled and beyond > MAX_BEYOND:
        raise TooCostly(
            f"The tiles of the TIFF hold {beyond} pixels beyond the picture, "
            f"at most {MAX_BEYOND} are decoded"
        )


def places(directory: Directory) -> dict[tuple[int, int], int]:
    """(offset, bytes) of each strip or tile of a TIFF, and how many of them are the same."""
    tiled = min(_first(directory, _TILE_WIDTH, 0), _first(directory, _TILE_HEIGHT, 0)) > 0
    offsets = _numbers(directory, _TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    sizes = _numbers(directory, _TILE_SIZES if tiled else _STRIP_SIZES)
    return Counter(zip(map(int, offsets), map(int, sizes), strict=False))


def _numbers(directory: Directory, tag: int) -> NDArray[Any]:
    kind = _NUMPY.get(directory.tagtype.get(tag, 0), "u1")
    order = ">" if directory.prefix == b"MM" else "<"
    data = directory._tagdata.get(tag, b"")
    return np.frombuffer(data, order + kind, len(data) // np.dtype(kind).itemsize)


def _first(directory: Directory, tag: int, default: int) -> int:
    numbers = _numbers(directory, tag)
    return int(numbers[0]) if len(numbers) else default


def _sum(directory: Directory, tag: int) -> int:
    return int(_numbers(directory, tag).sum(dtype=np.float64))
