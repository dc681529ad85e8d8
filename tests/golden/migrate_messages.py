"""What a migration of embeddings says: its plan, what it refuses, and what has come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.commands.data import migrate_
from compreface_cli.data import migrate, recompute
from compreface_cli.data.migration import finish, foresight, quality, rules, switch
from compreface_cli.data.migration.quality import Quality
from compreface_cli.data.migration.rules import Rules
from compreface_cli.data.migration.tables import Run, Target
from compreface_cli.engine.client import Refused
from compreface_cli.errors import CfError
from compreface_cli.instance.records import Record
from compreface_cli.terminal.output import Output

Case = Callable[[Path], object]

RUNS = Record("mine", "embedded", "x", "full", "running", "", plan={"port": 8000})
OUT = Output(quiet=True)
BY = migrate.Options()
WORSE = Quality("People", "Front door", 500, 480, 90, 470, 460, 3, 11, 0.31, 0.42, {}, True)
VERDICT = rules.judge(
    {"one face": 60, "no face": 7, "several faces": 2, "unreadable": 1, "no image": 30}, Rules()
)
PLAN = foresight.Plan(
    instance="mine",
    former_build="embedded",
    former_calculator="embedded.Calculator@mobilefacenet192",
    build="facenet",
    calculator="facenet.Calculator",
    verdict=rules.judge({"pending": 4000, "one face": 500, "no image": 12}, Rules()),
    collections=[
        {"application": "Front door", "service": "People", "faces": 4512, "demo": False,
         "calculator": "embedded.Calculator@mobilefacenet192", "values": 192},
        {"application": "Demo app", "service": "Demo", "faces": 20, "demo": True,
         "calculator": "Facenet2018", "values": 512},
    ],
    without_image=[{"service": "People", "subject": "Grace", "faces": 12}],
    away_s=41.0,
    sample=foresight.Sample(20, 0.21, 512),
    needed={"database": 90_000_000, "backup": 700_000_000},
    free={"database": 80_000_000_000, "backup": 80_000_000_000},
)  # fmt: skip


def _run(phase: Any, *, back: bool = False) -> Run:
    return Run(phase, back, "facenet.Calculator", "facenet", "x", "embedded", {}, {})


def _raised(call: Callable[..., object], *given: Any, **named: Any) -> Case:
    """What the call raises."""

    def case(_: Path) -> object:
        try:
            return call(*given, **named)
        except CfError as error:
            return error

    return case


def _wanted(before: Run | None, to: str | None, *, back: bool = False, phase: Any = None) -> Case:
    record = RUNS if phase is None else Record("mine", "embedded", "x", "full", phase, "")
    return _raised(migrate._wanted, record, before, to, OUT, BY, back=back)


def _client(**answers: Any) -> mock.Mock:
    return mock.Mock(url="http://127.0.0.1:3000", **answers)


def _not_now(_: Path) -> object:
    out = mock.Mock(ask=lambda question: "n")
    try:
        migrate._Migration(RUNS, None, mock.Mock(), "facenet", out, BY, False)._ask()
    except CfError as error:
        return error
    return None


def _others(_: Path) -> object:
    rows = [{"name": "PostgreSQL JDBC Driver", "address": "172.18.0.9"}]
    with mock.patch.object(switch, "_GONE_S", -1.0):
        return _raised(switch.refuse_others, mock.Mock(rows=lambda query: rows))(_)


def _not_all(_: Path) -> object:
    with mock.patch.object(switch, "_total", return_value=99):
        return _raised(switch._hold, None, 100, 3)(_)


def _lengths(_: Path) -> object:
    rows = [{"length": 192, "faces": 1}, {"length": 128, "faces": 99}]
    target = Target("facenet.Calculator", ("facenet.Calculator",))
    return _raised(switch._one_length, mock.Mock(rows=lambda query: rows), target)(_)


def _busy(_: Path) -> object:
    scan = mock.Mock(side_effect=Refused(503, "503 Service Unavailable: Too many requests wait"))
    return _raised(recompute.faces, _client(scan=scan), b"", limit_s=0)(_)


def _no_face(_: Path) -> object:
    answer: Any = {"result": [{"box": {}}]}
    return _raised(recompute.faces, _client(scan=lambda *_, **__: answer), b"")(_)


CASES: Final[dict[str, Case]] = {
    "plan": lambda _: "\n".join(foresight.lines(PLAN)),
    "plan-refused": _raised(switch.refuse, VERDICT, "mine"),
    "rule-refuses": _raised(
        switch.refuse, rules.judge({"one face": 99, "no face": 1}, Rules(no_face="refuse")), "mine"
    ),
    "nothing-left": _raised(
        switch.refuse, rules.judge({"no image": 9}, Rules(without_image="keep-out")), "mine"
    ),
    "no-room": _raised(foresight.need_room, {"database": 9_000_000_000}, {"database": 5_000_000}),
    "exclude-each-other": _raised(migrate_.run, "mine", to="facenet", back=True),
    "no-such-rule": _raised(migrate_._one_of, "--several", "all", ("largest", "keep-out")),
    "no-share": _raised(rules.share, "many"),
    "does-not-run": _wanted(None, "facenet", phase="stopped"),
    "no-build": _wanted(None, None),
    "nothing-to-return-to": _wanted(None, None, back=True),
    "migrated-already": _wanted(_run("done"), None),
    "not-finished": _wanted(_run("done"), "sface"),
    "switch-not-complete": _raised(
        migrate._completed, RUNS, _run("switched"), "sface", False, OUT, BY
    ),
    "not-now": _not_now,
    "worse": _raised(quality.refuse, [WORSE], "facenet"),
    "compared": lambda _: "\n".join(quality.lines([WORSE])),
    "no-coefficients": _raised(migrate._coefficients, _client(status=dict)),
    "others-connected": _others,
    "not-all-there": _not_all,
    "several-lengths": _lengths,
    "nothing-to-finish": _raised(finish._refuse, "mine", None),
    "finish-too-early": _raised(finish._refuse, "mine", _run("switched")),
    "finished": lambda _: "\n".join(
        finish.Finished("mine", "finished", 88000, 12, 7, "mine.cfbackup").lines()
    ),
    "would-finish": lambda _: "\n".join(finish.Finished("mine", "dry run", 88000, 12, 7).lines()),
    "engine-too-busy": _busy,
    "engine-breaks-the-contract": _no_face,
}
