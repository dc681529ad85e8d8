"""Small files that are as costly to decode as their format allows."""

from __future__ import annotations

import io
import struct
import zlib
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
    """The bytes of a JPEG without metadata before its scans, and each scan with its tables."""
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
    """A progressive JPEG whose last scan is repeated."""
    head, scans = jpeg_scans(saved(grain(32, 32, bands), "JPEG", progressive=True, quality=50))
    more = [scans[-1]] * (count - len(scans))
    return jpeg_of_size(head + b"".join(scans + more) + EOI, width, height)


def jpeg_of_sequential_scans(count: int, *, width: int = 32, height: int = 32) -> bytes:
    """A sequential JPEG with one component a scan, the last scan repeated."""
    parts = jpeg_scans(saved(grain(32, 32, 1), "JPEG", quality=50))
    head, (scan,) = parts
    (length,) = struct.unpack_from(">H", head, head.index(b"\xff\xc0") + 2)
    start = head.index(b"\xff\xc0")
    frame = segment(0xC0, struct.pack(">BHHB", 8, 32, 32, 2) + bytes((1, 0x11, 0, 2, 0x11, 0)))
    head = head[:start] + frame + head[start + 2 + length :]
    return jpeg_of_size(head + scan * count + EOI, width, height)


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, side: int = 8) -> bytes:
    """A black RGB PNG with `chunks` before its image data."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(side * (1 + 3 * side))))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + png_chunk(b"IEND")


def gif(extension: bytes) -> bytes:
    whole = saved(grain(8, 8, 1), "GIF")
    start = whole.index(b"\x2c\0\0\0\0")
    return whole[:start] + extension + whole[start:]


def tiff(tags: dict[int, tuple[str, bytes | list[int]]], data: bytes, order: str = "<") -> bytes:
    """A TIFF of one directory: `data` at byte 8, then `tags` (types B, H and I of `struct`)."""
    types = {"B": 1, "H": 3, "I": 4}
    start = 8 + len(data) + len(data) % 2
    body, entries = b"", b""
    values_at = start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        size = struct.calcsize(kind)
        raw = (
            values
            if isinstance(values, bytes)
            else struct.pack(f"{order}{len(values)}{kind}", *values)
        )
        entry = struct.pack(f"{order}HHI", tag, types[kind], len(raw) // size)
        if len(raw) > 4:
            entries += entry + struct.pack(f"{order}I", values_at + len(body))
            body += raw + bytes(len(raw) % 2)
        else:
            entries += entry + raw.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", start) + data + bytes(len(data) % 2)
    count = struct.pack(f"{order}H", len(tags))
    return head + count + entries + bytes(4) + body


def tiff_of_shared_tiles(count: int, *, height: int = 16, order: str = "<") -> bytes:
    """A row of pixels in tiles 16 wide and `height` high, which share their compressed bytes."""
    data = zlib.compress(bytes(16 * height), 9)
    return tiff(
        {
            256: ("I", [16 * count]),
            257: ("I", [1]),
            258: ("H", [8]),
            259: ("H", [8]),
            262: ("H", [1]),
            277: ("H", [1]),
            322: ("I", [16]),
            323: ("I", [height]),
            324: ("I", struct.pack(f"{order}I", 8) * count),
            325: ("I", struct.pack(f"{order}I", len(data)) * count),
        },
        data,
        order,
    )


def tiff_of_shared_strips(rows: int, comment_bytes: int) -> bytes:
    """A TIFF whose rows share one long JPEG."""
    jpeg = saved(Pillow.new("RGB", (16, 1)), "JPEG", subsampling=0)
    data = jpeg[:2] + b"\xff\xfe\0\2" * (comment_bytes // 4) + jpeg[2:]
    return tiff(
        {
            256: ("I", [16]),
            257: ("I", [rows]),
            258: ("H", [8, 8, 8]),
            259: ("H", [7]),
            262: ("H", [6]),
            277: ("H", [3]),
            278: ("I", [1]),
            530: ("H", [1, 1]),
            273: ("I", struct.pack("<I", 8) * rows),
            279: ("I", struct.pack("<I", len(data)) * rows),
        },
        data,
    )


def tiff_of_jpeg_strips(jpeg: bytes, strips: int, width: int, rows: int) -> bytes:
    """A TIFF with strips of `rows` rows, which share one JPEG of 4:2:0."""
    return tiff(
        {
            256: ("I", [width]),
            257: ("I", [rows * strips]),
            258: ("H", [8, 8, 8]),
            259: ("H", [7]),
            262: ("H", [6]),
            277: ("H", [3]),
            278: ("I", [rows]),
            530: ("H", [2, 2]),
            273: ("I", struct.pack("<I", 8) * strips),
            279: ("I", struct.pack("<I", len(jpeg)) * strips),
        },
        jpeg,
    )


def bmp_of_runs(runs: bytes, side: int = 64) -> bytes:
    """A run-length coded BMP of 8 bits a pixel."""
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + head + bytes(1024) + runs
