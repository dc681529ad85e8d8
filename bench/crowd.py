"""Thirty-two clients at once with default settings: every request is answered, in a fair time."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import load, servers
from bench.result import Chapter, at_most

CONNECTIONS = 32
NEEDED_P99 = 3.0  # times the ideal, in which each client waits once for all others
NEEDED_REFUSED = 0.01


def measure(shared: Path, *, requests: int) -> Chapter:
    """p99 at 32 connections over the ideal, and the share of refused requests."""
    picture = (shared / servers.PHOTO).read_bytes()
    rows, lines, document = [], [], {}
    for name, build in (("facenet", servers.FACENET_BUILD), ("mobilenet", servers.MOBILENET_BUILD)):
        with (
            tempfile.TemporaryDirectory() as work,
            servers.engine(shared, Path(work), build) as engine,
        ):
            load.block(engine.port, picture, 8, 4)
            load.progress(f"{name}: {requests} requests from {CONNECTIONS} clients")
            run = load.block(engine.port, picture, requests, CONNECTIONS, refusals=True)
        load.progress("")
        answered = sorted(run.latencies_s)
        p99 = answered[min(len(answered) - 1, int(0.99 * len(answered)))]
        ideal = CONNECTIONS / run.per_second
        refused = run.refused / requests
        lost = requests - len(answered) - run.refused
        lines.append(
            f"  {name:<10} {run.per_second:6.1f} scans a second, p99 {p99:.2f} s, ideal "
            f"{ideal:.2f} s, refused {refused:.1%}, lost {lost}"
        )
        rows += [
            at_most(f"{name}: p99 over the ideal", p99 / ideal, NEEDED_P99),
            at_most(f"{name}: share refused", refused, NEEDED_REFUSED),
            at_most(f"{name}: requests lost", lost, 0),
        ]
        document[name] = {"per_s": run.per_second, "p99_s": p99, "ideal_s": ideal}
    return Chapter("Thirty-two connections", lines, rows, document)
