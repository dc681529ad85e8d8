"""How much of the bare networks' speed is left behind HTTP: throughput over the best bare rate.

The bare rate: sessions of the same networks on the same tensors (the batches of P-, R- and O-Net
and the five crops, recorded from one scan), run with nothing around them in every way tried: a run
of two threads or two side by side of one, crops one, five or eight together. The best counts.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import load, servers
from bench.result import Chapter, at_least
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.plugins import registry
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.onnxruntime import OnnxSession

NEEDED = 0.85
SECONDS = 6.0
BATCHES = (1, 5, 8)

Feeds = Mapping[str, NDArray[Any]]


class _Recorder:
    """A session that keeps what it is fed."""

    def __init__(self, path: Path) -> None:
        self.path, self.fed = path, list[Feeds]()
        self._session = OnnxSession(path, threads=1)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> list[NDArray[Any]]:
        self.fed.append({name: np.array(value) for name, value in feeds.items()})
        return self._session.run(feeds, outputs)


def measure(shared: Path, *, requests: int) -> Chapter:
    """The engine's scans a second at 8 connections over the best bare rate, FaceNet build."""
    picture = (shared / servers.PHOTO).read_bytes()
    recorded = _record(shared, picture)
    bare = {}
    for threads, side_by_side in ((1, 2), (2, 1)):
        for batch in BATCHES:
            load.progress(f"bare: {side_by_side} x {threads} threads, batch {batch}")
            bare[f"{side_by_side} x {threads} threads, batch {batch}"] = _rate(
                recorded, threads, side_by_side, batch
            )
    load.progress("")
    with (
        tempfile.TemporaryDirectory() as work,
        servers.engine(shared, Path(work), servers.FACENET_BUILD) as engine,
    ):
        load.block(engine.port, picture, 8, 8)
        rate = load.block(engine.port, picture, requests, 8).per_second
    best = max(bare, key=lambda name: bare[name])
    lines = [f"  bare, {name}: {value:.1f} scans a second" for name, value in bare.items()]
    lines.append(f"  engine: {rate:.1f}")
    rows = [at_least(f"engine over bare ({best})", rate / bare[best], NEEDED)]
    return Chapter("Efficiency, FaceNet build", lines, rows, {"bare": bare, "engine": rate})


def _record(shared: Path, picture: bytes) -> list[_Recorder]:
    """All sessions of a scan with what they were fed; the calculator's is the last."""
    made: list[_Recorder] = []

    def opened(path: Path) -> _Recorder:
        made.append(_Recorder(path))
        return made[-1]

    build = servers.FACENET_BUILD
    context = Context(
        open_session=opened,
        models_dir=servers.prepared(shared, build.models),
        length_limit=640,
    )
    detector = registry.detector(build.detector, context)
    calculator = registry.calculator(build.calculator, context)
    loaded = Pipeline(detector, calculator, [], PipelineConfig())
    slugs = frozenset({"calculator"})
    image = loaded.decode(picture).image
    loaded.scan(image, min_score=None, detect=True, slugs=slugs)
    return made


def _rate(recorded: list[_Recorder], threads: int, side_by_side: int, batch: int) -> float:
    """Scans a second of the recorded runs; the calculator's crops regrouped into `batch`."""
    sessions = [OnnxSession(one.path, threads=threads) for one in recorded]
    plans: list[tuple[OnnxSession, Feeds]] = []
    for one, session in zip(recorded[:-1], sessions[:-1], strict=True):
        plans += [(session, feeds) for feeds in one.fed]
    name = recorded[-1].inputs[0]
    crops = np.concatenate([feeds[name] for feeds in recorded[-1].fed])
    filled = np.concatenate([crops] * (-(-batch // len(crops))))[:batch]
    share = len(crops) / batch  # of one run of that batch belongs to a scan
    detection = _timed(plans, side_by_side)
    embedding = _timed([(sessions[-1], {name: filled})], side_by_side) * share
    return side_by_side / (detection + embedding)


def _timed(plans: list[tuple[OnnxSession, Feeds]], side_by_side: int) -> float:
    """Seconds a pass over the runs takes while as many go on side by side."""
    done, stop = [0] * side_by_side, threading.Event()

    def work(index: int) -> None:
        while not stop.is_set():
            for session, feeds in plans:
                session.run(feeds)
            done[index] += 1

    for session, feeds in plans:
        session.run(feeds)
    workers = [threading.Thread(target=work, args=(i,)) for i in range(side_by_side)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    time.sleep(SECONDS / 2)
    stop.set()
    for worker in workers:
        worker.join()
    return side_by_side * (time.perf_counter() - start) / sum(done)
