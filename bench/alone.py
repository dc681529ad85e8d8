"""A single request on idle cores: each small network as the engine opens it, against one thread."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import compreface_engine
from bench.result import Chapter, at_least, at_most
from compreface_engine.core.parallel import WorkerPool
from compreface_engine.runtimes.base import Concurrency, Session
from compreface_engine.runtimes.choice import RuntimeRequest
from compreface_engine.runtimes.factory import SessionFactory
from compreface_engine.runtimes.onnxruntime import OnnxSession

ROUNDS = 15
CORES = 2
NEEDED_ALONE = 1.05  # of one thread's time: never slower, up to the clock's noise
NEEDED_TOGETHER = 0.95  # of one thread's runs a second, with a request on each core
_EMBEDDED = Path(compreface_engine.__file__).parent / "embedded_models"


def measure(shared: Path) -> Chapter:
    """Medians of interleaved runs in this process, alone and with a request on each core."""
    networks = {
        "SCRFD-2.5G, 480 x 640": (
            shared / "models/scrfd/scrfd_2.5g_bnkps.onnx",
            (1, 3, 480, 640),
        ),
        "YuNet, 480 x 640": (shared / "models/yunet/yunet_n_dynamic.onnx", (1, 3, 480, 640)),
        "w600k_mbf, a face": (
            shared / "models/w600k_mbf/w600k_mbf_dequantised_fp32.onnx",
            (1, 3, 112, 112),
        ),
        "MobileFaceNet-192, a face": (
            _EMBEDDED / "mobilefacenet192_fp16w.onnx",
            (1, 3, 112, 112),
        ),
    }
    lines, rows, document = [], [], {}
    for name, (path, shape) in networks.items():
        workers = WorkerPool(CORES)
        sessions = SessionFactory(
            RuntimeRequest(), Concurrency(runs=CORES), idle_workers=workers.idle_workers
        )
        opened = sessions.file(path)
        feeds = {opened.inputs[0]: np.random.default_rng(0).random(shape, np.float32)}
        opened.run(feeds)
        sessions.settle()
        narrow = OnnxSession(path, threads=1)
        alone = _in_turn(workers, opened, narrow, feeds)
        together = _together(workers, opened, feeds) / _together(workers, narrow, feeds)
        threads = sessions.choice(path).threads_alone
        lines.append(f"  {name:<28}{threads} threads when alone")
        rows += [
            at_most(f"{name}: time alone, over one thread", alone, NEEDED_ALONE),
            at_least(f"{name}: runs a second, {CORES} callers", together, NEEDED_TOGETHER),
        ]
        document[name] = {"threads_alone": threads, "alone": alone, "together": together}
    return Chapter("A lone request inside a network", lines, rows, document)


def _in_turn(workers: WorkerPool, opened: Session, narrow: Session, feeds: dict[str, Any]) -> float:
    ratios = []
    for _ in range(ROUNDS):
        times = []
        for session in (opened, narrow):
            with workers.occupy():
                started = time.perf_counter()
                session.run(feeds)
                times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def _together(workers: WorkerPool, session: Session, feeds: dict[str, Any]) -> float:
    def call(_: int) -> None:
        with workers.occupy():
            session.run(feeds)

    with ThreadPoolExecutor(CORES) as pool:
        started = time.perf_counter()
        list(pool.map(call, range(ROUNDS * CORES)))
        return ROUNDS * CORES / (time.perf_counter() - started)
