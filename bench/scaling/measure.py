"""Measures what the simulation is held against: one, two and four engines of one running stack.

    python -m bench.scaling measure INSTANCE --key KEY --photo PHOTO [--out FILE]

INSTANCE is a full stack of `cf up`; KEY is the key of its recognition service, which knows the face
of PHOTO. On a machine with few cores the engines must not compete for them, or nothing but that
is measured. So each has a share of its own, in `compose.override.yaml` of the instance's folder:

    services:
      compreface-core: {cpu_period: 10000, cpu_quota: 1000}

The short period makes the share, a tenth of a core here, even. All numbers of engines are measured
in turn, several times, since other work on the machine moves every figure; each row has the load
average beside it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from bench.load import multipart
from bench.scaling.simulation import poisson
from compreface_cli.docker import client, containers

ENGINES = (1, 2, 4)
CONNECTIONS = (1, 4, 16)
SHARES = (0.5, 0.8)  # of the engines' capacity, as a Poisson stream
SENDERS = 256  # threads of the stream: more than the api answers at once
PAUSE_S = 6.5  # the api has then closed its idle connections, so that each load begins alike
_FIELDS = "?limit=0&detect_faces=true&face_plugins=calculator"  # what the api asks an engine for
_RECOGNIZE = "/api/v1/recognition/recognize"


@dataclass(slots=True)
class Seen:
    """The answers of one load."""

    times_s: list[float] = field(default_factory=list)
    failed: int = 0
    lasted_s: float = 0.0

    def row(self) -> dict[str, Any]:
        times = sorted(self.times_s)
        return {
            "answered": len(times),
            "failed": self.failed,
            "per_s": round(len(times) / self.lasted_s, 2),
            "p50_s": round(times[len(times) // 2], 4),
            "p95_s": round(times[int(0.95 * len(times))], 4),
        }


class Sender:
    """Posts one photograph over a kept-alive connection."""

    def __init__(self, url: str, picture: bytes, key: str = "") -> None:
        address = urlsplit(url)
        self._at = address.hostname or "", address.port or 80
        self._path = address.path + (f"?{address.query}" if address.query else "")
        self._body, self._headers = multipart(picture)
        if key:
            self._headers["x-api-key"] = key
        self._connection = http.client.HTTPConnection(*self._at, timeout=90)

    def __call__(self) -> bool:
        """Whether the answer is 200."""
        try:
            self._connection.request("POST", self._path, self._body, self._headers)
            answer = self._connection.getresponse()
            answer.read()
            return answer.status == 200
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False


def connections(make: Callable[[], Sender], count: int, seconds: float) -> Seen:
    """A number of connections, each of which sends as soon as it is answered."""
    seen, ends = Seen(), time.monotonic() + seconds

    def send_on() -> None:
        send = make()
        while (began := time.monotonic()) < ends:
            if send():
                seen.times_s.append(time.monotonic() - began)
            else:
                seen.failed += 1

    _together([threading.Thread(target=send_on) for _ in range(count)], seen)
    return seen


def stream(make: Callable[[], Sender], rate: float, seconds: float, seed: int) -> Seen:
    """A Poisson stream; a request's time begins when it is due, not when a thread is free."""
    seen, due = Seen(), SimpleQueue[float | None]()
    arrivals = poisson(rate, seconds, seed)

    def send_on() -> None:
        send = make()
        while (began := due.get()) is not None:
            if send():
                seen.times_s.append(time.monotonic() - began)
            else:
                seen.failed += 1

    def arrive() -> None:
        began = time.monotonic()
        for at in arrivals:
            time.sleep(max(0.0, began + at - time.monotonic()))
            due.put(began + at)
        for _ in range(SENDERS):
            due.put(None)

    senders = [threading.Thread(target=send_on) for _ in range(SENDERS)]
    _together([*senders, threading.Thread(target=arrive)], seen)
    return seen


def _together(threads: Sequence[threading.Thread], seen: Seen) -> None:
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.lasted_s = time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Used:
    """What the containers of one service have used since they started."""

    cpu_s: float
    received: int
    sent: int
    memory: int


