"""Every picture format, complete, truncated or hostile, gives RGB pixels or a clear refusal."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import features

from compreface_engine.core.errors import (
    BrokenImage,
    RequestError,
    TooManyPixels,
    TruncatedHeader,
    UnprocessableInput,
)
from compreface_engine.core.image import Decoded, decode
from compreface_engine.core.types import Image

LIMIT = 178_956_970


def _grain(height: int = 40, width: int = 60) -> Image:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def _smooth(height: int = 96, width: int = 128) -> Image:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = (rows * 255 // height, columns * 255 // width, (rows + columns) % 256)
    return np.stack(planes, axis=2).astype(np.uint8)


def _saved(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def _decode(data: bytes, **options: Any) -> Decoded:
    return decode(data, max_pixels=options.pop("max_pixels", LIMIT), **options)


def _png_of(width: int, height: int) -> bytes:
    """A header that announces `width` x `height`, and next to no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
        ("TGA", {}),
        ("JPEG2000", {"irreversible": False}),
        ("PCX", {}),
    ],
)
def test_lossless_formats_give_the_stored_pixels(kind: str, options: dict[str, Any]) -> None:
    image = _grain()
    decoded = _decode(_saved(Pillow.fromarray(image), kind, **options))
    assert np.array_equal(decoded.image, image)
    assert decoded.image.flags.c_contiguous
    assert decoded.image.dtype == np.uint8
    assert not decoded.truncated


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_pixels_are_those_of_libjpeg_turbo(options: dict[str, Any]) -> None:
    data = _saved(Pillow.fromarray(_smooth()), "JPEG", quality=90, **options)
    decoded = _decode(data)
    assert np.array_equal(decoded.image, simplejpeg.decode_jpeg(data, "RGB"))
    assert not decoded.truncated


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    decoded = _decode(_saved(Pillow.fromarray(_smooth()[..., 0]), "JPEG"))
    assert decoded.image.shape == (96, 128, 3)
    assert np.array_equal(decoded.image[..., 0], decoded.image[..., 2])


