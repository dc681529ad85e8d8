"""Large pictures for the soak test: without a face, truncated, progressive, with too many scans."""

from __future__ import annotations

import io
import struct
from typing import Any, Final

import numpy as np
from PIL import Image

from compreface_cli import resources

_20_MEGAPIXELS: Final = (5472, 3648)
_169_MEGAPIXELS: Final = (13_000, 13_000)
_SCANS: Final = 150


def large() -> dict[str, bytes]:
    """By name. None has a face; the last one is refused."""
    small = _saved(Image.new("L", (32, 32), 90), "JPEG", progressive=True)
    plain = _slope(*_20_MEGAPIXELS)
    whole = _saved(plain, "JPEG", quality=80)
    progressive = _saved(plain, "JPEG", quality=80, progressive=True, subsampling=0)
    return {
        "20 MP": whole,
        "20 MP, cut short": whole[: len(whole) * 2 // 3],
        "20 MP, progressive": progressive,
        "20 MP, PNG": _saved(plain, "PNG", compress_level=6),
        "169 MP": _saved(_slope(*_169_MEGAPIXELS).convert("L"), "JPEG", quality=80),
        "36 MP, 90 scans": _of_size(_rescanned(small, 84), 6000, 6000),
        "150 scans": _rescanned(progressive, _SCANS),
    }


def large_portrait() -> bytes:
    """A JPEG of 20 megapixels with one face."""
    portrait = Image.open(resources.portraits_dir() / "grace_hopper.jpg").convert("RGB")
    return _saved(portrait.resize((4000, 5000)), "JPEG", quality=80)


def _slope(width: int, height: int) -> Image.Image:
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(255, 0, height)[:, None]
    pixels[..., 2] = 90
    return Image.fromarray(pixels)


def _rescanned(jpeg: bytes, times: int) -> bytes:
    """The JPEG with its last scan repeated."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * times + jpeg[-2:]


def _of_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The coded data of a small progressive JPEG under a header that says another size."""
    frame = bytearray(jpeg)
    struct.pack_into(">HH", frame, frame.index(b"\xff\xc2") + 5, height, width)
    return bytes(frame)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()
