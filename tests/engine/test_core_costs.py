"""The estimated memory of a picture: never less than it needs, and not much more."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

from bench import picture_memory
from compreface_engine.core import costs
from compreface_engine.core.errors import MemoryInUse
from compreface_engine.core.image import decode
from compreface_engine.core.scans import read_scans
from tests.shared import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def saved(
    kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: object
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind, **options)
    return out.getvalue()


def kept_of(data: bytes) -> float:
    return read_scans(data).kept


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *("JPEG", "JPEG, cut short", "progressive JPEG 4:2:0", "progressive JPEG 4:4:4"),
        *("progressive JPEG, CMYK", "PNG", "PNG, palette", "PNG, 16-bit grey", "TIFF, floats"),
        *("TIFF, LZW", "WebP, lossless", "JPEG 2000, alpha"),
    ],
)
def test_the_estimated_memory_is_at_least_what_decoding_needs(kind: str) -> None:
    write = picture_memory.kinds()[kind]
    pixels, used, estimated = picture_memory.measured(write(6_000_000), write(6144))
    assert pixels >= 5_900_000
    assert used <= estimated + (1 << 20)
    assert estimated < 1.5 * used + 2 * costs._BANDS


@pytest.mark.parametrize(
    ("options", "mode", "samples"),
    [
        ({}, "RGB", 0.0),
        ({}, "L", 0.0),
        ({"progressive": True}, "RGB", 1.5),
        ({"progressive": True, "subsampling": 1}, "RGB", 2.0),
        ({"progressive": True, "subsampling": 0}, "RGB", 3.0),
        ({"progressive": True}, "L", 1.0),
        ({"progressive": True}, "CMYK", 4.0),
    ],
)
def test_the_coefficients_of_a_jpeg_with_several_scans_count(
    options: dict[str, Any], mode: str, samples: float
) -> None:
    assert kept_of(saved("JPEG", mode, **options)) == samples


def test_the_coefficients_of_a_baseline_jpeg_with_a_scan_per_colour_count() -> None:
    whole = saved("JPEG", subsampling=0)
    at = whole.index(b"\xff\xda") + 4
    assert whole[at] == 3
    assert kept_of(whole[:at] + b"\1" + whole[at + 1 :]) == 3.0


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\xff",
        b"\xff\xc2",
        b"\xff\xc2\0\x0b\x08\1\0\1\0\0",
        b"\xff\xc2\0\x14\x08\1\0\1\0\4\1\0\0\2\x11\0",
        b"\xff\xe0\xff\xff",
        b"no marker" * 100,
    ],
)
def test_an_unreadable_frame_header_counts_as_the_most_expensive(rest: bytes) -> None:
    assert kept_of(b"\xff\xd8" + rest) == 4.0


def test_fill_bytes_and_garbage_between_segments_are_skipped() -> None:
    whole = saved("JPEG", progressive=True)
    assert kept_of(whole[:2] + b"garbage\xff\xff\xff\x01" + whole[2:]) == 1.5


@pytest.mark.parametrize(
    "options",
    [{"quality": 50}, {"lossless": True}, {"quality": 50, "exif": b"Exif\0\0" + b"x" * 9}],
)
def test_the_canvas_of_a_webp_is_read_from_its_header(options: dict[str, Any]) -> None:
    assert costs.webp_size(saved("WEBP", size=(317, 211), **options)) == (317, 211)


@pytest.mark.parametrize("data", [b"", b"RIFF1234WEBP", b"RIFF1234WEBPABCD" + b"x" * 30, b"x" * 40])
def test_other_data_has_no_webp_canvas(data: bytes) -> None:
    assert costs.webp_size(data) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "ICO"])
def test_no_picture_is_decoded_before_its_memory_is_reserved(kind: str) -> None:
    asked: list[int] = []

    def refuse(width: int, height: int, peak: int) -> None:
        assert (width, height) == (64, 48)
        asked.append(peak)
        raise MemoryInUse(peak)

    options: dict[str, Any] = {"sizes": [(64, 48)]} if kind == "ICO" else {}
    with pytest.raises(MemoryInUse):
        decode(saved(kind, **options), max_pixels=1 << 20, reserve=refuse)
    assert len(asked) == 1
    assert asked[0] >= 3 * 64 * 48


def test_the_memory_of_a_tiff_strip_counts() -> None:
    def peak(rows: int) -> int:
        asked: list[int] = []

        def refuse(width: int, height: int, peak: int) -> None:
            asked.append(peak)
            raise MemoryInUse(peak)

        picture = saved("TIFF", "RGB", (640, 480), compression="tiff_lzw", tiffinfo={278: rows})
        with pytest.raises(MemoryInUse):
            decode(picture, max_pixels=1 << 20, reserve=refuse)
        return asked[0]

    assert peak(480) - peak(10) == pytest.approx(470 * 640 * 3, rel=0.05)


def test_the_memory_of_a_large_tile_counts_in_a_small_tiff() -> None:
    # 64 x 48 grey pixels, LZW, in one tile of 5000 x 5000: tag, type (3: 16 bits), count, value.
    tags = {
        256: 64,
        257: 48,
        258: 8,
        259: 5,
        262: 1,
        277: 1,
        322: 5000,
        323: 5000,
        324: 200,
        325: 9,
    }
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(300)
    asked: list[int] = []

    def refuse(width: int, height: int, peak: int) -> None:
        asked.append(peak)
        raise MemoryInUse(peak)

    with pytest.raises(MemoryInUse):
        decode(data, max_pixels=1 << 20, reserve=refuse)
    assert asked[0] >= 5000 * 5000 * 8


@linux
@pytest.mark.parametrize(
    "kind", ["JPEG", "progressive", "CMYK", "PNG", "WEBP", "GIF", "BMP", "TIFF", "lzw", "JPEG2000"]
)
def test_out_of_memory_is_not_reported_as_a_broken_picture(kind: str) -> None:
    program = """
import io, resource, sys
from PIL import Image
from compreface_engine.core.image import decode
kind = sys.argv[1]
mode = "CMYK" if kind == "CMYK" else "P" if kind == "GIF" else "RGB"
options = {"progressive": {"progressive": True}, "lzw": {"compression": "tiff_lzw"}}.get(kind, {})
name = {"progressive": "JPEG", "CMYK": "JPEG", "lzw": "TIFF"}.get(kind, kind)
def saved(size):
    out = io.BytesIO()
    Image.new(mode, size).save(out, name, **options)
    return out.getvalue()
data = saved((3200, 2400))
decode(saved((64, 48)), max_pixels=1 << 30)
size = next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]
limit = int(size) * 1024 + (20 << 20) + len(data)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    decode(data, max_pixels=1 << 30)
except MemoryError:
    sys.exit(7)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, kind],
        env={"PYTHONPATH": str(ROOT / "engine")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
