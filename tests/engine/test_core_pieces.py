"""Files made to cost far more than their pixels are read in a bounded number of steps, or refused.

Each is the worst known file of its kind. The engine's README has their cost in seconds, measured
once; the tests count steps only.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from compreface_engine.core import image as core_image
from compreface_engine.core.errors import BrokenImage, TooCostly, TooManyPixels
from compreface_engine.core.image import decode
from compreface_engine.core.pieces import (
    MAX_CHUNKS,
    MAX_OTHER_CHUNKS,
    MAX_READS,
    MAX_TIFF_PARTS,
    check_png_chunks,
)
from tests.engine.costly_pictures import (
    bmp_of_runs,
    gif,
    grain,
    png,
    png_chunk,
    saved,
    tiff_of_shared_strips,
    tiff_of_shared_tiles,
)

LIMIT = 178_956_970
ALL_IN_PIECES = MAX_READS + 10


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all reads of the decoders."""
    sizes: list[int] = []

    class Noted(core_image._Source):
        def read(self, size: int | None = -1, /) -> bytes:
            sizes.append(size or 0)
            return super().read(size)

        def readline(self, size: int | None = -1, /) -> bytes:
            sizes.append(size or 0)
            return super().readline(size)

    monkeypatch.setattr(core_image, "_Source", Noted)
    return sizes


PROFILE = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20), 9))
COSTLY = {
    "png, profiles that unpack": png(PROFILE * (MAX_OTHER_CHUNKS + 1)),
    "png, profiles behind the pixels": png()[:-12] + PROFILE * (MAX_OTHER_CHUNKS + 1),
    "png, texts": png(png_chunk(b"tEXt", b"a\0b") * 100_000),
    "png, image data in nothings": png(png_chunk(b"IDAT") * (MAX_CHUNKS + 1)),
    "gif, blocks of a byte": gif(b"!\xff" + b"\1a" * ALL_IN_PIECES + b"\0"),
    "gif, comments": gif(b"!\xfe\1a\0" * ALL_IN_PIECES),
    "ppm, a comment": b"P6\n#" + b"a" * ALL_IN_PIECES + b"\n8 8\n255\n" + bytes(192),
    "ppm, blanks": b"P6\n" + b" " * ALL_IN_PIECES + b"8 8\n255\n" + bytes(192),
    "xpm, lines": b"/* XPM */\n" + b"\n" * ALL_IN_PIECES,
    "im, comments": b"Image type: RGB image\r\n" + b"Comment: a\r\n" * ALL_IN_PIECES,
    "tiff, tiles of the same bytes": tiff_of_shared_tiles(MAX_TIFF_PARTS + 1),
    "tiff, tiles beyond the picture": tiff_of_shared_tiles(100, height=40_000),
    "tiff, the other byte order": tiff_of_shared_tiles(100, height=40_000, order=">"),
    "tiff, strips of the same bytes": tiff_of_shared_strips(3000, 100_000),
    "jpeg2000, many bytes": saved(grain(32, 32), "JPEG2000") + bytes(1 << 24),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_file_that_costs_more_than_its_pixels_is_refused(name: str, reads: list[int]) -> None:
    with pytest.raises(TooCostly) as refused:
        decode(COSTLY[name], max_pixels=LIMIT)
    assert len(reads) <= MAX_READS + 1
    assert len(str(refused.value)) > len("422 Unprocessable Entity: ") + 20


@pytest.mark.parametrize(
    "data",
    [
        png(PROFILE * 3, png_chunk(b"tEXt", b"a\0b") * 200),
        png(png_chunk(b"IDAT") * 20_000),
        png()[:-12] + png_chunk(b"tEXt", b"a\0b") * 200 + png_chunk(b"IEND"),
        gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 2000 + b"\0"),
        b"P6\n#" + b"a" * 5000 + b"\n8 8\n255\n" + bytes(192),
        tiff_of_shared_tiles(100),
        tiff_of_shared_tiles(100, order=">"),
        tiff_of_shared_strips(16, 1000),
        saved(grain(64, 64), "TIFF", compression="tiff_lzw"),
        saved(grain(64, 64), "JPEG2000"),
    ],
)
def test_real_files_with_many_pieces_are_decoded(data: bytes, reads: list[int]) -> None:
    assert decode(data, max_pixels=LIMIT).image.size
    assert len(reads) <= MAX_READS


@pytest.mark.parametrize("run", [b"\0\0", b"\0\2\0\0", b"\1\7"])
def test_endless_runs_are_bounded(
    run: bytes, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_image, "MAX_READS_IN_PYTHON", 20_000)
    side = 200
    whole = decode(bmp_of_runs((b"\1\7" * 30 + b"\0\0") * 30 + b"\0\1", 30), max_pixels=LIMIT)
    assert whole.image.shape == (30, 30, 3)
    with pytest.raises(TooCostly):
        decode(bmp_of_runs(run * 100_000, side), max_pixels=LIMIT)
    assert len(reads) < 25_000


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma"])
def test_rare_compressions_of_tiff_have_a_lower_pixel_limit(compression: str) -> None:
    large = saved(Pillow.new("L", (4096, 2049)), "TIFF", compression=compression)
    if compression != "lzma":
        assert decode(large, max_pixels=LIMIT).image.shape == (2049, 4096, 3)
        return
    with pytest.raises(TooManyPixels, match="8388608 pixels"):
        decode(large, max_pixels=LIMIT)
    small = saved(grain(64, 64), "TIFF", compression=compression)
    assert decode(small, max_pixels=LIMIT).image.shape == (64, 64, 3)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_modes_that_are_slow_to_convert_have_a_lower_pixel_limit(mode: str) -> None:
    with pytest.raises(TooManyPixels, match="67108864 pixels"):
        decode(tiff_of_mode(mode, 8192, 8193), max_pixels=LIMIT)
    assert decode(tiff_of_mode(mode, 64, 48), max_pixels=LIMIT).image.shape == (48, 64, 3)


def tiff_of_mode(mode: str, width: int, height: int) -> bytes:
    """A TIFF whose header declares this size, with the data of a small picture."""
    data = bytearray(saved(Pillow.new(mode, (64, 48)), "TIFF", compression="tiff_lzw"))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", data, entry)
        if tag in (256, 257):
            value = width if tag == 256 else height
            struct.pack_into("<H" if kind == 3 else "<I", data, entry + 8, value)
    return bytes(data)


def test_chunks_after_the_end_of_a_png_do_not_count() -> None:
    check_png_chunks(png() + png_chunk(b"tEXt") * 10_000)
    check_png_chunks(memoryview(png()))
    check_png_chunks(b"no PNG" + bytes(100))
    check_png_chunks(png()[:20])
    with pytest.raises(TooCostly):
        check_png_chunks(png()[:-12] + png_chunk(b"tEXt") * 10_000)


def test_a_tiff_with_invalid_sizes_is_broken() -> None:
    data = bytearray(tiff_of_shared_tiles(4))
    for tag in (322, 323, 325, 277, 284):
        at = data.find(struct.pack("<H", tag), 8)
        if at > 0:
            for value in (0, 0xFFFFFFFF):
                changed = bytearray(data)
                struct.pack_into("<I", changed, at + 8, value)
                try:
                    decoded = decode(bytes(changed), max_pixels=LIMIT)
                except (TooCostly, BrokenImage):
                    continue
                assert decoded.image.dtype == np.uint8
