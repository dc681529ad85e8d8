"""A `docker` program that answers what it is told to and notes what it was asked, and an engine."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker import client
from tests.cli.fake_engine import ANSWERS, engine

_PROGRAM = """#!{python}
import json, pathlib, signal, sys, time
home = pathlib.Path({home!r})
words = sys.argv[1:]
with (home / "asked.jsonl").open("a") as log:
    log.write(json.dumps(words) + "\\n")
answers = json.loads((home / "answers.json").read_text())
for answer in answers:
    if words[: len(answer["to"])] == answer["to"]:
        break
else:
    answer = {{"out": "", "err": "", "code": 0, "seconds": 0}}
def ended(number, frame):
    (home / "ended").write_text(signal.Signals(number).name)
    sys.exit(130)
signal.signal(signal.SIGINT, ended)
print(answer["out"], end="", flush=True)
print(answer["err"], end="", file=sys.stderr, flush=True)
time.sleep(answer["seconds"])
sys.exit(answer["code"])
"""


class FakeDocker:
    """Stands first on the PATH once `path` is put there; `holds` is what its engine answers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.holds: dict[str, Any] = dict(ANSWERS)
        self._answers: list[dict[str, object]] = []
        program = home / "bin" / "docker"
        program.parent.mkdir(parents=True)
        program.write_text(_PROGRAM.format(python=sys.executable, home=str(home)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self._save()

    @property
    def path(self) -> str:
        return f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def answers(
        self,
        *to: str,
        out: str = "",
        err: str = "",
        code: int = 0,
        seconds: float = 0,
    ) -> None:
        """Say this to commands that begin so; what was said last is looked at first."""
        row = {"to": list(to), "out": out, "err": err, "code": code, "seconds": seconds}
        self._answers.insert(0, row)
        self._save()

    def asked(self) -> list[list[str]]:
        log = self.home / "asked.jsonl"
        if not log.exists():
            return []
        return [json.loads(line) for line in log.read_text().splitlines()]

    def was_asked(self, words: Sequence[str]) -> bool:
        return any(asked[: len(words)] == list(words) for asked in self.asked())

    def containers(self, *documents: Mapping[str, Any]) -> None:
        """The engine has these and no other; each as `docker container inspect` shows it."""
        for path in [path for path in self.holds if path.startswith("/containers/")]:
            del self.holds[path]
        for document in documents:
            self.holds[f"/containers/{document['Id']}/json"] = document
        self.holds["/containers/json"] = [
            {
                "Id": document["Id"],
                "Labels": document["Config"]["Labels"],
                "State": document["State"]["Status"],
            }
            for document in documents
        ]

    @property
    def ended_by(self) -> str:
        """The signal that ended a command before its time, "" when none did."""
        file = self.home / "ended"
        return file.read_text() if file.exists() else ""

    def _save(self) -> None:
        (self.home / "answers.json").write_text(json.dumps(self._answers))


@contextmanager
def fake_docker(home: Path) -> Iterator[FakeDocker]:
    """The program first on the PATH, with an engine that it and `cf` ask."""
    fake = FakeDocker(home)
    with engine(fake.holds, home / "docker.sock") as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", fake.path)
        patch.setenv("DOCKER_HOST", host)
        patch.setattr(client, "_versions", {})
        yield fake
