"""The memory that decoding each picture format needs, against the engine's estimate.

    python -m bench.picture_memory [--megapixels 20] [--json]

Each format is decoded in a process of its own, after two small pictures of the same format. The
result is the increase of the peak resident memory (`VmHWM`). Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from bench.servers import ROOT

_SMALL: Final = 6144  # pixels
_LARGE_JP2: Final = 8_000_000

Write = Callable[[int], bytes]


def kinds() -> dict[str, Write]:
    """By name, the function that writes such a picture of a number of pixels."""
    jpeg, png, tiff = (partial(_saved, kind) for kind in ("JPEG", "PNG", "TIFF"))
    webp, jp2 = partial(_saved, "WEBP"), partial(_saved, "JPEG2000")
    return {
        "JPEG": partial(jpeg, "RGB"),
        "JPEG, cut short": lambda pixels: _half(jpeg("RGB", pixels)),
        "progressive JPEG 4:2:0": partial(jpeg, "RGB", progressive=True),
        "progressive JPEG 4:2:2": partial(jpeg, "RGB", progressive=True, subsampling=1),
        "progressive JPEG 4:4:4": partial(jpeg, "RGB", progressive=True, subsampling=0),
        "progressive JPEG, grey": partial(jpeg, "L", progressive=True),
        "JPEG, CMYK": partial(jpeg, "CMYK"),
        "progressive JPEG, CMYK": partial(jpeg, "CMYK", progressive=True),
        "PNG": partial(png, "RGB", compress_level=1),
        "PNG, palette": partial(png, "P", compress_level=1),
        "PNG, 16-bit grey": partial(png, "I;16", compress_level=1),
        "GIF": partial(_saved, "GIF", "P"),
        "BMP": partial(_saved, "BMP", "RGB"),
        "PPM": partial(_saved, "PPM", "RGB"),
        "TGA": partial(_saved, "TGA", "RGB"),
        "TIFF": partial(tiff, "RGB"),
        "TIFF, LZW": partial(tiff, "RGB", compression="tiff_lzw"),
        "TIFF, floats": partial(tiff, "F"),
        "WebP": partial(webp, "RGB", quality=50, method=0),
        "WebP, lossless": partial(webp, "RGB", lossless=True, quality=0, method=0),
        "JPEG 2000": lambda pixels: jp2("RGB", min(pixels, _LARGE_JP2)),
        "JPEG 2000, alpha": lambda pixels: jp2("RGBA", min(pixels, _LARGE_JP2)),
    }


def measured(data: bytes, small: bytes) -> tuple[int, int, int]:
    """Pixels, the peak of bytes in decoding, and their estimate."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.picture_memory", "--child"],
        input=len(small).to_bytes(8, "big") + small + data,
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'engine'}:{ROOT}"},
    )
    pixels, used, estimated = json.loads(done.stdout)
    return pixels, used, estimated


def table(pixels: int) -> dict[str, tuple[int, int, int, int]]:
    """By format: the values of `measured`, then the size of the file in bytes."""
    rows = {}
    for name, write in kinds().items():
        data = write(pixels)
        rows[name] = (*measured(data, write(_SMALL)), len(data))
    return rows


def _picture(mode: str, pixels: int) -> Image.Image:
    width = int((pixels * 1.5) ** 0.5)
    height = pixels // width
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) << 8)
    return picture.convert("L").convert("F") if mode == "F" else picture.convert(mode)


def _saved(kind: str, mode: str, pixels: int, **options: Any) -> bytes:
    out = io.BytesIO()
    _picture(mode, pixels).save(out, kind, **options)
    return out.getvalue()


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _child() -> None:
    from compreface_engine.core.heap import share_one_heap
    from compreface_engine.core.image import decode

    share_one_heap()
    read = sys.stdin.buffer.read
    small = read(int.from_bytes(read(8), "big"))
    data = memoryview(read())
    for _ in range(2):
        decode(small, max_pixels=1 << 40)
    estimated: list[int] = []
    ctypes.CDLL(None).malloc_trim(0)  # else what reading freed is decoded into, and not counted
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    whole = decode(data, max_pixels=1 << 40, reserve=lambda _w, _h, peak: estimated.append(peak))
    used = _resident("VmHWM") - before
    print(json.dumps([whole.image.shape[0] * whole.image.shape[1], used, max(estimated)]))


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.picture_memory", description=__doc__)
    parser.add_argument("--megapixels", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child()
        return 0
    rows = table(int(options.megapixels * 1e6))
    if options.json:
        print(json.dumps(rows))
        return 0
    print(f"{'bytes a pixel':<26}{'measured':>9}{'estimated':>9}{'file':>7}")
    for name, (pixels, used, estimated, size) in rows.items():
        print(f"{name:<26}{used / pixels:9.1f}{estimated / pixels:9.1f}{size / pixels:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
