"""Efficiency: throughput over HTTP divided by the best rate of the bare networks.

The bare rate is that of sessions of the same networks on the same tensors (the batches of P-, R-
and O-Net and the five crops, recorded from one scan) and nothing else. There are several
configurations: runs of two threads, or two parallel runs of one thread, with one, five or eight
crops together. Each alternates with the engine, because a machine's speed may change within a
minute; the one that gives the engine the lowest share counts.

"""

from __future__ import annotations

import statistics
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
SECONDS = 1.5  # of bare runs in a turn
ROUNDS = 7
SCANS = 16  # of the engine in a turn
BATCHES = (1, 5, 8)

Feeds = Mapping[str, NDArray[Any]]
_SAME = {"CF_RUNTIME": "onnxruntime"}  # what the bare networks run in


class _Recorder:
    """A session that records its inputs."""

    def __init__(self, path: Path) -> None:
        self.path, self.fed = path, list[Feeds]()
        self._session = OnnxSession(path, threads=1)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> list[NDArray[Any]]:
        self.fed.append({name: np.array(value) for name, value in feeds.items()})
        return self._session.run(feeds, outputs)


def measure(shared: Path) -> Chapter:
    """The engine's scans a second at 8 connections over the best bare rate, FaceNet build."""
    picture = (shared / servers.PHOTO).read_bytes()
    recorded = _record(shared, picture)
    ways = {
        f"{side_by_side} x {threads} threads, batch {batch}": _Bare(
            recorded, threads, side_by_side, batch
        )
        for threads, side_by_side in ((1, 2), (2, 1))
        for batch in BATCHES
    }
    bare: dict[str, list[float]] = {name: [] for name in ways}
    ours: dict[str, list[float]] = {name: [] for name in ways}
    with (
        tempfile.TemporaryDirectory() as work,
        servers.engine(shared, Path(work), servers.FACENET_BUILD, _SAME) as engine,
    ):
        load.block(engine.port, picture, 8, 8)
        for number in range(1, ROUNDS + 1):
            for name, way in ways.items():
                load.progress(f"round {number} of {ROUNDS}: bare, {name}, and the engine")
                bare[name].append(way.rate())
                ours[name].append(load.block(engine.port, picture, SCANS, 8).per_second)
    load.progress("")
    ratios = {
        name: [own / other for own, other in zip(ours[name], bare[name], strict=True)]
        for name in ways
    }
    best = min(ratios, key=lambda name: statistics.median(ratios[name]))
    low, high = load.spread(ratios[best])
    tops = max(map(max, ours.values())) / max(map(max, bare.values()))
    lines = [
        f"  bare, {name}: {statistics.median(bare[name]):.1f} scans a second, "
        f"engine beside it {statistics.median(ours[name]):.1f}"
        for name in ways
    ]
    rows = [
        at_least(
            f"engine over bare ({best})",
            statistics.median(ratios[best]),
            NEEDED,
            note=f"quartiles {low:.2f}-{high:.2f}; best turn over best turn {tops:.2f}",
        )
    ]
    document = {"bare": bare, "engine": ours, "ratio_quartiles": [low, high]}
    return Chapter("Efficiency, FaceNet build", lines, rows, document)


def _record(shared: Path, picture: bytes) -> list[_Recorder]:
    """All sessions of a scan with their recorded inputs; the calculator's is the last."""
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


class _Bare:
    """A configuration for the recorded inputs; the calculator's crops are grouped into `batch`."""

    def __init__(
        self, recorded: list[_Recorder], threads: int, side_by_side: int, batch: int
    ) -> None:
        sessions = [OnnxSession(network.path, threads=threads) for network in recorded]
        self._side_by_side = side_by_side
        self._detection: list[tuple[OnnxSession, Feeds]] = []
        for network, session in zip(recorded[:-1], sessions[:-1], strict=True):
            self._detection += [(session, feeds) for feeds in network.fed]
        name = recorded[-1].inputs[0]
        crops = np.concatenate([feeds[name] for feeds in recorded[-1].fed])
        filled = np.concatenate([crops] * (-(-batch // len(crops))))[:batch]
        self._embedding: list[tuple[OnnxSession, Feeds]] = [(sessions[-1], {name: filled})]
        self._share = len(crops) / batch  # of a run of that batch belongs to one scan

    def rate(self) -> float:
        """Scans a second."""
        detection = _timed(self._detection, self._side_by_side)
        embedding = _timed(self._embedding, self._side_by_side) * self._share
        return self._side_by_side / (detection + embedding)


def _timed(plans: list[tuple[OnnxSession, Feeds]], side_by_side: int) -> float:
    """Seconds of a pass over the runs with that many in parallel."""
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
