"""Faults of the commands on face data: cut off at random moments, full disks, broken archives.

After each the faces are counted by SQL against what was there: none is lost, none is mixed, and the
same command run again works and leaves nothing over.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.e2e.machine import Cf, Docker
from tests.faults.data_ways import WAYS, Way, kill_postgres
from tests.faults.ground import Failed, Ground, small_disk

_ROW = "{:>3}  {:<9} {:>6}  {:<22} {:<5} {:>5}  {}"
_KINDS = ("kill -9 cf",) * 6 + ("Ctrl-C", "SIGTERM", "kill -9 PostgreSQL")


class DataFaults:
    """One ground, and one try after another on it."""

    def __init__(
        self,
        cf: Cf,
        docker: Docker,
        rng: random.Random,
        folder: Path,
        kill_daemon: Callable[[], None] | None,
    ) -> None:
        self.ground = Ground(cf, docker, rng, folder)
        self.rng, self.kill_daemon = rng, kill_daemon
        self.count = 0
        self.failures: list[str] = []
        self.usual: dict[str, float] = {}

    def run(self, names: list[str], kills: int, deaths: int) -> None:
        self.ground.prepare()
        print(_ROW.format("", "command", "s", "fault", "data", "", "what became of it"), flush=True)
        for name in names:
            way = WAYS[name](self.ground)
            self.usual[name] = way.usual_s
            try:
                for fault in self._faults(kills, deaths):
                    self._try(name, fault, partial(self._cut, way, fault))
                for fault, body in self._special(name, way):
                    self._try(name, fault, body)
            finally:
                way.close()

    def _faults(self, kills: int, deaths: int) -> Iterator[str]:
        for place in range(kills):
            # A quarter of them otherwise than by kill -9, one of each at least.
            yield _KINDS[6 + place % 3] if place % 4 == 3 else _KINDS[0]
        if self.kill_daemon is not None:
            yield from ("kill -9 dockerd",) * deaths

    def _try(self, name: str, fault: str, body: Callable[[], tuple[float, str]]) -> None:
        self.count += 1
        began, at, data = time.monotonic(), 0.0, "there"
        try:
            at, said = body()
        except Failed as failed:
            data, said = "FAIL", str(failed)
            self.failures.append(f"{self.count}: {name}, {fault}: {said.splitlines()[0]}")
        took = f"{time.monotonic() - began:.0f} s"
        row = (self.count, name, f"{at:.2f}", fault, data, took)
        print(_ROW.format(*row, said), flush=True)

    def _cut(self, way: Way, fault: str) -> tuple[float, str]:
        """Run the command, strike at a random moment, and see that the next run puts it right."""
        while True:
            arguments = way.ready()
            at = self.rng.uniform(0.0, 1.0) * self.usual[way.name]
            with tempfile.TemporaryFile("w+") as spoken:
                began = time.monotonic()
                child = self.ground.cf.start(*arguments, output=spoken)
                try:
                    ended = self._strike(child, way, fault, at)
                finally:
                    child.kill()
                    child.wait()
                took = time.monotonic() - began
                spoken.seek(0)
                story = spoken.read()[-3000:]
            if not ended:
                try:
                    return at, way.put_right()
                except Failed as failed:
                    why = f"{failed}\n  cut off after {at:.2f} s, when it had said:\n{story}"
                    raise Failed(why) from None
            if child.returncode:
                raise Failed(f"cf {' '.join(arguments)} failed by itself\n{story}")
            self.usual[way.name] = took  # it was faster: no fault
            way.put_right()

    def _strike(self, child: subprocess.Popen[str], way: Way, fault: str, at: float) -> bool:
        """Whether the command had ended before."""
        try:
            child.wait(at)
            return True
        except subprocess.TimeoutExpired:
            pass
        if fault == "kill -9 PostgreSQL":
            kill_postgres(self.ground.docker, way.database())
        elif fault == "kill -9 dockerd" and self.kill_daemon is not None:
            self.kill_daemon()
        else:
            numbers = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
            child.send_signal(numbers.get(fault, signal.SIGKILL))
        try:
            child.wait(400)
        except subprocess.TimeoutExpired:
            raise Failed("it did not end within 400 s after the fault") from None
        if fault == "kill -9 dockerd":
            if child.returncode == 0:
                return True  # the engine was back in time for it
            self.ground.up_again()
        return False

    # --- other faults ---------------------------------------------------------------------------

    def _special(
        self, name: str, way: Way
    ) -> Iterator[tuple[str, Callable[[], tuple[float, str]]]]:
        if name in ("backup", "restore"):
            yield "full disk", lambda: self._full(name, way)
        if name == "restore":
            for place in range(10):
                yield "archive, a byte", lambda: self._damaged(way, flip=True)
                if place % 2:
                    yield "archive, truncated", lambda: self._damaged(way, flip=False)
        yield "two at once", lambda: self._twice(way)

    def _full(self, name: str, way: Way) -> tuple[float, str]:
        """A backup into a folder that is too small, a restore whose temporary files are."""
        arguments = list(way.ready())
        with small_disk(8) as folder:
            if folder is None:
                return 0.0, "skipped: no file system can be mounted here"
            environment = self.ground.cf.environment
            if name == "backup":
                arguments[arguments.index("-o") + 1] = str(folder / "x.cfbackup")
                done = self.ground.run(*arguments)
                left = [path.name for path in folder.iterdir() if path.name != "lost+found"]
            else:
                environment["TMPDIR"] = str(folder)
                try:
                    source = Path(arguments[2]).read_bytes()
                    done = self._piped(["data", "restore", "-", *arguments[3:]], source)
                finally:
                    del environment["TMPDIR"]
                left = [path.name for path in folder.iterdir() if path.name != "lost+found"]
        if left:
            raise Failed(f"this is left on the full disk: {left}")
        if done.returncode == 0 and name == "backup":
            raise Failed("a backup of 30 MB fitted into 8 MB")
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            if not any("space" in line or "full" in line for line in lines):
                raise Failed(f"the error does not name the disk: {lines[-3:]}")
        return 0.0, f"exit code {done.returncode}; {way.put_right()}"

    def _piped(self, arguments: list[str], source: bytes) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as file:
            file.write(source)
            file.seek(0)
            stdin = os.dup(0)
            os.dup2(file.fileno(), 0)
            try:
                return self.ground.run(*arguments)
            finally:
                os.dup2(stdin, 0)
                os.close(stdin)

    def _damaged(self, way: Way, *, flip: bool) -> tuple[float, str]:
        """A changed or shortened archive is refused, and nothing is made of it."""
        arguments = list(way.ready())
        whole = Path(arguments[2]).read_bytes()
        place = self.rng.randrange(len(whole))
        broken = bytearray(whole if flip else whole[:place])
        if flip:
            broken[place] ^= 1 << self.rng.randrange(8)
        file = self.ground.folder / "broken.cfbackup"
        file.write_bytes(broken)
        arguments[2] = str(file)
        done = self.ground.run(*arguments)
        file.unlink()
        if done.returncode != 5:
            raise Failed(f"at byte {place}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        name = arguments[-1]
        if left := self.ground.docker.things_of(f"cf-{name}"):
            raise Failed(f"at byte {place}: {left} is left")
        if self.ground.run("status", name).returncode != 3:
            raise Failed(f"at byte {place}: cf status knows '{name}'")
        return float(place), "refused, nothing left"

    def _twice(self, way: Way) -> tuple[float, str]:
        """Two runs of it at once: one of them works, the other waits, works or is refused."""
        arguments = way.ready()
        with tempfile.TemporaryFile("w+") as first, tempfile.TemporaryFile("w+") as second:
            runs = [self.ground.cf.start(*arguments, output=first)]
            time.sleep(self.rng.uniform(0.0, 0.5) * self.usual[way.name])
            runs.append(self.ground.cf.start(*arguments, output=second))
            codes = [run.wait(600) for run in runs]
            first.seek(0)
            said = first.read()[-1500:]
        if 0 not in codes or not set(codes) <= {0, 4}:
            raise Failed(f"exit codes {codes}\n{said}")
        return 0.0, f"exit codes {codes}; {way.put_right()}"