def used(project: str) -> dict[str, Used]:
    """By the names of the services, all their containers together."""
    found: dict[str, Used] = {}
    at_once: dict[str, Any] = {"stream": False, "one-shot": True}
    for item in containers.of_project(project):
        stats = client.get(f"containers/{item.id}/stats", **at_once)
        networks = (stats.get("networks") or {}).values()
        before = found.get(item.service, Used(0, 0, 0, 0))
        found[item.service] = Used(
            before.cpu_s + stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
            before.received + sum(each["rx_bytes"] for each in networks),
            before.sent + sum(each["tx_bytes"] for each in networks),
            before.memory + _resident(stats["memory_stats"]),
        )
    return found


def _resident(stats: dict[str, Any]) -> int:
    """Memory without the page cache, as `docker stats` counts it."""
    detail = stats.get("stats") or {}
    cache = detail.get("inactive_file", detail.get("total_inactive_file", 0))
    return int(stats.get("usage", 0)) - int(cache)


def scale(project: str, engines: int) -> None:
    """Run so many engines."""
    folder = next(item.folder for item in containers.of_project(project) if item.folder)
    words = ["docker", "compose", f"--project-name={project}", f"--project-directory={folder}"]
    more = ["--detach", "--no-build", "--no-deps", "--wait", f"--scale=compreface-core={engines}"]
    subprocess.run([*words, "up", *more, "compreface-core"], check=True, capture_output=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows, each number of engines in turn; progress on stdout."""
    picture = options.photo.read_bytes()
    project = f"cf-{options.instance}"

    def asking() -> Sender:
        return Sender(options.url + _RECOGNIZE, picture, options.key)

    scale(project, 1)
    alone, parts = _alone(options, project, picture, asking)
    capacity = 1 / (sum(alone) / len(alone))
    document: dict[str, Any] = {
        "engine_alone_s": [round(taken, 4) for taken in alone],
        "parts": parts,
        "photograph_bytes": len(picture),
        "seconds": options.seconds,
        "runs": [],
    }
    for turn in range(options.rounds):
        for engines in options.engines:
            scale(project, engines)
            for count in CONNECTIONS:
                _row(document, options, turn, engines, connections=count * engines, make=asking)
            for share in SHARES:
                rate = round(share * engines * capacity, 2)
                _row(document, options, turn, engines, rate=rate, make=asking)
    return document


def _row(
    document: dict[str, Any],
    options: argparse.Namespace,
    turn: int,
    engines: int,
    *,
    make: Callable[[], Sender],
    **load: float,
) -> None:
    time.sleep(PAUSE_S)
    if "rate" in load:
        seen = stream(make, load["rate"], options.seconds, seed=turn)
    else:
        seen = connections(make, int(load["connections"]), options.seconds)
    row = {"turn": turn, "engines": engines, **load, **seen.row()}
    document["runs"].append({**row, "load_average": round(os.getloadavg()[0], 1)})
    print(json.dumps(document["runs"][-1]), flush=True)


def _alone(
    options: argparse.Namespace, project: str, picture: bytes, asking: Callable[[], Sender]
) -> tuple[list[float], dict[str, Any]]:
    """Seconds of a photograph in one engine, one after another, and what each part uses for one."""
    engine = next(item for item in containers.of_project(project) if "core" in item.service)
    networks = client.get(f"containers/{engine.id}/json")["NetworkSettings"]["Networks"]
    address = next(each["IPAddress"] for each in networks.values())
    direct = Sender(f"http://{address}:3000/find_faces{_FIELDS}", picture)
    for _ in range(5):
        direct()
    alone = connections(lambda: direct, 1, 2 * options.seconds)
    through = asking()
    through()
    before = used(project)
    seen = connections(lambda: through, 1, options.seconds)
    after, count = used(project), len(seen.times_s)
    parts = {
        service: {
            "cpu_ms": round((now.cpu_s - before[service].cpu_s) / count * 1e3, 2),
            "received": round((now.received - before[service].received) / count),
            "sent": round((now.sent - before[service].sent) / count),
            "memory_mb": round(now.memory / 1e6),
        }
        for service, now in after.items()
    }
    print(json.dumps({"alone": sum(alone.times_s) / len(alone.times_s), "parts": parts}))
    return alone.times_s, parts


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instance")
    parser.add_argument("--key", required=True)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--engines", type=int, nargs="+", default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--out", type=Path)
