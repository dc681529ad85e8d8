"""How often a JPEG makes its decoder go over the picture, read from its markers alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from compreface_engine.core.errors import TooCostly

MAX_SCANS: Final = 100
"""libjpeg's own progression has 10 (18 for CMYK), mozjpeg's search ends with fewer than 20; one
scan for each bit of each component would be 60. libtiff stops at 100 too."""
MAX_PASSED: Final = 6_000_000_000
"""Samples that all scans together go over, empty ones included: 33 for each of 179 million pixels,
where libjpeg's own progression has 14 (24 for CMYK). One thread of a Zen 4 core takes 2.4 s."""
_ARITHMETIC: Final = 2.0
_RESTARTED: Final = 7.0
"""What a sample of arithmetic coding counts, and how much more where each block is a restart of
its own: 0.4 ns of a Zen 4 core with Huffman's codes; 0.7 arithmetic; 1.0, 1.5 and 3.5 with a
restart every 64, 4 and 1 blocks."""
MAX_SEGMENTS: Final = 4096
"""Of 64 KiB each they would hold 256 MiB."""

# What ends a run of coded samples. FF 00 is a sample, FF D0 to FF D7 a restart between samples, and
# FF before any of these a fill byte.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WINDOW: Final = 1 << 20  # bytes searched before other threads get their turn
_SOF: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SOF_ARITHMETIC: Final = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC5, 0xC9, 0xCD})
_SOI, _EOI, _SOS, _DRI, _APP1 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1
_FIRST_WITH_LENGTH: Final = 0xC0


@dataclass(frozen=True, slots=True)
class Scans:
    """`count` scans; `pixels` of the first frame header, 0 if none; `passed` is the number of
    samples that all scans go over, dearer codings counted as so many more.

    `header` is the number of bytes in front of the first scan, `exif` where the first segment of
    EXIF data in them begins and ends. `kept`: coefficients of 16 bits that libjpeg keeps for each
    pixel until the last scan; 0 where one scan has all colours, 4, the most, where it cannot be
    told.
    """

    count: int
    passed: float
    pixels: int
    header: int
    exif: slice
    kept: float


def read_scans(data: bytes | memoryview) -> Scans:
    """The scans of the first picture in `data`, a JPEG, as libjpeg-turbo would come to them.

    It walks from marker to marker, over what a segment's length spans, so scans of thumbnails and
    of pictures behind the first one's end do not count. Where libjpeg-turbo would give up, a few
    more may be counted than it decodes, never fewer. Raises TooCostly above MAX_SEGMENTS.
    """
    at, segments, count, components, pixels, header = 2, 0, 0, 0.0, 0, len(data)
    restart = 0
    exif = slice(0)
    frame = _UNREADABLE
    kept = frame.samples
    while (found := _next_marker(data, at)) is not None:
        kind, at = data[found + 1], found + 2
        if kind in (_SOI, _EOI):
            break
        if kind < _FIRST_WITH_LENGTH:
            continue
        segments += 1
        if segments > MAX_SEGMENTS:
            many = f"{MAX_SCANS} scans" if count > MAX_SCANS else f"{MAX_SEGMENTS} segments"
            raise TooCostly(f"The JPEG has more than {many}")
        if kind == _SOS:
            colours = _number(data, at + 2, 1)
            if not count:
                header = found
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
    """The scans of a JPEG. Raises TooCostly for more than any camera or encoder makes."""
    scans = read_scans(data)
    if scans.count > MAX_SCANS:
        raise TooCostly(f"The JPEG has {scans.count} scans, at most {MAX_SCANS} are decoded")
    if scans.passed > MAX_PASSED:
        raise TooCostly(
            f"The JPEG has {scans.count} scans of {scans.pixels} pixels, which count as "
            f"{scans.passed:.0f} samples; at most {MAX_PASSED} are decoded"
        )
    return scans


def check_parts_of_jpeg(data: bytes | memoryview, parts: Mapping[tuple[int, int], int]) -> float:
    """Coefficients that libjpeg keeps for all pixels of the dearest part, each a JPEG of its own.

    `parts`: (offset, bytes) of each and how often it is decoded, as strips of a TIFF may be the
    same. Raises TooCostly for more scans or samples than of one JPEG.
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
    """What a frame header says: samples a pixel of all components; `buffered` until the end."""

    components: int
    samples: float
    buffered: bool
    arithmetic: bool


_UNREADABLE: Final = _Frame(0, 4.0, buffered=True, arithmetic=True)


def _weight(frame: _Frame, restart: int) -> float:
    """What one sample counts; `restart` is the interval in blocks, 0 for none."""
    if not frame.arithmetic:
        return 1.0
    return _ARITHMETIC + (_RESTARTED / restart if restart else 0.0)


def _frame(data: bytes | memoryview, at: int, kind: int) -> _Frame:
    buffered, arithmetic = kind not in _SEQUENTIAL, kind in _SOF_ARITHMETIC
    components = _number(data, at + 7, 1)
    factors = [_number(data, at + 9 + 3 * i, 1) for i in range(components)]
    across, down = [one >> 4 for one in factors], [one & 15 for one in factors]
    if not factors or 0 in across or 0 in down:
        return _Frame(components, _UNREADABLE.samples, buffered, arithmetic)
    most = max(across) * max(down)
    samples = sum(x * y for x, y in zip(across, down, strict=True)) / most
    return _Frame(components, samples, buffered, arithmetic)


def _next_marker(data: bytes | memoryview, at: int) -> int | None:
    while at < len(data):
        found = _MARKER.search(data, at, at + _WINDOW + 1)
        if found is not None:
            return found.start()
        at += _WINDOW
    return None


def _number(data: bytes | memoryview, at: int, size: int) -> int:
    """Big-endian; what lies behind the end counts as missing bytes."""
    return int.from_bytes(data[at : at + size], "big")
