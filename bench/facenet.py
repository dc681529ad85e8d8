"""The engine beside the same MTCNN and FaceNet in TensorFlow, block by block in turn."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load, tensorflow_env
from bench.processes import Server, free_port, running
from compreface_cli import builds, resources
from compreface_cli.models import store
from compreface_cli.output import Output

ROOT = Path(__file__).resolve().parent.parent
MODEL = "20180402-114759"
PHOTO = "faces/compreface-samples/000_5.jpg"
REQUESTS = 200
ROUNDS = 8
CONNECTIONS = (8, 1)
REQUESTS_BEFORE_WEIGHING = 500
# Asked of this version, at 8 connections, of every baseline that counts.
NEEDED_RATIO = 2.5
NEEDED_MEMORY = 0.5
BASELINE_COUNTS_FROM = 4.5  # scans a second


@dataclass(frozen=True, slots=True)
class Speed:
    """Two servers at one number of connections; ratios are engine over baseline, round by round."""

    connections: int
    engine: Sequence[load.Run]
    baseline: Sequence[load.Run]
    cpu_s: Mapping[str, float]  # of each server over all its blocks

    def document(self) -> dict[str, Any]:
        ratios = [
            e.per_second / b.per_second for e, b in zip(self.engine, self.baseline, strict=True)
        ]
        return {
            "connections": self.connections,
            "requests_each": sum(len(run.latencies_s) for run in self.engine),
            "engine_per_s": statistics.median(run.per_second for run in self.engine),
            "baseline_per_s": statistics.median(run.per_second for run in self.baseline),
            "engine_cpu_ms": self._cpu_ms("engine", self.engine),
            "baseline_cpu_ms": self._cpu_ms("baseline", self.baseline),
            "engine_p50_ms": load.middle(self.engine) * 1000,
            "baseline_p50_ms": load.middle(self.baseline) * 1000,
            "ratio": statistics.median(ratios),
            "ratio_quartiles": load.spread(ratios),
        }

    def _cpu_ms(self, name: str, runs: Sequence[load.Run]) -> float:
        """Processor time a scan: the figure that other work on the machine disturbs least."""
        return 1000 * self.cpu_s[name] / sum(len(run.latencies_s) for run in runs)


def measure(
    shared: Path,
    kind: str,
    *,
    requests: int = REQUESTS,
    weigh_after: int = REQUESTS_BEFORE_WEIGHING,
) -> dict[str, Any]:
    """Engine against the baseline of that kind (`tuned` or `plain`); the document of the result."""
    picture = (shared / PHOTO).read_bytes()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(_engine(shared, work))
        baseline = stack.enter_context(_baseline(shared, work, kind))
        boxes = _same_boxes(load.ask(engine.port, picture), load.ask(baseline.port, picture))
        for server in (engine, baseline):
            load.block(server.port, picture, 8, 4)  # warm
        speeds = [
            _in_turn(engine, baseline, picture, requests, connections)
            for connections in CONNECTIONS
        ]
        more = max(0, weigh_after - len(CONNECTIONS) * requests)
        memory = {}
        for server in (engine, baseline):
            if more:
                load.block(server.port, picture, more, 8)
            resident, proportional = server.memory()
            memory[server.name] = {"rss_bytes": resident, "pss_bytes": proportional}
    return {
        "baseline": kind,
        "weighed_after": max(weigh_after, len(CONNECTIONS) * requests),
        "boxes": boxes,
        "speed": [speed.document() for speed in speeds],
        "memory": memory,
        "memory_ratio": memory["engine"]["rss_bytes"] / memory["baseline"]["rss_bytes"],
    }


def _in_turn(
    engine: Server, baseline: Server, picture: bytes, requests: int, connections: int
) -> Speed:
    runs: dict[str, list[load.Run]] = {"engine": [], "baseline": []}
    servers = (engine, baseline)
    before = {server.name: server.cpu_s() for server in servers}
    for number in range(ROUNDS):
        for server in servers:
            progress(f"{connections} connections, round {number + 1}/{ROUNDS}: {server.name}")
            share = requests // ROUNDS
            runs[server.name].append(load.block(server.port, picture, share, connections))
    progress("")
    used = {server.name: server.cpu_s() - before[server.name] for server in servers}
    return Speed(connections, runs["engine"], runs["baseline"], used)


def progress(text: str) -> None:
    """One line on stderr that the next replaces; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"{text:<60}", end="\r", file=sys.stderr, flush=True)


def _same_boxes(engine: bytes, baseline: bytes) -> list[list[int]]:
    """The boxes that both found; RuntimeError if they differ or an embedding does."""
    ours, theirs = (json.loads(answer)["result"] for answer in (engine, baseline))
    boxes = [_corners(face) for face in ours]
    if boxes != [_corners(face) for face in theirs]:
        raise RuntimeError(f"the two find other boxes: {boxes}, {[_corners(f) for f in theirs]}")
    for one, other in zip(ours, theirs, strict=True):
        pairs = zip(one["embedding"], other["embedding"], strict=True)
        cosine = sum(a * b for a, b in pairs)
        if cosine < 0.999:
            raise RuntimeError(f"the two give other embeddings: cosine {cosine:.5f}")
    return boxes


def _corners(face: Mapping[str, Any]) -> list[int]:
    return [face["box"][key] for key in ("x_min", "y_min", "x_max", "y_max")]


def _engine(shared: Path, work: Path) -> Any:
    port = free_port()
    environment = {
        "PYTHONPATH": str(ROOT / "engine"),
        "CF_PORT": str(port),
        "CF_MODELS_DIR": str(_prepared(shared)),
        "FACE_DETECTION_PLUGIN": "facenet.FaceDetector",
        "CALCULATION_PLUGIN": "facenet.Calculator",
        "EXTRA_PLUGINS": ",",
        "LOGGING_LEVEL_NAME": "warning",
    }
    command = [sys.executable, "-m", "compreface_engine"]
    return running("engine", command, port, environment, work / "engine.log")


def _baseline(shared: Path, work: Path, kind: str) -> Any:
    port = free_port()
    mtcnn, facenet = shared / "models/mtcnn/mtcnn.npz", shared / f"models/facenet/{MODEL}.pb"
    python = tensorflow_env.ensure()
    module = "bench.baseline_tensorflow"
    command = [str(python), "-m", module, str(port), str(mtcnn), str(facenet), kind]
    return running("baseline", command, port, {"PYTHONPATH": str(ROOT)}, work / "baseline.log")


def _prepared(shared: Path) -> Path:
    """The engine's FaceNet, prepared once for all benchmarks of this checkout."""
    cache = ROOT / ".cache" / "bench"
    places = store.Places(
        models=cache / "models",
        weights=cache / "weights",
        accepted=cache / "accepted.json",
        mirror=str(shared / "models"),
    )
    out = Output()
    os.environ["PYTHONPATH"] = str(ROOT / "engine")
    store.ensure(
        [builds.catalogue()[MODEL]],
        out.progress,
        python=lambda: Path(sys.executable),
        portrait=resources.portraits_dir() / "astronaut.png",
        note=out.note,
        places=places,
    )
    return places.models
