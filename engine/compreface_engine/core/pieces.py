"""Limits on the chunks of a PNG and the strips and tiles of a TIFF, each of which costs time."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import TooCostly

MAX_CHUNKS: Final = 1 << 16
"""Chunks of a PNG. In libpng's 8 KiB they would hold eight times the largest accepted body."""
MAX_OTHER_CHUNKS: Final = 512
"""Chunks of a PNG without image data. A colour profile in one may unpack to 1 MiB in 3 ms."""
MAX_TIFF_PARTS: Final = 1 << 18
"""Strips or tiles of a TIFF: one for each row of three planes of 65 535 rows."""
MAX_TIFF_BYTES: Final = 1 << 28
"""Bytes of all strips or tiles of a TIFF by their declared sizes, since all may share the same."""
MAX_BEYOND: Final = 1 << 25
"""Pixels of a TIFF's tiles beyond its right and lower edge, which are decoded too: more than a
picture of 13 000 by 13 000 pixels has in tiles of 1024."""
MAX_READS: Final = 1 << 16
"""Reads of a decoder in Python in a header; a photograph's header takes about 100."""
MAX_READS_IN_PYTHON: Final = 3 << 21
"""Reads of a decoder in Python for pixels: a little over two for each of 2 megapixels."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PLANES, _SAMPLES = 284, 277
_ROWS, _STRIP_OFFSETS, _STRIP_SIZES, _TILE_OFFSETS, _TILE_SIZES = 278, 273, 279, 324, 325
_NUMPY: Final = {3: "u2", 4: "u4", 16: "u8"}  # TIFF's types of whole numbers


def check_png_chunks(data: bytes | memoryview) -> None:
    """Raises TooCostly for a PNG with more chunks than any encoder writes."""
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
                "without image data"
            )
        if kind == b"IEND":
            return
        at += 12 + length


class Directory(Protocol):
    """A TIFF's first directory as Pillow reads it: the bytes and type of each tag."""

    prefix: Any
    tagtype: dict[int, int]
    _tagdata: dict[int, bytes]


def check_tiff_parts(directory: Directory, width: int, height: int) -> None:
    """Raises TooCostly for strips or tiles that cost far more than the picture's pixels.

    There may be too many of them, tiles may reach far beyond the picture, or their declared sizes
    may exceed any accepted file because they share the same bytes.
    """
    tile = _first(directory, _TILE_WIDTH, 0), _first(directory, _TILE_HEIGHT, 0)
    tiled = min(tile) > 0
    part = tile if tiled else (width, max(1, min(height, _first(directory, _ROWS, height))))
    across, down = -(-width // part[0]), -(-height // part[1])
    planes = _first(directory, _SAMPLES, 1) if _first(directory, _PLANES, 1) == 2 else 1
    parts = across * down * planes
    if parts > MAX_TIFF_PARTS:
        raise TooCostly(f"The TIFF has {parts} strips or tiles, at most {MAX_TIFF_PARTS} are read")
    declared = _sum(directory, _TILE_SIZES if tiled else _STRIP_SIZES)
    if declared > MAX_TIFF_BYTES:
        raise TooCostly(
            f"The strips or tiles of the TIFF declare {declared} bytes, "
            f"at most {MAX_TIFF_BYTES} are read"
        )
    beyond = across * part[0] * down * part[1] - width * height
    if tiled and beyond > MAX_BEYOND:
        raise TooCostly(
            f"The tiles of the TIFF hold {beyond} pixels beyond the picture, "
            f"at most {MAX_BEYOND} are decoded"
        )


def tiff_part_counts(directory: Directory) -> dict[tuple[int, int], int]:
    """The (offset, bytes) of each strip or tile of a TIFF, and how many share it."""
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
