"""Memory over ten thousand requests of all sizes: a linear fit, its slope and error."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np

from bench import load, servers
from bench.result import Chapter, at_most

REQUESTS = 10_000
FROM = 1_000  # caches are warm then
NEEDED_BYTES = 1_000.0  # a request, at the upper end of the interval
_STEP = 50


def measure(shared: Path, *, requests: int = REQUESTS) -> Chapter:
    """Bytes a request from request 1 000 on, 95 % interval, over pictures of many sizes.

    It takes over half an hour on two cores; fewer requests give an estimate that does not count.
    """
    pictures = [path.read_bytes() for path in sorted((shared / servers.SAMPLES).glob("*.jpg"))]
    rows, lines, document = [], [], {}
    for name, build in (("mobilenet", servers.MOBILENET_BUILD), ("facenet", servers.FACENET_BUILD)):
        with (
            tempfile.TemporaryDirectory() as work,
            servers.engine(shared, Path(work), build) as engine,
        ):
            counts, sizes = [], []
            ahead = itertools.cycle(pictures)
            done = 0
            while done < requests:
                load.progress(f"{name}: {done} of {requests} requests")
                batch = [next(ahead) for _ in range(_STEP)]
                load.mixed(engine.port, batch, 8)
                done += _STEP
                counts.append(done)
                sizes.append(engine.memory()[0])
        load.progress("")
        kept = [i for i, count in enumerate(counts) if count >= min(FROM, requests // 10)]
        slope, error = _slope([counts[i] for i in kept], [sizes[i] for i in kept])
        upper = slope + 1.96 * error
        lines.append(
            f"  {name:<10} {requests} requests: {sizes[0] / 1e6:.0f} MB after {_STEP}, "
            f"{sizes[-1] / 1e6:.0f} MB at the end, slope {slope:.0f} +- {1.96 * error:.0f} B"
        )
        counts_fully = requests == REQUESTS
        rows.append(
            at_most(
                f"{name}: bytes a request, upper end of 95 %",
                upper,
                NEEDED_BYTES,
                counts=counts_fully,
                note="" if counts_fully else f"only {requests} requests",
            )
        )
        document[name] = {"requests": counts, "resident": sizes, "slope": slope, "error": error}
    return Chapter("Memory over many requests", lines, rows, document)


def _slope(x: list[int], y: list[int]) -> tuple[float, float]:
    """The least-squares slope, and its standard error corrected for autocorrelation.

    Memory changes in lasting steps, so neighbouring residuals are not independent: the variance is
    multiplied by (1 + r) / (1 - r), where r is their correlation (Bartlett, 1946).
    """
    t, v = np.asarray(x, float), np.asarray(y, float)
    slope, offset = np.polyfit(t, v, 1)
    rest = v - (slope * t + offset)
    spread = float(((t - t.mean()) ** 2).sum())
    variance = float((rest**2).sum()) / max(1, len(t) - 2)
    total = float((rest**2).sum())
    r = float((rest[1:] * rest[:-1]).sum()) / total if total else 0.0
    r = min(max(r, 0.0), 0.95)
    return float(slope), float(np.sqrt(variance / spread * (1 + r) / (1 - r)))
