"""The scans of a JPEG are counted as libjpeg-turbo reads them, and bounded before decoding."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image as Pillow

from compreface_engine.core.errors import TooCostly, TooManyPixels
from compreface_engine.core.image import Decoded, decode
from compreface_engine.core.scans import MAX_SCANS, MAX_SEGMENTS, check_scans, read_scans
from tests.engine.costly_pictures import (
    EOI,
    grain,
    jpeg_of_scans,
    jpeg_of_sequential_scans,
    jpeg_of_size,
    jpeg_scans,
    saved,
    segment,
    tiff_of_jpeg_strips,
)

LIMIT = 178_956_970
PHOTOGRAPH = saved(grain(48, 64), "JPEG", progressive=True)
SOS_LOOKALIKE = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


def _decode(data: bytes, **options: Any) -> Decoded:
    return decode(data, max_pixels=LIMIT, **options)


@pytest.mark.parametrize(
    ("mode", "options", "scans", "components"),
    [
        ("RGB", {}, 1, 3),
        ("L", {}, 1, 1),
        ("RGB", {"progressive": True}, 10, 14),
        ("L", {"progressive": True}, 6, 6),
        ("CMYK", {"progressive": True}, 18, 24),
        ("RGB", {"restart_marker_blocks": 1}, 1, 3),
        ("RGB", {"progressive": True, "restart_marker_blocks": 1}, 10, 14),
        ("RGB", {"icc_profile": SOS_LOOKALIKE * 20_000, "comment": SOS_LOOKALIKE}, 1, 3),
        ("RGB", {"exif": b"Exif\0\0" + PHOTOGRAPH}, 1, 3),
    ],
    ids=str,
)
def test_the_scans_of_encoders_files_are_counted(
    mode: str, options: dict[str, Any], scans: int, components: int
) -> None:
    read = check_scans(saved(grain(48, 64).convert(mode), "JPEG", **options))
    pixels = 48 * 64
    assert (read.count, read.passed, read.pixels) == (scans, components * pixels, pixels)


@pytest.mark.parametrize("behind", [PHOTOGRAPH, SOS_LOOKALIKE * 500, b"\xff\xda", b"\xff"])
def test_bytes_after_the_end_do_not_count(behind: bytes) -> None:
    assert check_scans(PHOTOGRAPH + behind).count == 10
    assert check_scans(memoryview(PHOTOGRAPH + behind)).count == 10


BETWEEN = {
    "fill bytes": b"\xff" * 70_000,
    "garbage": b"\x12\x34" * 40_000,
    "stuffed bytes": b"\xff\x00" * 40_000,
    "restarts": b"\xff\xd3" * 9,
    "a restart's look": b"\xff\xd0\xff\xda"[:2] + b"\xff\x01",
    "a comment that hides": segment(0xFE, SOS_LOOKALIKE * 50),
    "a segment without a body": b"\xff\xfe\x00\x02",
    "a length of nothing": b"\xff\xfe\x00\x00",
    "a thumbnail": segment(0xE1, b"Exif\0\0" + PHOTOGRAPH[:20_000]),
    "tables": segment(0xDB, bytes(65)),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_bytes_between_scans_cannot_hide_a_scan_that_the_decoder_reads(name: str) -> None:
    head, scans = jpeg_scans(PHOTOGRAPH)
    assert len(scans) == 10
    between = BETWEEN[name]
    tricked = head + scans[0] + b"".join(between + scan for scan in scans[1:]) + between + EOI
    with Pillow.open(io.BytesIO(tricked)) as picture:
        seen = np.asarray(picture)
    whole = np.asarray(_decode(PHOTOGRAPH).image)
    if name != "tables":  # those of later scans are another picture, and as many scans
        assert (seen == whole).all(), "the decoder came to the last scan"
    assert read_scans(tricked).count == 10
    assert read_scans(tricked + PHOTOGRAPH).count == 10


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_too_many_scans_are_refused_with_their_number(bands: int) -> None:
    assert _decode(jpeg_of_scans(MAX_SCANS, bands=bands)).image.shape == (32, 32, 3)
    with pytest.raises(TooCostly) as refused:
        _decode(jpeg_of_scans(MAX_SCANS + 1, bands=bands))
    assert "101 scans" in str(refused.value)


def test_the_scans_of_a_sequential_jpeg_count() -> None:
    with pytest.raises(TooCostly, match="3000 scans"):
        _decode(jpeg_of_sequential_scans(3000, width=13_000, height=13_000))


def test_scans_beyond_the_segment_limit_are_refused_as_scans() -> None:
    with pytest.raises(TooCostly, match="100 scans"):
        _decode(jpeg_of_scans(10_000, width=13_000, height=13_000))


def test_the_samples_of_all_scans_are_bounded() -> None:
    with pytest.raises(TooCostly, match="60 scans"):
        check_scans(jpeg_of_scans(60, bands=3, width=13_000, height=13_000))


def arithmetic(jpeg: bytes, restart: int) -> bytes:
    """The markers of a progressive JPEG as if it were arithmetic-coded, with restarts."""
    interval = segment(0xDD, struct.pack(">H", restart)) if restart else b""
    return jpeg[:2] + interval + jpeg[2:].replace(b"\xff\xc2", b"\xff\xca", 1)


@pytest.mark.parametrize(("restart", "times"), [(0, 2.0), (1, 9.0), (4, 3.75), (64, 2.109375)])
def test_samples_in_arithmetic_coding_have_a_higher_weight(restart: int, times: float) -> None:
    plain = jpeg_of_scans(12)
    assert read_scans(plain).passed == 12 * 32 * 32
    coded = read_scans(arithmetic(plain, restart))
    assert coded.passed == pytest.approx(times * 12 * 32 * 32)
    assert coded.count == 12


def test_a_small_file_of_arithmetic_restarts_is_refused() -> None:
    data = arithmetic(jpeg_of_scans(33, width=13_000, height=13_000), 1)
    with pytest.raises(TooCostly, match="33 scans"):
        _decode(data)
    # Ten scans, as an encoder makes, without them.
    assert check_scans(arithmetic(jpeg_of_scans(10, width=13_000, height=13_000), 0)).count == 10


def test_the_scans_of_jpegs_inside_a_tiff_count_as_often_as_they_are_decoded() -> None:
    """All strips are the same bytes."""
    small = tiff_of_jpeg_strips(jpeg_of_scans(10, bands=3), 2, 32, 32)
    assert _decode(small).image.shape == (64, 32, 3)
    width, rows = 13_000, 1_600
    for strips, scans, cause in (
        (1, 101, "101 scans"),
        (8, 60, "TIFF"),
    ):
        jpeg = jpeg_of_scans(scans, bands=3, width=width, height=rows)
        with pytest.raises(TooCostly, match=cause):
            _decode(tiff_of_jpeg_strips(jpeg, strips, width, rows))


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_largest_allowed_picture_may_be_progressive(bands: int) -> None:
    scans = jpeg_of_size(saved(grain(32, 32, bands), "JPEG", progressive=True), 13_377, 13_377)
    assert check_scans(scans).pixels == 13_377 * 13_377 <= LIMIT


def test_the_pixel_limit_uses_the_decoded_frame_header() -> None:
    data = jpeg_of_scans(11, width=20_000, height=20_000)
    with pytest.raises(TooManyPixels):
        _decode(data)


def test_a_jpeg_of_segments_alone_is_refused() -> None:
    empty = b"\xff\xd8" + b"\xff\xfe\x00\x02" * (MAX_SEGMENTS + 1)
    with pytest.raises(TooCostly, match="4096 segments"):
        _decode(empty)


def test_a_long_header_is_refused_only_where_pillow_would_read_it() -> None:
    block = segment(0xE5, bytes(65_000))
    whole = saved(grain(32, 32), "JPEG")
    assert _decode(whole[:2] + block * 140 + whole[2:]).image.shape == (32, 32, 3)
    inks = saved(grain(32, 32, 4), "JPEG")
    assert _decode(inks[:2] + block * 100 + inks[2:]).image.shape == (32, 32, 3)
    with pytest.raises(TooCostly, match="bytes"):
        _decode(inks[:2] + block * 140 + inks[2:])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_damaged_file_is_decoded_once(progressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    decode_jpeg, opened = simplejpeg.decode_jpeg, Pillow.open

    def counted(*args: Any, **options: Any) -> Any:
        calls.append("turbo")
        return decode_jpeg(*args, **options)

    def noted(*args: Any, **options: Any) -> Any:
        calls.append("pillow")
        return opened(*args, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    monkeypatch.setattr(Pillow, "open", noted)
    whole = saved(grain(48, 64), "JPEG", progressive=progressive)
    cut = _decode(whole[: len(whole) * 2 // 3])
    assert cut.truncated
    stray = _decode(whole.replace(EOI, b"stray" + EOI))
    assert not stray.truncated
    assert calls == ["turbo", "turbo"]
    monkeypatch.undo()
    for decoded, data in ((cut, whole[: len(whole) * 2 // 3]), (stray, whole)):
        assert (decoded.image == decode_jpeg(data, "RGB", strict=False)).all()


def test_a_warning_about_the_header_leaves_no_memory_unwritten() -> None:
    whole = saved(grain(48, 64), "JPEG")
    start = whole.index(b"\xff\xdb")
    stray = whole[:start] + b"stray" + whole[start:]
    with pytest.raises(ValueError, match="5 extraneous bytes"):
        simplejpeg.decode_jpeg(stray, "RGB")
    assert (_decode(stray).image == _decode(whole).image).all()


def test_a_damaged_picture_shows_no_pixels_of_another() -> None:
    side = 2500
    secret = saved(Pillow.new("RGB", (side, side), "red"), "JPEG")
    dark = saved(Pillow.new("RGB", (side, side), "black"), "JPEG", progressive=True)
    for cut in (700, len(dark) // 2, len(dark) - 3):
        assert _decode(secret).image[0, 0, 0] > 200
        decoded = _decode(dark[:cut])
        assert decoded.truncated
        alone = simplejpeg.decode_jpeg(dark[:cut], "RGB", strict=False)
        assert (decoded.image == alone).all()


def test_the_orientation_is_that_of_the_first_exif_segment() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    turned = saved(grain(48, 64), "JPEG", exif=exif)
    many = turned[:2] + segment(0xE0, b"JFIF\0") + turned[2:20]
    assert _decode(turned, apply_exif=True).image.shape == (64, 48, 3)
    later = saved(grain(48, 64), "JPEG", exif=Pillow.Exif())
    start = turned.index(b"\xff\xe1")
    (length,) = struct.unpack_from(">H", turned, start + 2)
    exif_segment = turned[start : start + 2 + length]
    joined = later[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + exif_segment * 3 + later[2:]
    assert _decode(joined, apply_exif=True).image.shape == (64, 48, 3)
    assert many  # a header that ends early has no orientation
    assert read_scans(many).exif == slice(0)


def test_counting_ends_for_any_bytes() -> None:
    values = np.random.default_rng(3).integers(0, 256, 2_000_000, np.uint8).tobytes()
    try:
        read_scans(b"\xff\xd8" + values)
    except TooCostly:
        pass
    long = io.BytesIO(b"\xff\xd8" + b"\xff\x00" * 3_000_000).getvalue()
    assert read_scans(long).count == 0
