"""A 20-megapixel JPEG: the engine's whole decode step against OpenCV's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from bench import servers
from bench.result import Chapter, at_most
from compreface_engine.core.image import decode

ROUNDS = 15
NEEDED = 1 / 2
_MAX_PIXELS = 178_956_970


def measure(shared: Path) -> Chapter:
    """Medians of interleaved runs; the pixels must be OpenCV's."""
    data = large_jpeg(shared)

    def ours() -> object:
        return decode(data, max_pixels=_MAX_PIXELS)

    def opencv() -> object:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    def opencv_rgb() -> object:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

    image = decode(data, max_pixels=_MAX_PIXELS).image
    if not np.array_equal(image, np.asarray(opencv_rgb())):
        raise RuntimeError("the pixels are not OpenCV's")
    times = _interleaved({"engine": ours, "OpenCV, BGR": opencv, "OpenCV, RGB": opencv_rgb})
    middle = {name: statistics.median(values) for name, values in times.items()}
    height, width = image.shape[:2]
    lines = [f"  {name:<14}{1000 * value:8.1f} ms" for name, value in middle.items()]
    ratio = middle["engine"] / middle["OpenCV, RGB"]
    rows = [at_most("decode step over OpenCV's", ratio, NEEDED)]
    title = f"Decoding a JPEG of {width} x {height} ({len(data) / 1e6:.1f} MB)"
    return Chapter(title, lines, rows, {"seconds": middle})


def large_jpeg(shared: Path) -> bytes:
    """A real photograph, enlarged to 5472 x 3648 px with noise and saved like a camera's."""
    small = decode((shared / servers.PHOTO).read_bytes(), max_pixels=_MAX_PIXELS).image[..., ::-1]
    large = cv2.resize(small, (5472, 3648), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(1).normal(0, 3, (3648, 5472, 1))
    noisy = np.clip(large + grain, 0, 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError("OpenCV cannot write the picture")
    return data.tobytes()


def _interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number >= 2:
                times[name].append(time.perf_counter() - start)
    return times
