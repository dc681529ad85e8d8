"""The commands on face data that are cut off, and what must hold after each."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.e2e.machine import REGISTRY, Docker
from tests.e2e.original import ENV, Original, recognises
from tests.e2e.other_build import CALCULATOR, other_build
from tests.faults.ground import IMAGES, ROWS, Failed, Ground, Stored, at_rest, stored_of, until


class Way(Protocol):
    """A command that is cut off."""

    name: str
    usual_s: float  # a first guess

    def ready(self) -> tuple[str, ...]:
        """Bring about what the command starts from; its arguments."""

    def database(self) -> str:
        """The container whose PostgreSQL the command needs."""

    def put_right(self) -> str:
        """Run what the next user would run; what became of it. Raises Failed."""

    def close(self) -> None:
        """Remove what the way has made."""


class Backup:
    """`cf data backup` while the instance runs: the file is whole or absent, no row is touched."""

    name, usual_s = "backup", 4.0

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.before = ground.stored()
        self.folder = ground.folder / "backups"
        self.folder.mkdir()
        self.target = self.folder / "x.cfbackup"

    def ready(self) -> tuple[str, ...]:
        self.target.unlink(missing_ok=True)
        return ("data", "backup", self.ground.instance, "-o", str(self.target))

    def database(self) -> str:
        return self.ground.database

    def put_right(self) -> str:
        ground, said = self.ground, "absent"
        ground.stored().must_be(self.before)
        if self.target.exists():
            ground.ok("data", "restore", str(self.target), "--dry-run")
            said = "whole"
        ground.nothing_at_work()
        ground.ok("data", "backup", ground.instance, "-o", str(self.target), "--force")
        ground.ok("data", "restore", str(self.target), "--dry-run")
        left = [path.name for path in self.folder.iterdir() if path != self.target]
        if left:
            raise Failed(f"this is left beside the backup: {left}")
        return f"the file was {said}"

    def close(self) -> None:
        self.target.unlink(missing_ok=True)


class Restore:
    """`cf data restore` into a new instance: all of it or nothing, and the source stays."""

    name, usual_s = "restore", 8.0

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.before = ground.stored()
        self.file = ground.folder / "source.cfbackup"
        if not self.file.exists():
            ground.ok("data", "backup", ground.instance, "-o", str(self.file))
        self.sha = _sha256(self.file)
        self.name_of_new = ""

    def ready(self) -> tuple[str, ...]:
        self._forget()
        self.name_of_new = f"{self.ground.instance}-r{uuid.uuid4().hex[:4]}"
        return ("data", "restore", str(self.file), "--instance", self.name_of_new)

    def database(self) -> str:
        names = ("ps", "--format={{.Names}}", "--filter=name=cf-at-rest")
        return next(iter(self.ground.docker(*names).split()), "")

    def put_right(self) -> str:
        ground, name = self.ground, self.name_of_new
        if _sha256(self.file) != self.sha:
            raise Failed("the backup was changed")
        there = ground.docker.things_of(f"cf-{name}")
        done = ground.ok("data", "restore", str(self.file), "--instance", name, also=(4,))
        self._whole(name)
        if done.returncode == 4 and not there:
            raise Failed(f"it is refused, and nothing was there:\n{done.stderr}")
        said = "it was restored" if done.returncode == 4 else f"again ({len(there)} things before)"
        self._forget()
        ground.stored().must_be(self.before)
        return said

    def _whole(self, name: str) -> None:
        found = self.ground.docker("inspect", "--format={{.Image}}", self.ground.database)
        at_rest(name, found).must_be(self.before)

    def _forget(self) -> None:
        """Remove the new instance; nothing of it is left."""
        ground, name = self.ground, self.name_of_new
        if not name:
            return
        ground.ok("rm", "--instance", name, "--volumes", "--confirm", name, also=(3,))

        def left() -> list[str]:
            rest = ground.docker("ps", "--all", "--format={{.Names}}").split()
            projects = [path.name for path in (ground.cf.data / "projects").iterdir()]
            return [
                *ground.docker.things_of(f"cf-{name}"),
                *(each for each in rest if "cf-at-rest" in each),
                *(each for each in projects if name in each),
            ]

        until(lambda: not left(), 30, lambda: f"this is left: {left()}")
        self.name_of_new = ""

    def close(self) -> None:
        self._forget()


class Adopt:
    """`cf adopt` of an install that runs: its faces stay, and it can be given back."""

    name, usual_s = "adopt", 40.0

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        docker = ground.docker
        engine = docker("inspect", "--format={{.Image}}", f"cf-{ground.instance}-compreface-core-1")
        tag = f"{REGISTRY}compreface-core:{ENV['CORE_VERSION']}"
        docker("tag", engine, tag)
        docker.own.append(tag)
        self.original = Original(ground.folder, docker)
        self.original.up()
        self.original.key = self.original.with_faces()
        self.before = self.stored()

    def stored(self) -> Stored:
        (database,) = self.original.databases()
        ask = ("exec", database, "psql", "-U", "postgres", "-d", "frs", "-qAt", "-F", "\t", "-c")
        return stored_of(self.ground.docker(*ask, ROWS), self.ground.docker(*ask, IMAGES))

    def ready(self) -> tuple[str, ...]:
        self.ground.ok("release", self.original.project, "--yes", also=(3, 4))
        self.original.up()
        return ("adopt", str(self.original.folder), "--yes")

    def database(self) -> str:
        return next(iter(self.original.databases()), "")

    def put_right(self) -> str:
        original, ground = self.original, self.ground
        running = original.databases()
        if len(running) > 1:
            raise Failed(f"two databases run on one volume: {running}")
        state = ground.run("status", original.project).returncode
        done = ground.ok("adopt", str(original.folder), "--yes", also=(4,))
        if done.returncode == 4 and state != 0:
            # It was adopted by then, and something of it does not run.
            ground.ok("up", "embedded", "--instance", original.project)
        self.stored().must_be(self.before)
        original.ready()
        for subject, name in (("Grace", "grace_hopper.jpg"), ("Eileen", "astronaut.png")):
            if recognises(original.ui, original.key, name) != subject:
                raise Failed(f"{subject} is not recognised")
        return f"status {state}, then adopt {done.returncode}"

    def close(self) -> None:
        self.ground.run("release", self.original.project, "--yes")
        self.original.remove()


class Migrate:
    """`cf data migrate` to the other calculator, resumed, then back: no face is lost or mixed."""

    name, usual_s = "migrate", 45.0

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.build = other_build(ground.cf)
        self.before = ground.stored()

    def ready(self) -> tuple[str, ...]:
        return ("data", "migrate", self.ground.instance, "--to", str(self.build), "--yes")

    def database(self) -> str:
        return self.ground.database

    def put_right(self) -> str:
        ground = self.ground
        ground.stored().must_be(self.before, recomputed=True)
        before = self._calculator()
        ground.ok(*self.ready())
        ground.stored().must_be(self.before, recomputed=True)
        if self._calculator() != CALCULATOR:
            raise Failed(f"after the migration the faces are of {self._calculator()}")
        ground.recognises()
        ground.ok("data", "migrate", ground.instance, "--back", "--yes")
        ground.stored().must_be(self.before)
        ground.recognises()
        return f"cut off at {before}, then resumed, then back"

    def _calculator(self) -> str:
        names = set().union(*self.ground.stored().calculators.values())
        return ", ".join(sorted(name for name in names if name != "Facenet2018"))

    def close(self) -> None:
        return


WAYS: dict[str, Callable[[Ground], Way]] = {
    "backup": Backup,
    "restore": Restore,
    "adopt": Adopt,
    "migrate": Migrate,
}


def _sha256(path: Path) -> str:
    return subprocess.run(
        ["sha256sum", str(path)], capture_output=True, text=True, check=True
    ).stdout.split()[0]


def kill_postgres(docker: Docker, container: str) -> None:
    """Kill the first process of the container, which Docker then starts again if it should run."""
    said = docker("inspect", "--format={{.State.Pid}}", container, check=False) if container else ""
    if said.isdigit() and int(said):
        try:
            os.kill(int(said), signal.SIGKILL)
        except PermissionError:
            docker("kill", "--signal=KILL", container, check=False)
        except ProcessLookupError:
            return
