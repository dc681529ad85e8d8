"""The cost of the embedded build's age and gender, for scans with and without them."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench import servers
from bench.result import Chapter, at_most
from compreface_engine.pipeline import Pipeline, PipelineConfig

ROUNDS = 40
NEEDED_RATIO = 1.02  # of a scan that requests neither, over a build without them
NEEDED_MS = 4.0  # a face; 1.9 ms where the network was measured first
_SCAN = frozenset({"calculator", "landmarks", "pose"})
_BOTH = frozenset({"age", "gender"})


def measure(shared: Path) -> Chapter:
    """Medians of interleaved scans of five faces on one thread, in this process."""
    whole = Pipeline.load(PipelineConfig())
    bare = Pipeline.load(PipelineConfig(extras=PipelineConfig().extras[:2]))
    image = whole.decode((shared / servers.PHOTO).read_bytes()).image
    ways = {
        "without the plugins": (bare, _SCAN),
        "with them, not asked": (whole, _SCAN),
        "with them, asked": (whole, _SCAN | _BOTH),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    faces = 0
    for number in range(ROUNDS + 3):
        for name, (pipeline, slugs) in ways.items():
            start = time.perf_counter()
            detected = pipeline.scan(image, min_score=None, detect=True, slugs=slugs)
            if number >= 3:
                times[name].append(time.perf_counter() - start)
            answered = [(slug, slug in face.answers) for face in detected for slug in _BOTH]
            if any(has != (slug in slugs) for slug, has in answered):
                raise RuntimeError(f"{name}: an answer has what was not asked, or lacks what was")
            faces = len(detected)
    middle = {name: statistics.median(values) for name, values in times.items()}
    without, idle, asked = middle.values()
    # Round by round, since a machine's speed changes within a minute.
    pairs = zip(times["with them, not asked"], times["without the plugins"], strict=True)
    ratio = statistics.median(first / second for first, second in pairs)
    more = zip(times["with them, asked"], times["with them, not asked"], strict=True)
    cost = 1000 * statistics.median(first - second for first, second in more) / faces
    lines = [f"  {name:<22}{1000 * value:8.1f} ms a scan" for name, value in middle.items()]
    rows = [
        at_most("a scan that asks for neither, over none loaded", ratio, NEEDED_RATIO),
        at_most("ms a face for both, one thread", cost, NEEDED_MS),
    ]
    document = {"seconds": {"without": without, "idle": idle, "asked": asked}, "faces": faces}
    return Chapter(f"Age and gender, {faces} faces", lines, rows, document)
