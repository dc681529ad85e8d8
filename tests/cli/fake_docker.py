"""A `docker` program that answers what it is told to, and writes down what it was asked."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

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
    answer = {{"out": "", "err": "", "code": 0, "seconds": 0, "clears": []}}
if answer["clears"]:
    nothing = {{**answer, "to": answer["clears"], "out": "", "clears": []}}
    (home / "answers.json").write_text(json.dumps([nothing, *answers]))
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
    """Stands first on the PATH once `path` is put there."""

    def __init__(self, home: Path) -> None:
        self.home = home
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
        clears: Sequence[str] = (),
    ) -> None:
        """Say this to commands that begin so; what was said last is looked at first.

        Once it is said, what `clears` names is answered with nothing.
        """
        row = {"to": list(to), "out": out, "err": err, "code": code, "seconds": seconds}
        row["clears"] = list(clears)
        self._answers.insert(0, row)
        self._save()

    def asked(self) -> list[list[str]]:
        log = self.home / "asked.jsonl"
        if not log.exists():
            return []
        return [json.loads(line) for line in log.read_text().splitlines()]

    def was_asked(self, words: Sequence[str]) -> bool:
        return any(asked[: len(words)] == list(words) for asked in self.asked())

    @property
    def ended_by(self) -> str:
        """The signal that ended a command before its time, "" when none did."""
        file = self.home / "ended"
        return file.read_text() if file.exists() else ""

    def _save(self) -> None:
        (self.home / "answers.json").write_text(json.dumps(self._answers))
