"""The cost of decoding a JPEG, counted from the markers of its scans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from compreface_engine.core.errors import TooCostly

MAX_SCANS: Final = 100
"""libjpeg's own progression has 10 (18 for CMYK), mozjpeg's search ends with fewer than 20; one
scan for each bit of each component would be 60. libtiff's limit is 100 too."""
MAX_PASSED: Final = 6_000_000_000
"""Samples of all scans together, empty ones included: 33 for each of 179 million pixels, where
libjpeg's own progression has 14 (24 for CMYK). One Zen 4 core decodes them in 2.4 s."""
_ARITHMETIC: Final = 2.0
_RESTARTED: Final = 7.0
"""The weight of a sample in arithmetic coding, and what a restart after each block adds. A sample
takes a Zen 4 core 0.4 ns in Huffman coding and 0.7 in arithmetic coding, there with a restart
every 64, 4 and 1 blocks 1.0, 1.5 and 3.5."""
MAX_SEGMENTS: Final = 4096
"""In segments of 64 KiB they would hold 256 MiB."""

# The marker that ends a run of coded samples. FF 00 is a sample, FF D0 to FF D7 a restart between
# samples, and FF before any of these a fill byte.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WINDOW: Final = 1 << 20  # bytes searched before other threads can run
_SOF: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SOF_ARITHMETIC: Final = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC5, 0xC9, 0xCD})
_SOI, _EOI, _SOS, _DRI, _APP1 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1
_FIRST_WITH_LENGTH: Final = 0xC0


@dataclass(frozen=True, slots=True)
class Scans:
    """The scans of a JPEG: their `count`, and `passed`, the weighted number of their samples.

    `pixels` are those of the first frame header, 0 without one. `header` is the number of bytes
    before the first scan, `exif` the place of the first EXIF segment in them. `kept` is the number
    of coefficients of 16 bits that libjpeg keeps for each pixel until the last scan: 0 where one
    scan has all colours, 4, the maximum, where it is unknown.
    """

    count: int
    passed: float
    pixels: int
    header: int
    exif: slice
    kept: float


def read_scans(data: bytes | memoryview) -> Scans:
    """The scans of the first picture in `data`, a JPEG, as libjpeg-turbo would read them.

    It goes from marker to marker and skips the segments between them, so the scans of thumbnails
    and of later pictures do not count. Where libjpeg-turbo would give up, it may count a few more
    scans than are decoded, never fewer. Raises TooCostly above MAX_SEGMENTS.
    """
    at, segments, count, components, pixels, header = 2, 0, 0, 0.0, 0, len(data)
    restart = 0
    exif = slice(0)
    frame = _UNREADABLE
    kept = frame.samples
    while (marker := _next_marker(data, at)) is not None:
        kind, at = data[marker + 1], marker + 2
        if kind in (_SOI, _EOI):
            break
        if kind < _FIRST_WITH_LENGTH:
            continue
        segments += 1
        if segments > MAX_SEGMENTS:
            limit = f"{MAX_SCANS} scans" if count > MAX_SCANS else f"{MAX_SEGMENTS} segments"
            raise TooCostly(f"The JPEG has more than {limit}")
        if kind == _SOS:
            colours = _number(data, at + 2, 1)
            if not count:
                header = marker
                kept = frame.samples if frame.buffered or colours < frame.components else 0.0
            count += 1
            components += max(1, min(4, colours)) * _weight(frame, restart)
        elif kind in _SOF and not pixels:
            pixels = _number(data, at + 3, 2) * _number(data, at + 5, 2)
            frame = _frame(data, at, kind)
        elif kind == _DRI:
            restart = _number(data, at + 2, 2)
        elif kind == _APP1 and not exif.stop and bytes(data[at + 2 : at + 8]) == b"Exif\0\0":
            exif = slice(at + 2, at + _number(data, at, 2))
        at += max(2, _number(data, at, 2))
    return Scans(count, components * pixels, pixels, header, exif, kept)


def check_scans(data: bytes | memoryview) -> Scans:
    """The scans of a JPEG. Raises TooCostly for more than any camera or encoder writes."""
    scans = read_scans(data)
    if scans.count > MAX_SCANS:
        raise TooCostly(f"The JPEG has {scans.count} scans, at most {MAX_SCANS} are decoded")
    if scans.passed > MAX_PASSED:
        raise TooCostly(
            f"The JPEG has {scans.count} scans of {scans.pixels} pixels, which count as "
            f"{scans.passed:.0f} samples; at most {MAX_PASSED} are decoded"
        )
    return scans


def check_jpeg_parts(data: bytes | memoryview, parts: Mapping[tuple[int, int], int]) -> float:
    """The coefficients that libjpeg keeps for all pixels of the largest of several JPEGs.

    `parts` are the (offset, bytes) of each in `data` and how often it is decoded, since strips of
    a TIFF may share one. Together they are limited like one JPEG; raises TooCostly above that.
    """
    passed, kept = 0.0, 0.0
    for (offset, size), times in parts.items():
        scans = check_scans(data[offset : offset + size])
        passed += scans.passed * times
        kept = max(kept, scans.kept * scans.pixels)
        if passed > MAX_PASSED:
            raise TooCostly(
                "The scans of all strips or tiles of the TIFF count as more than "
                f"{MAX_PASSED} samples"
            )
    return kept


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame header: `samples` a pixel of all components together.

    `buffered`: libjpeg keeps the coefficients until the last scan.
    """

    components: int
    samples: float
    buffered: bool
    arithmetic: bool


_UNREADABLE: Final = _Frame(0, 4.0, buffered=True, arithmetic=True)


def _weight(frame: _Frame, restart: int) -> float:
    """The weight of one sample; `restart` is the restart interval in blocks, 0 for none."""
    if not frame.arithmetic:
        return 1.0
    return _ARITHMETIC + (_RESTARTED / restart if restart else 0.0)


def _frame(data: bytes | memoryview, at: int, kind: int) -> _Frame:
    buffered, arithmetic = kind not in _SEQUENTIAL, kind in _SOF_ARITHMETIC
    components = _number(data, at + 7, 1)
    factors = [_number(data, at + 9 + 3 * i, 1) for i in range(components)]
    across, down = [factor >> 4 for factor in factors], [factor & 15 for factor in factors]
    if not factors or 0 in across or 0 in down:
        return _Frame(components, _UNREADABLE.samples, buffered, arithmetic)
    most = max(across) * max(down)
    samples = sum(x * y for x, y in zip(across, down, strict=True)) / most
    return _Frame(components, samples, buffered, arithmetic)


def _next_marker(data: bytes | memoryview, at: int) -> int | None:
    while at < len(data):
        marker = _MARKER.search(data, at, at + _WINDOW + 1)
        if marker is not None:
            return marker.start()
        at += _WINDOW
    return None


def _number(data: bytes | memoryview, at: int, size: int) -> int:
    """The big-endian number of `size` bytes at `at`; of fewer at the end of the data."""
    return int.from_bytes(data[at : at + size], "big")