def test_a_cmyk_jpeg_shows_its_colours() -> None:
    image = _smooth()
    decoded = _decode(_saved(Pillow.fromarray(image).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(decoded.image.astype(int) - image).mean() < 4


def test_an_icon_gives_its_largest_picture() -> None:
    image = _grain(64, 64)
    data = _saved(Pillow.fromarray(image), "ICO", sizes=[(16, 16), (64, 64)])
    assert np.array_equal(_decode(data).image, image)
    data = _saved(Pillow.fromarray(image), "ICO", sizes=[(64, 64)], bitmap_format="bmp")
    assert _decode(data).image.shape == (64, 64, 3)


def test_alpha_is_dropped_and_not_composited() -> None:
    image = _grain()
    alpha = np.zeros((*image.shape[:2], 1), np.uint8)
    data = _saved(Pillow.fromarray(np.concatenate((image, alpha), axis=2)), "PNG")
    assert np.array_equal(_decode(data).image, image)


def test_grey_with_alpha_is_read_as_grey() -> None:
    grey = _grain()[..., 0]
    both = Pillow.fromarray(grey)
    both.putalpha(Pillow.new("L", both.size, 9))
    decoded = _decode(_saved(both, "PNG"))
    assert np.array_equal(decoded.image, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("transparency", [{}, {"transparency": 0}])
def test_a_palette_gives_its_colours(transparency: dict[str, int]) -> None:
    picture = Pillow.fromarray(_smooth()).quantize(64)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(_decode(_saved(picture, "PNG", **transparency)).image, expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte(kind: str) -> None:
    deep = (_grain()[..., 0].astype(np.uint16) << 8) | 0x3C
    decoded = _decode(_saved(Pillow.fromarray(deep), kind))
    assert np.array_equal(decoded.image[..., 1], deep >> 8)


def test_sixteen_bit_grey_of_the_other_byte_order_is_the_same_picture() -> None:
    deep = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
    data = bytearray(_saved(Pillow.fromarray(deep), "TIFF"))
    little = _decode(bytes(data)).image
    swapped = Pillow.frombytes("I;16B", (30, 20), deep.astype(">u2").tobytes())
    assert np.array_equal(_decode(_saved(swapped, "TIFF")).image, little)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.linspace(0, 1, 12, dtype=np.float32), np.linspace(0, 255, 12).astype(int)),
        (np.linspace(0, 255, 12, dtype=np.float32), np.linspace(0, 255, 12).astype(int)),
        (np.array([0, 256, 65280, 65535] * 3, np.int32), [0, 1, 255, 255] * 3),
        (np.array([0, 1 << 20] * 6, np.int32), [0, 255] * 6),
        (np.array([-5, 0, 7, np.nan] * 3, np.float32), [0, 0, 7, 0] * 3),
    ],
)
def test_deep_grey_of_any_range_is_scaled_to_eight_bits(
    samples: np.ndarray[Any, Any], expected: Any
) -> None:
    decoded = _decode(_saved(Pillow.fromarray(samples.reshape(3, 4)), "TIFF"))
    assert np.abs(decoded.image[..., 0].ravel().astype(int) - expected).max() <= 1


def test_one_bit_pictures_are_as_dark_as_in_the_original() -> None:
    decoded = _decode(_saved(Pillow.new("1", (9, 7), 1), "PNG"))
    assert np.unique(decoded.image).tolist() == [1]


def test_other_colour_spaces_become_rgb() -> None:
    picture = Pillow.fromarray(_smooth()).convert("LAB")
    assert _decode(_saved(picture, "TIFF")).image.shape == (96, 128, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_decoded(kind: str) -> None:
    frames = [Pillow.new("RGB", (20, 10), colour) for colour in ("#ff0000", "#0000ff")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = _saved(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    assert _decode(data).image[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"This is no picture.",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        bytes(range(256)) * 8,
        b"\xff\xd8\xff",
        _png_of(0, 0),
    ],
    ids=["empty", "text", "svg", "pdf", "eps", "bytes", "jpeg-mark", "no-pixels"],
)
def test_other_data_is_refused_with_the_contracts_text(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        _decode(data)
    if data != b"\xff\xd8\xff":
        assert isinstance(caught.value, BrokenImage)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif_is_refused_as_by_the_original() -> None:
    with pytest.raises(BrokenImage):
        _decode(_saved(Pillow.fromarray(_smooth()), "AVIF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "GIF"])
def test_a_truncated_picture_is_decoded_as_far_as_it_goes_and_flagged(kind: str) -> None:
    image = _grain(200, 200)
    options = {"quality": 95} if kind == "JPEG" else {}
    data = _saved(Pillow.fromarray(image), kind, **options)
    whole = _decode(data)
    cut = _decode(data[: len(data) * 6 // 10])
    assert not whole.truncated
    assert cut.truncated
    assert cut.image.shape == whole.image.shape
    same = (cut.image == whole.image).all(axis=2).mean()  # BMP begins below, GIF is interlaced
    assert 0.4 < same < 0.9


@pytest.mark.parametrize("side", [1200, 3000], ids=["from-the-heap", "of-its-own"])
def test_a_truncated_jpeg_shows_no_pixels_of_an_earlier_picture(side: int) -> None:
    white = _saved(Pillow.new("RGB", (side, side), "white"), "JPEG")
    black = _saved(Pillow.new("RGB", (side, side)), "JPEG")
    for _ in range(3):
        _decode(white)
        cut = _decode(black[: len(black) // 2])
        assert cut.truncated
        assert cut.image.max() < 200


def test_a_jpeg_truncated_in_its_header_is_422() -> None:
    data = _saved(Pillow.fromarray(_smooth()), "JPEG")
    with pytest.raises(TruncatedHeader) as caught:
        _decode(data[:150])
    assert isinstance(caught.value, UnprocessableInput)


def test_a_jpeg_with_stray_bytes_is_decoded() -> None:
    data = bytearray(_saved(Pillow.fromarray(_grain(200, 200)), "JPEG", quality=95))
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\x01"
    assert _decode(bytes(data)).image.shape == (200, 200, 3)


@pytest.mark.parametrize("side", [20_000, 70_000])
def test_a_decompression_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(TooManyPixels, match=f"{side * side} pixels"):
        _decode(_png_of(side, side))


def test_the_pixel_limit_counts_for_jpeg_and_is_inclusive() -> None:
    data = _saved(Pillow.fromarray(_smooth(10, 20)), "JPEG")
    assert _decode(data, max_pixels=200).image.shape == (10, 20, 3)
    with pytest.raises(TooManyPixels):
        _decode(data, max_pixels=199)


def _slow(kind: str, side: int) -> bytes:
    """A picture whose decoder holds others up: few bytes, many pixels; whole for a side of 10."""
    if kind == "ppm":  # 254 levels are counted one by one
        return b"P6 %d %d 254 " % (side, side) + bytes(300)
    if kind == "bmp-rle":
        body = b"\x0a\0\0\0" * 10 + b"\0\1"
        sizes = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0)
        return b"BM" + struct.pack("<IHHI", 1080, 0, 0, 1078) + sizes + bytes(1024) + body
    return _saved(Pillow.new("L", (side, side)), kind)


@pytest.mark.parametrize(
    ("kind", "small", "large"),
    [("JPEG2000", 2896, 2897), ("ppm", 10, 1449), ("bmp-rle", 10, 1449)],
)
def test_costly_formats_have_a_lower_pixel_limit(kind: str, small: int, large: int) -> None:
    assert _decode(_slow(kind, small)).image.shape == (small, small, 3)
    with pytest.raises(TooManyPixels, match=f"{large * large} pixels"):
        _decode(_slow(kind, large))


def test_a_large_picture_of_a_common_format_is_within_all_limits() -> None:
    assert _decode(_png_of(6000, 4000)).image.shape == (4000, 6000, 3)


@pytest.mark.parametrize("data", [b"P1 1 1 0", b"P2 1 1 255 7", b"P3 1 1 255 7 7 7"])
def test_plain_ppm_is_refused_as_by_the_original(data: bytes) -> None:
    with pytest.raises(BrokenImage):
        _decode(data)


_MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I", "F", "CMYK"]


def _in_mode(mode: str) -> bytes:
    picture = Pillow.fromarray(_smooth())
    if mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        picture = Pillow.fromarray(_smooth()[..., 0].astype(kind) * 200)
    return _saved(picture if picture.mode == mode else picture.convert(mode), "TIFF")


@pytest.mark.parametrize("mode", _MODES)
def test_bands_give_the_whole_picture(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _decode(_in_mode(mode)).image
    monkeypatch.setattr("compreface_engine.core.image._BAND", 128 * 7)
    assert np.array_equal(_decode(_in_mode(mode)).image, whole)
    assert len(np.unique(whole)) > 1


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "F"])
def test_decoding_holds_no_second_copy_of_the_picture(mode: str) -> None:
    data = _saved(Pillow.new(mode, (2000, 1500)), "TIFF", compression="tiff_lzw")
    tracemalloc.start()
    try:
        image = _decode(data).image
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert image.nbytes < peak < image.nbytes * 1.9


def test_a_bomb_inside_an_icon_is_refused() -> None:
    inner = _png_of(20_000, 20_000)
    directory = struct.pack("<HHH", 0, 1, 1)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    with pytest.raises(TooManyPixels):
        _decode(directory + entry + inner)


_TAGS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotates_the_picture_only_when_configured(kind: str, orientation: int) -> None:
    upright = _smooth()
    stored = np.ascontiguousarray(_TAGS[orientation](upright))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    data = _saved(Pillow.fromarray(stored), kind, exif=exif, **options)
    assert _decode(data).image.shape == stored.shape
    turned = _decode(data, apply_exif=True).image
    assert turned.shape == upright.shape
    assert np.abs(turned.astype(int) - upright).mean() < 4
    assert turned.flags.c_contiguous


def test_broken_exif_is_ignored() -> None:
    data = _saved(Pillow.fromarray(_smooth()), "JPEG", exif=b"Exif\0\0garbage of no tag")
    assert _decode(data, apply_exif=True).image.shape == (96, 128, 3)


def test_an_invalid_orientation_is_ignored() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 77
    data = _saved(Pillow.fromarray(_smooth()), "JPEG", exif=exif)
    assert _decode(data, apply_exif=True).image.shape == (96, 128, 3)


def test_a_memoryview_is_decoded() -> None:
    for kind in ("JPEG", "PNG"):
        data = _saved(Pillow.fromarray(_smooth()), kind)
        assert np.array_equal(_decode(data).image, decode(memoryview(data), max_pixels=LIMIT).image)


def test_threads_decode_in_parallel() -> None:
    kinds = ["JPEG", "PNG", "GIF", "TIFF", "WEBP"] * 8
    files = {kind: _saved(Pillow.fromarray(_grain(90, 70)), kind) for kind in kinds}
    alone = {kind: _decode(data).image for kind, data in files.items()}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda kind: _decode(files[kind]).image, kinds))
    assert all(
        np.array_equal(image, alone[kind]) for kind, image in zip(kinds, together, strict=True)
    )


_SEEDS = [
    _saved(Pillow.fromarray(_grain(24, 24)), kind)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "ICO", "TGA", "PPM", "JPEG2000")
]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(_SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    keep=st.integers(0, 4000),
)
def test_damaged_files_give_pixels_or_a_request_error(
    seed: bytes, changes: list[tuple[int, int]], keep: int
) -> None:
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    try:
        decoded = _decode(bytes(data[:keep]), max_pixels=1_000_000, apply_exif=True)
    except RequestError:
        return
    assert decoded.image.ndim == 3
    assert decoded.image.shape[2] == 3
    assert decoded.image.dtype == np.uint8
