"""`make faults`: kills `cf` and the Docker engine at random moments; one more `cf` puts it right.

    python -m tests.faults [--kills 50] [--daemon-deaths 10] [--first-starts 6] [--seed 7]
                           [--data-kills 10] [--only NAME]
                           [--kill-daemon COMMAND --start-daemon COMMAND]

A stack of real PostgreSQL and stand-ins of the Java services holds a face. In each try a command of
`cf` is cut off at a random moment: killed (-9), interrupted, or left with an engine that was killed
under it. Then `cf status` must know the instance, one more `cf up` or `cf down` must work and say
what it put right, each service must run once, and the face must be there. Exit code 1, with the
seed, when any of this does not hold. The commands on face data come first (tests/faults/data.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.machine import (
    PORTRAITS,
    REGISTRY,
    STACK,
    STANDINS,
    TAG,
    Cf,
    Docker,
    free_port,
    get,
    post_photograph,
    sign_up,
    sql,
)
from tests.faults import data, data_ways
from tests.shared import SHARED, shared

GRACE = PORTRAITS / "grace_hopper.jpg"
_CF_S, _DAEMON_S = 400.0, 120.0
_CONFLICT = 4  # exit code of `cf`
_SHARE_OF_TERM = 0.2  # of the kills that are a Ctrl-C or SIGTERM instead
_ROW = "{:>3}  {:<13} {:>5}  {:<26} {:<12} {:<9} {:<5} {}"


@dataclass(frozen=True, slots=True)
class Way:
    """A command to be cut off, and what must run before it. `usual_s` is a first guess."""

    name: str
    command: str  # up | restart | down
    usual_s: float
    runs_before: bool = True
    more: tuple[str, ...] = ()
    changes: str = ""  # "engine": its settings, "port": the engine's port
    first: bool = False  # on an instance without data


WAYS = (
    Way("first up", "up", 12.0, runs_before=False, first=True),
    Way("up", "up", 11.0, runs_before=False),
    Way("replacing up", "up", 11.0, changes="engine"),
    Way("up, new port", "up", 7.0, changes="port"),
    Way("restart", "restart", 8.0),
    Way("restart --all", "restart", 13.0, more=("--all",)),
    Way("down", "down", 3.0),
)


_NAMES = tuple(way.name for way in WAYS)


@dataclass(frozen=True, slots=True)
class Fault:
    """`number`: what `cf` gets; 0: nothing. `daemon`: when the engine is killed and started."""

    name: str
    number: int = 0
    daemon: str = ""  # "" | "after" the end of cf it starts again | "meanwhile" | "with" cf


KILL = Fault("kill -9 cf", signal.SIGKILL)
TERMS = (Fault("Ctrl-C", signal.SIGINT), Fault("SIGTERM", signal.SIGTERM))
DEATHS = (
    Fault("kill -9 dockerd", daemon="after"),
    Fault("dockerd, soon back", daemon="meanwhile"),
    Fault("kill -9 dockerd and cf", signal.SIGKILL, daemon="with"),
)


class Failed(Exception):
    """What a try must show and did not."""


@dataclass
class Daemon:
    """The commands that kill and start the Docker engine; empty: it is left alone."""

    kill_command: str
    start_command: str

    def kill(self) -> None:
        subprocess.run(["sh", "-c", self.kill_command], check=True, timeout=_DAEMON_S)

    def start(self) -> None:
        done = subprocess.run(
            ["sh", "-c", self.start_command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DAEMON_S,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the Docker engine does not start again:\n{done.stdout}")


class Faults:
    """The stack, and one try after another on it."""

    def __init__(self, cf: Cf, docker: Docker, daemon: Daemon, rng: random.Random) -> None:
        self.cf, self.docker, self.daemon, self.rng = cf, docker, daemon, rng
        self.instance = f"faults-{uuid.uuid4().hex[:6]}"
        self.doors = (free_port(), free_port())
        self.key = ""
        self.rows = 0
        self.usual = {way.name: way.usual_s for way in WAYS}
        self.count = 0
        self.failures: list[str] = []

    # --- the stack ------------------------------------------------------------------------------

    def up(self) -> tuple[str, ...]:
        ports = ("--port", str(self.doors[0]), "--core-port", str(self.doors[1]))
        base = ("up", "embedded", "--launcher", "compose", "--services", "full")
        return (*base, "--instance", self.instance, *ports)

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.doors[0]}"

    def prepare(self) -> None:
        """The first start, and the face that must outlive everything."""
        self._cf(*self.up())
        self.key = sign_up(self.ui)["RECOGNITION"]
        added = f"{self.ui}/api/v1/recognition/faces?subject=Grace"
        status, answer = post_photograph(added, GRACE, key=self.key)
        if status != 201:
            raise SystemExit(f"no face could be stored: {answer}")
        self.rows = self._rows()

    def _rows(self) -> int:
        return int(sql(self.instance, "select count(*) from embedding"))

    def _cf(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            done = self.cf.run(*arguments, timeout_s=_CF_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"cf {' '.join(arguments)}: not done after {_CF_S:.0f} s") from None
        if done.returncode == _CONFLICT and self._end_stale_proxies(done.stderr):
            done = self.cf.run(*arguments, timeout_s=_CF_S)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise Failed(f"cf {' '.join(arguments)}: exit code {done.returncode}\n{said[-3000:]}")
        return done

    def _end_stale_proxies(self, words: str) -> bool:
        """Whether Docker still held ports of containers it had removed, and now holds them no more.

        A dockerd that died while a container started opens the container's ports when it starts
        again, then removes its network as stale and leaves docker-proxy (26.1.5: 5 of 12 such
        deaths, before any `cf` ran). `cf up` names the port and that process, as it should.
        """
        pids = [int(pid) for pid in re.findall(r"docker-proxy \(pid (\d+)\)", words)]
        if not pids or self._containers():
            return False
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        print(f"     Docker held ports of removed containers: docker-proxy {pids} ended")
        time.sleep(1)
        return True

    def _containers(self) -> dict[str, int]:
        label = f"--filter=label=com.docker.compose.project=cf-{self.instance}"
        service = '--format={{.Label "com.docker.compose.service"}}'
        names = self.docker("ps", "--all", label, service).split()
        return {name: names.count(name) for name in names}

    # --- a try ----------------------------------------------------------------------------------

    def one(self, way: Way, fault: Fault) -> None:
        """Cut the command off once; prints its row, or the whole story when it has failed."""
        self.count += 1
        began, at, story = time.monotonic(), 0.0, [""]
        state, said, data = "", "", "-"
        try:
            at, story = self._cut(way, fault)
            state = self._state(fault)
            said = self._put_right(way, fault, state, story)
            self._whole()
            data = "empty" if way.first else self._face()
        except Failed as failed:
            data = "FAIL"
            self.failures.append(f"{self.count}: {way.name}, {fault.name} after {at:.2f} s")
            said = f"{failed}\n  the command that was cut off had said:\n" + "\n".join(
                f"    {line}" for line in story
            )
        row = (self.count, way.name, f"{at:.1f}", fault.name, state, data)
        print(_ROW.format(*row, f"{time.monotonic() - began:.0f} s", said), flush=True)
        if data == "FAIL":
            self._start_over()

    def _cut(self, way: Way, fault: Fault) -> tuple[float, list[str]]:
        """Run the command and strike at a random moment; when, and what it had said."""
        while True:
            arguments = self._ready(way)
            usual = self.usual[way.name]
            at = self.rng.uniform(0.02, 1.0) * usual
            with tempfile.TemporaryFile("w+") as spoken:
                child = self.cf.start(*arguments, output=spoken)
                try:
                    ended = self._strike(child, fault, at)
                finally:
                    child.kill()
                    child.wait()
                spoken.seek(0)
                story = spoken.read().splitlines()
            if not ended:
                if fault.daemon == "after":
                    self.daemon.start()
                return at, story
            # It was faster than `at`: no fault. Its own time is the better guess.
            if child.returncode:
                raise Failed(f"cf {' '.join(arguments)} failed before anything was done to it")
            self.usual[way.name] = min(usual * 0.9, at)

    def _strike(self, child: subprocess.Popen[str], fault: Fault, at: float) -> bool:
        """Whether the command had ended before."""
        try:
            child.wait(at)
            return True
        except subprocess.TimeoutExpired:
            pass
        if fault.daemon:
            self.daemon.kill()
        if fault.number:
            child.send_signal(fault.number)
        if fault.daemon in ("with", "meanwhile"):
            if fault.daemon == "meanwhile":
                time.sleep(self.rng.uniform(0.0, 2.0))
            self.daemon.start()
        try:
            child.wait(_CF_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"it did not end within {_CF_S:.0f} s after the fault") from None
        return False

    def _ready(self, way: Way) -> tuple[str, ...]:
        """Bring about what the command starts from; its arguments."""
        if way.first:
            self._forget()
        elif way.runs_before:
            self._cf(*self.up())
        else:
            self._cf(*self.up())
            self._cf("down", self.instance)
        if way.changes == "engine":
            self.cf.environment["CF_MAX_DETECT_SIZE"] = str(self.rng.randrange(640, 1600))
        if way.changes == "port":
            self.doors = (self.doors[0], free_port())
        if way.command == "up":
            return self.up()
        return (way.command, self.instance, *way.more)

    def _state(self, fault: Fault) -> str:
        """What `cf status` says: it never denies an instance that has containers."""
        there = self._containers()
        done = self.cf.run("status", self.instance, "--json")
        if done.returncode not in (0, 3, 8):
            raise Failed(f"cf status: exit code {done.returncode}\n{done.stderr}")
        if done.returncode == 3:
            if there:
                raise Failed(f"cf status denies the instance, {sorted(there)} are there")
            return "forgotten"
        (seen,) = json.loads(done.stdout)["instances"]
        state, url = str(seen["state"]), str(seen["engine_url"])
        if fault.number in (signal.SIGINT, signal.SIGTERM) and state == "interrupted":
            pass  # a second engine may be on its way out; what counts is the next command
        elif state == "interrupted" and "was cut off" not in seen["detail"]:
            raise Failed(f"cf status does not say what was cut off: {seen['detail']}")
        published = self._published()
        if published and f":{published}" not in url:
            raise Failed(f"cf status names {url}, the engine's port is {published}")
        return state

    def _published(self) -> str:
        """The port on which the engine can be reached through the UI's container now."""
        name = f"cf-{self.instance}-compreface-fe-1"
        said = self.docker("port", name, "3000/tcp", check=False).splitlines()
        return said[0].rpartition(":")[2] if said and said[0].startswith("127.0.0.1:") else ""

    def _put_right(self, way: Way, fault: Fault, state: str, story: Sequence[str]) -> str:
        """The next command works, and says what it has put right."""
        down = state != "forgotten" and self.rng.random() < 0.35
        before = sorted(self._containers())
        done = self._cf("down", self.instance) if down else self._cf(*self.up())
        lines = done.stderr.splitlines()
        told = next((line for line in lines if "was cut off" in line), "")
        if state == "interrupted" and not told:
            raise Failed(f"it was interrupted, and the next command says nothing:\n{done.stderr}")
        if down:
            if self._containers():
                raise Failed(f"cf down has left {sorted(self._containers())}")
            self._cf(*self.up())
        word = "down" if down else "up"
        return f"{word}: {told}" if told else f"{word} ({len(before)} containers before)"

    def _whole(self) -> None:
        """Each service runs once, the engine answers at its port, nothing else is left."""
        wanted = dict.fromkeys((*STACK, "compreface-core"), 1)
        if self._containers() != wanted:
            raise Failed(f"these containers are there: {self._containers()}")
        (seen,) = json.loads(self._cf("status", self.instance, "--json").stdout)["instances"]
        if seen["state"] != "running":
            raise Failed(f"it is {seen['state']}: {seen['detail']}")
        url = str(seen["engine_url"])
        if not url.endswith(f":{self.doors[1]}") or get(f"{url}/status")[0] != 200:
            raise Failed(f"the engine does not answer at {url}, its port is {self.doors[1]}")
        left = self.docker.things_of(f"cf-{self.instance}-trial")
        home = self.cf.data / "projects"
        left += [
            path.name for path in home.glob(f"*{self.instance}*") if path.name != self.instance
        ]
        if left:
            raise Failed(f"this is left: {left}")

    def _face(self) -> str:
        found: Any = None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status, found = post_photograph(
                f"{self.ui}/api/v1/recognition/recognize", GRACE, key=self.key
            )
            if status == 200 and found["result"][0]["subjects"][0]["subject"] == "Grace":
                break
            time.sleep(0.5)
        else:
            raise Failed(f"the face is not there: {found}")
        if (rows := self._rows()) != self.rows:
            raise Failed(f"{rows} embeddings are there, {self.rows} were")
        return "there"

    def _forget(self) -> None:
        """An instance that never was."""
        self.docker.sweep(f"cf-{self.instance}")
        for folder in (self.cf.data / "projects", self.cf.home / ".local/state"):
            subprocess.run(["rm", "-rf", str(folder)], check=True)
        self.instance = f"faults-{uuid.uuid4().hex[:6]}"
        self.doors = (free_port(), free_port())
        self.cf.environment.pop("CF_MAX_DETECT_SIZE", None)

    def _start_over(self) -> None:
        """After a failure the next try must not suffer from it."""
        self._forget()
        self.prepare()


