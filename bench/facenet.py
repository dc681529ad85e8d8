"""The FaceNet build against the same MTCNN and FaceNet in TensorFlow, in alternating blocks."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load, servers
from bench.processes import Server
from bench.result import Chapter, Row, at_least, at_most

ROUNDS = 8
CONNECTIONS = (8, 1)
STARTS = 3
# The engine's goals against the plain baseline.
NEEDED_BF16, NEEDED_FP32 = 5.0, 4.0
NEEDED_P50 = 1 / 4
NEEDED_MEMORY = 1 / 2
NEEDED_READY = 1 / 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Two servers at a number of connections; ratios are engine over baseline, round by round."""

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
        """Processor time a scan: the figure that other load on the machine affects least."""
        return 1000 * self.cpu_s[name] / sum(len(run.latencies_s) for run in runs)


def measure(shared: Path, kind: str, *, requests: int, weigh_after: int) -> Chapter:
    """Engine against the baseline of that kind (`tuned` or `plain`); only `plain` has limits."""
    picture = (shared / servers.PHOTO).read_bytes()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ready = _ready(shared, work, kind)
        engine = stack.enter_context(servers.engine(shared, work, servers.FACENET_BUILD))
        baseline = stack.enter_context(servers.tensorflow(shared, work, kind))
        precision = load.status(engine.port).get("runtimes", {}).get("calculator", {})
        boxes = _same_boxes(load.ask(engine.port, picture), load.ask(baseline.port, picture))
        for server in (engine, baseline):
            load.block(server.port, picture, 8, 4)  # warm
        speeds = [
            in_turn(engine, baseline, picture, requests, connections).document()
            for connections in CONNECTIONS
        ]
        more = max(0, weigh_after - len(CONNECTIONS) * requests)
        memory = {}
        for server in (engine, baseline):
            if more:
                load.block(server.port, picture, more, 8)
            memory[server.name] = server.memory()[0]
    document = {
        "baseline": kind,
        "weighed_after": max(weigh_after, len(CONNECTIONS) * requests),
        "boxes": boxes,
        "speed": speeds,
        "memory": memory,
        "ready_s": ready,
        "calculator_runs_on": precision,
    }
    title = f"FaceNet build, scans of {Path(servers.PHOTO).name}, {len(boxes)} equal boxes; {kind}"
    rows = _rows(document, half="bf16" in str(precision.get("precision")))
    return Chapter(title, _lines(document), rows if kind == "plain" else [], document)


def in_turn(
    engine: Server, baseline: Server, picture: bytes, requests: int, connections: int
) -> Speed:
    """Alternating blocks of requests, so that both servers run under the same conditions."""
    runs: dict[str, list[load.Run]] = {"engine": [], "baseline": []}
    pairs = (("engine", engine), ("baseline", baseline))
    before = {name: server.cpu_s() for name, server in pairs}
    for number in range(ROUNDS):
        for name, server in pairs:
            load.progress(f"{connections} connections, round {number + 1}/{ROUNDS}: {name}")
            share = max(1, requests // ROUNDS)
            runs[name].append(load.block(server.port, picture, share, connections))
    load.progress("")
    used = {name: server.cpu_s() - before[name] for name, server in pairs}
    return Speed(connections, runs["engine"], runs["baseline"], used)


def _ready(shared: Path, work: Path, kind: str) -> dict[str, float]:
    """Seconds from the start of the process to its first answer, the best of a few starts."""
    seconds: dict[str, list[float]] = {"engine": [], "baseline": []}
    for _ in range(STARTS):
        with servers.engine(shared, work, servers.FACENET_BUILD) as server:
            seconds["engine"].append(server.ready_s)
        with servers.tensorflow(shared, work, kind) as other:
            seconds["baseline"].append(other.ready_s)
    return {name: min(values) for name, values in seconds.items()}


def _rows(document: dict[str, Any], *, half: bool) -> list[Row]:
    at_8, at_1 = document["speed"]
    memory, ready = document["memory"], document["ready_s"]
    note = "bf16" if half else "fp32"
    needed = NEEDED_BF16 if half else NEEDED_FP32
    return [
        at_least("throughput over TensorFlow's, 8 connections", at_8["ratio"], needed, note=note),
        at_most(
            "p50 over TensorFlow's, 1 connection",
            at_1["engine_p50_ms"] / at_1["baseline_p50_ms"],
            NEEDED_P50,
        ),
        at_most("memory over TensorFlow's", memory["engine"] / memory["baseline"], NEEDED_MEMORY),
        at_most(
            "time to ready over TensorFlow's", ready["engine"] / ready["baseline"], NEEDED_READY
        ),
    ]


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [
        "             scans a second      p50, ms        CPU, ms a scan    ratio of speed",
        "connections  engine     TF    engine     TF    engine     TF    (quartiles)",
    ]
    for row in document["speed"]:
        low, high = row["ratio_quartiles"]
        pairs = "".join(
            f"{row[f'engine_{what}']:>10.{digits}f}{row[f'baseline_{what}']:>7.{digits}f}"
            for what, digits in (("per_s", 1), ("p50_ms", 0), ("cpu_ms", 0))
        )
        lines.append(f"{row['connections']:>9}{pairs}{row['ratio']:>8.2f} ({low:.2f}-{high:.2f})")
    ours, theirs = (document["memory"][name] / 1e6 for name in ("engine", "baseline"))
    lines.append(
        f"memory after {document['weighed_after']} requests, MB: {ours:.0f} against {theirs:.0f}"
    )
    ready = document["ready_s"]
    lines.append(f"ready after, s: {ready['engine']:.2f} against {ready['baseline']:.2f}")
    return lines


def _same_boxes(engine: bytes, baseline: bytes) -> list[list[int]]:
    """The boxes of both; raises RuntimeError where they or the embeddings differ."""
    ours, theirs = (json.loads(answer)["result"] for answer in (engine, baseline))
    boxes = [_corners(face) for face in ours]
    if boxes != [_corners(face) for face in theirs]:
        raise RuntimeError(f"the two find other boxes: {boxes}, {[_corners(f) for f in theirs]}")
    for own, other in zip(ours, theirs, strict=True):
        pairs = zip(own["embedding"], other["embedding"], strict=True)
        cosine = sum(a * b for a, b in pairs)
        if cosine < 0.999:
            raise RuntimeError(f"the two give other embeddings: cosine {cosine:.5f}")
    return boxes


def _corners(face: Mapping[str, Any]) -> list[int]:
    return [face["box"][key] for key in ("x_min", "y_min", "x_max", "y_max")]
