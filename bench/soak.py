"""The soak test: half an hour of good and bad requests, disconnects and random kills.

    python -m bench.soak --minutes 30 [--build embedded|facenet|mobilenet] [--shared FOLDER]

The engine runs under `cf`'s own supervisor. The expected answer of each request is recorded once at
the start; later every answer must equal it or be a refusal (503 with Retry-After). A connection may
break only around a kill. Nothing is killed in the last third: memory, open files and threads must
not grow there. The exit code is 1 where one of these conditions fails.
"""

from __future__ import annotations

import argparse
import base64
import collections
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import servers, soak_pictures
from bench.load import multipart, progress
from bench.processes import free_port
from bench.soak_rules import Downtime, same
from compreface_cli import resources
from compreface_cli.launchers.supervisor import start_time

CLIENTS = 8
SEED = 20
KILL_EVERY_S = (20.0, 120.0)
SAMPLE_EVERY_S = 5.0
_ALL = "?face_plugins=calculator,landmarks,pose"
BUILDS = {
    "embedded": servers.Build(
        "embedded.FaceDetector@mtcnn", "embedded.Calculator@mobilefacenet192", ()
    ),
    "facenet": servers.FACENET_BUILD,
    "mobilenet": servers.MOBILENET_BUILD,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client."""

    name: str
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `document` is None where it is not JSON or differs from call to call."""

    status: int
    document: Any


def requests(shared: Path | None) -> list[Request]:
    """Good and bad requests, by name."""
    pictures = {
        path.name: path.read_bytes() for path in sorted(resources.portraits_dir().glob("*.[jp]*g"))
    }
    if shared is not None:
        samples = sorted((shared / servers.SAMPLES).glob("*.jpg"))
        pictures |= {path.name: path.read_bytes() for path in samples}
        broken = sorted((shared / "contract/golden/inputs").iterdir())
        pictures |= {path.name: path.read_bytes() for path in broken if path.is_file()}
    first = next(iter(pictures.values()))
    rng = random.Random(SEED)
    pictures |= {
        "noise": rng.randbytes(20_000),
        "nothing": b"",
        "half a picture": first[: len(first) // 2],
        "a flipped picture": bytes(b ^ 0x55 for b in first[:4000]),
        "text": b"no picture at all " * 50,
    }
    pictures |= soak_pictures.large()
    requests = [
        Request(f"find {name}", "POST", f"/find_faces{_ALL}", *multipart(data))
        for name, data in pictures.items()
    ]
    encoded = json.dumps({"file": base64.b64encode(first).decode()}).encode()
    as_json = {"Content-Type": "application/json"}
    requests += [
        Request(f"large, {query}", "POST", f"/find_faces?{query}", *multipart(data))
        for data in (soak_pictures.large_portrait(),)
        for query in ("limit=1", "limit=abc", "det_prob_threshold=1", "det_prob_threshold=x")
    ]
    form, headers = multipart(first)
    requests += [
        Request("base64", "POST", "/find_faces_base64", encoded, as_json),
        Request("scan", "POST", "/scan_faces", form, headers),
        Request("whole picture", "POST", "/find_faces?detect_faces=false", form, headers),
        Request("bad JSON", "POST", "/find_faces_base64", b'{"file": ', as_json),
        Request("bad base64", "POST", "/find_faces_base64", b'{"file": "a"}', as_json),
        Request("no file", "POST", "/find_faces", b"", {"Content-Type": "text/plain"}),
        Request("bad limit", "POST", "/find_faces?limit=-3", form, headers),
        Request("bad threshold", "POST", "/find_faces?det_prob_threshold=x", form, headers),
        Request("threshold 0", "POST", "/find_faces?det_prob_threshold=0", form, headers),
        Request("no route", "GET", "/nothing"),
        Request("wrong method", "GET", "/find_faces"),
        Request("status", "GET", "/status"),
        Request("live", "GET", "/live"),
    ]
    return requests


class Soak:
    """The clients, the kills and their results."""

    def __init__(self, port: int, folder: Path, asked: Sequence[Request]) -> None:
        self._port, self._folder, self._asked = port, folder, asked
        self._expected: dict[str, Answer] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._downtime = Downtime()
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.samples: list[tuple[float, int, int, int]] = []  # s, resident bytes, files, threads

    def learn(self) -> None:
        """Sends each request once and records the expected answers."""
        for request in self._asked:
            self._expected[request.name] = self._ask(request)

    def run(self, seconds: float) -> None:
        begun = time.monotonic()
        clients = [threading.Thread(target=self._client, args=(i,)) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        rng = random.Random(SEED)
        next_kill, next_sample = begun + rng.uniform(*KILL_EVERY_S), begun
        while (now := time.monotonic()) < begun + seconds:
            if now >= next_sample:
                self._sample(now - begun)
                next_sample = now + SAMPLE_EVERY_S
                progress(f"{int(now - begun)} of {int(seconds)} s, {self.counts.total()} requests")
            if now >= next_kill and now < begun + seconds * 2 / 3:
                self._kill(rng)
                next_kill = time.monotonic() + rng.uniform(*KILL_EVERY_S)
            time.sleep(0.2)
        self._stop.set()
        for client in clients:
            client.join()
        progress("")

    def _client(self, number: int) -> None:
        rng = random.Random(SEED + number)
        ways: list[tuple[Callable[[random.Random], None], int]] = [
            (self._proper, 16), (self._vanish, 2), (self._dribble, 1),
        ]  # fmt: skip
        while not self._stop.is_set():
            way = rng.choices([w for w, _ in ways], [share for _, share in ways])[0]
            began = time.monotonic()
            try:
                way(rng)
            except (OSError, http.client.HTTPException) as error:
                self._broken(began, f"{way.__name__}: {type(error).__name__}: {error}")
                time.sleep(0.2)

    def _proper(self, rng: random.Random) -> None:
        request = rng.choice(self._asked)
        began = time.monotonic()
        self._judge(request, began, self._ask(request))

    def _vanish(self, rng: random.Random) -> None:
        """Sends a part of a request, or all of it, and disconnects at once."""
        request = rng.choice(self._asked)
        data = self._raw(request)
        sent = data if rng.random() < 0.5 else data[: rng.randrange(1, len(data) + 1)]
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(sent)
            if rng.random() < 0.5:  # a reset instead of an orderly close
                option = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._count("vanished")

    def _dribble(self, rng: random.Random) -> None:
        """Sends slowly and is answered like any other."""
        request = rng.choice([r for r in self._asked if len(r.body) < 200_000])
        data = self._raw(request)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            step = max(1, len(data) // 20)
            for start in range(0, len(data), step):
                connection.sendall(data[start : start + step])
                time.sleep(0.02)
            response = http.client.HTTPResponse(connection, method=request.method)
            response.begin()
            self._judge(request, began, _read(response))

    def _raw(self, request: Request) -> bytes:
        head = [f"{request.method} {request.path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        head += [f"{key}: {value}" for key, value in request.headers.items()]
        head += [f"Content-Length: {len(request.body)}"]
        return "\r\n".join([*head, "", ""]).encode() + request.body

    def _ask(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(request.method, request.path, request.body or None, request.headers)
            return _read(connection.getresponse())
        finally:
            connection.close()

    def _judge(self, request: Request, began: float, answer: Answer) -> None:
        expected = self._expected[request.name]
        if answer.status == 503:
            self._count("refused")
        elif answer.status != expected.status:
            self._note(f"{request.name}: {answer.status} instead of {expected.status}")
        elif not same(expected.document, answer.document):
            self._note(f"{request.name}: another answer, {str(answer.document)[:200]}")
        else:
            self._count(f"answered {answer.status}")
            with self._lock:
                self._downtime.answered(began)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _note(self, what: str) -> None:
        with self._lock:
            self.counts["WRONG"] += 1
            self.wrong.append(what)

    def _broken(self, began: float, what: str) -> None:
        """Notes a broken connection: allowed where the process was killed or is not back yet."""
        with self._lock:
            if self._downtime.covers(began):
                self.counts["broken by a kill"] += 1
                return
        self._note(f"broken without a kill: {what}")

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self._folder / "state.json").read_text("utf-8"))
        return state

    def _kill(self, rng: random.Random) -> None:
        child = self._state()["child"]
        if child is None:
            return
        with self._lock:
            self._downtime.kill()
        os.kill(child["pid"], rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGABRT)))
        while start_time(child["pid"]) == child["started"]:
            time.sleep(0.001)
        with self._lock:
            self._downtime.gone()
        self._count("killed")

    def _sample(self, at: float) -> None:
        child = self._state()["child"]
        try:
            folder = Path(f"/proc/{child['pid']}")
            status = dict(
                line.split(":", 1) for line in (folder / "status").read_text().splitlines()
            )
            resident = int(status["VmRSS"].split()[0]) * 1024
            files = len(list((folder / "fd").iterdir()))
            self.samples.append((at, resident, files, int(status["Threads"])))
        except (OSError, TypeError, KeyError):  # it was just killed
            return


def _read(response: http.client.HTTPResponse) -> Answer:
    body = response.read()
    if response.status == 503 and not response.headers.get("Retry-After"):
        return Answer(-503, "a refusal without Retry-After")
    try:
        return Answer(response.status, json.loads(body))
    except ValueError:
        return Answer(response.status, None)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    seconds = options.minutes * 60
    build = BUILDS[options.build]
    if build.models and options.shared is None:
        print("this build's weights lie in the shared folder: give --shared", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder, port = Path(name), free_port()
        _write_spec(folder, port, build, options.shared)
        command = [sys.executable, "-m", "compreface_cli.launchers.supervisor", str(folder)]
        supervisor = subprocess.Popen(command, cwd=servers.ROOT)
        try:
            soak = Soak(port, folder, requests(options.shared))
            _wait(port)
            soak.learn()
            soak.run(seconds)
            restarts = soak._state()["restarts"]
            log = (folder / "engine.log").read_text(errors="replace")
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(60)
    return _report(soak, seconds, restarts, log)


def _report(soak: Soak, seconds: float, restarts: int, log: str) -> int:
    quiet = [sample for sample in soak.samples if sample[0] >= seconds * 2 / 3]
    # The first third of the time without kills warms the caches of the last process.
    early, late = quiet[len(quiet) // 3 : 2 * len(quiet) // 3], quiet[2 * len(quiet) // 3 :]
    print(f"{seconds / 60:.0f} minutes, {CLIENTS} clients, {restarts} restarts after kills")
    for what, count in soak.counts.most_common():
        print(f"  {what:<22}{count:>8}")
    grown = 0.0
    for title, index, unit in (("resident, MB", 1, 1e6), ("files", 2, 1), ("threads", 3, 1)):
        # The minimum, since two pictures of 20 or 169 megapixels at once are a peak, not a leak.
        first, last = (min(sample[index] for sample in part) / unit for part in (early, late))
        peak = max(sample[index] for sample in quiet) / unit
        print(f"  {title:<14}{first:8.1f} then {last:8.1f}, at most {peak:.1f}")
        grown = max(grown, last / first - 1)
    for line in soak.wrong[:20]:
        print(f"  wrong: {line}")
    if "Traceback" in log:
        print("  the engine's log holds a traceback")
    good = not soak.wrong and "Traceback" not in log and grown < 0.1
    print("held" if good else "DID NOT HOLD")
    return 0 if good else 1


def _write_spec(folder: Path, port: int, build: servers.Build, shared: Path | None) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("CF_")},
        "PYTHONPATH": str(servers.ROOT / "engine"),
        "CF_PORT": str(port),
        "FACE_DETECTION_PLUGIN": build.detector,
        "CALCULATION_PLUGIN": build.calculator,
        "LOGGING_LEVEL_NAME": "info",
        **dict(build.environment),
    }
    if build.models and shared is not None:
        environment["CF_MODELS_DIR"] = str(servers.prepared(shared, build.models))
    # Kills every few seconds are the test here, not a reason to back off.
    spec = {
        "argv": [sys.executable, "-m", "compreface_engine"],
        "env": environment,
        "quick_s": 0.5,
        "give_up_after": 1000,
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")


def _wait(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the engine did not start")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--build", choices=tuple(BUILDS), default="embedded")
    folder = os.environ.get("CF_SHARED")
    parser.add_argument("--shared", type=Path, default=Path(folder) if folder else None)
    return parser


if __name__ == "__main__":
    sys.exit(main())
