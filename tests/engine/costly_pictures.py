"""Small files made to be as costly to decode as their format allows, built in code."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image as Pillow

SOS = b"\xff\xda"
EOI = b"\xff\xd9"


def saved(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def grain(height: int, width: int, bands: int = 3) -> Pillow.Image:
    shape = (height, width, bands) if bands > 1 else (height, width)
    values = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    return Pillow.fromarray(values, {1: "L", 3: "RGB", 4: "CMYK"}[bands])


def segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def jpeg_scans(jpeg: bytes) -> tuple[bytes, list[bytes]]:
    """A JPEG without metadata as what stands before its scans, and each scan with its tables."""
    at, tables, scans, head = 2, b"", [], b""
    while jpeg[at : at + 2] != EOI:
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        end = at + 2 + length
        if jpeg[at : at + 2] == SOS:
            while jpeg[end] != 0xFF or jpeg[end + 1] in (0, *range(0xD0, 0xD8)):
                end += 1
            scans.append(tables + jpeg[at:end])
            tables = b""
        elif scans:
            tables += jpeg[at:end]
        else:
            head += jpeg[at:end]
        at = end
    return jpeg[:2] + head, scans


def jpeg_of_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same coded data under a header that says another size."""
    at = next(i for i in range(len(jpeg)) if jpeg[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def jpeg_of_scans(count: int, *, width: int = 32, height: int = 32, bands: int = 1) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    head, scans = jpeg_scans(saved(grain(32, 32, bands), "JPEG", progressive=True, quality=50))
    more = [scans[-1]] * (count - len(scans))
    return jpeg_of_size(head + b"".join(scans + more) + EOI, width, height)


def jpeg_of_sequential_scans(count: int, *, width: int = 32, height: int = 32) -> bytes:
    """A sequential JPEG, one component a scan, the last again and again."""
    parts = jpeg_scans(saved(grain(32, 32, 1), "JPEG", quality=50))
    head, (scan,) = parts
    (length,) = struct.unpack_from(">H", head, head.index(b"\xff\xc0") + 2)
    start = head.index(b"\xff\xc0")
    frame = segment(0xC0, struct.pack(">BHHB", 8, 32, 32, 2) + bytes((1, 0x11, 0, 2, 0x11, 0)))
    head = head[:start] + frame + head[start + 2 + length :]
    return jpeg_of_size(head + scan * count + EOI, width, height)