def tries(rng: random.Random, kills: int, deaths: int, first: int) -> Iterator[tuple[Way, Fault]]:
    """All ways in turn, in an order and with faults of the seed's; `first` more of first starts."""
    ways = [way for way in WAYS if not way.first]
    plan: list[tuple[Way, Fault]] = []
    for count, faults in ((kills, ()), (deaths, DEATHS)):
        for place in range(count):
            one = faults[place % len(faults)] if faults else KILL
            if not faults and rng.random() < _SHARE_OF_TERM:
                one = rng.choice(TERMS)
            plan.append((ways[place % len(ways)], one))
    rng.shuffle(plan)
    yield from plan
    # These last: they end with an instance without the face.
    starts = (KILL, DEATHS[0], TERMS[0]) if deaths else (KILL, TERMS[0])
    for place in range(first):
        yield WAYS[0], starts[place % len(starts)]


@contextmanager
def images(docker: Docker) -> Iterator[dict[str, str]]:
    """The stand-ins' images, as settings that choose them; removed afterwards."""
    dump = f"--build-context=dump={shared('contract', 'stack')}"
    try:
        for name in STACK:
            docker.build(STANDINS, f"{REGISTRY}{name}:{TAG}", f"--target={name}", dump)
        versions = {f"CF_{part}_VERSION": TAG for part in ("ADMIN", "API", "FE", "POSTGRES")}
        yield {"CF_REGISTRY": REGISTRY, **versions}
    finally:
        docker.forget()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of cf, with --only of it (50)")
    parser.add_argument("--daemon-deaths", type=int, default=10, help="of the engine (10)")
    parser.add_argument("--first-starts", type=int, default=6, help="cut off beside these (6)")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    parser.add_argument(
        "--only", default="", help=f"a command: {', '.join((*_NAMES, *data_ways.WAYS))}"
    )
    parser.add_argument(
        "--data-kills", type=int, default=None, help="of each command on face data (default: 10)"
    )
    parser.add_argument("--kill-daemon", default="", metavar="COMMAND")
    parser.add_argument("--start-daemon", default="", metavar="COMMAND")
    asked = parser.parse_args()
    docker = Docker()
    if not docker.answers():
        print("skipped: no Docker engine answers")
        return 0
    if SHARED is None:
        print("skipped: the shared folder with a database of the real services is absent")
        return 0
    deaths = asked.daemon_deaths
    if deaths and not (asked.kill_daemon and asked.start_daemon):
        print("skipped: the engine's deaths (no --kill-daemon and --start-daemon were given)")
        deaths = 0
    seed = random.randrange(100_000) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    daemon = Daemon(asked.kill_daemon, asked.start_daemon)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cf-faults-") as folder, images(docker) as settings:
        cf = Cf(Path(folder))
        cf.environment |= settings
        of_data = 0
        if asked.only in ("", *data_ways.WAYS):
            kills = asked.kills if asked.only else 10
            kills = kills if asked.data_kills is None else asked.data_kills
            names = [asked.only] if asked.only else list(data_ways.WAYS)
            of_data = _of_data(cf, docker, daemon if deaths else None, rng, names, kills)
        if asked.only in data_ways.WAYS:
            return of_data
        one = Faults(cf, docker, daemon, rng)
        try:
            one.prepare()
            print(
                _ROW.format("", "command", "s", "fault", "status then", "data", "", "what it said")
            )
            for way, fault in tries(rng, asked.kills, deaths, asked.first_starts):
                if asked.only in ("", way.name):
                    one.one(way, fault)
        finally:
            docker.sweep(f"cf-{one.instance}")
    took = time.monotonic() - began
    print(f"{one.count} faults in {took:.0f} s, {len(one.failures)} failed; seed {seed}")
    for line in one.failures:
        print(f"  {line}")
    return 1 if one.failures or of_data else 0


def _of_data(
    cf: Cf,
    docker: Docker,
    daemon: Daemon | None,
    rng: random.Random,
    names: list[str],
    kills: int,
) -> int:
    """The faults of the commands on face data; 1 if one has failed."""

    def die() -> None:
        if daemon is not None:
            daemon.kill()
            time.sleep(rng.uniform(0.0, 2.0))
            daemon.start()

    began = time.monotonic()
    faults = data.DataFaults(cf, docker, rng, Path(cf.home).parent, die if daemon else None)
    try:
        faults.run(names, kills, deaths=kills // 10)
    finally:
        docker.sweep(f"cf-{faults.ground.instance}")
    took = time.monotonic() - began
    print(f"{faults.count} faults of face data in {took:.0f} s, {len(faults.failures)} failed")
    for line in faults.failures:
        print(f"  {line}")
    return 1 if faults.failures else 0


if __name__ == "__main__":
    sys.exit(main())
