"""What the upkeep of an instance's data and versions refuses: clean, delete, repair, upgrade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.checks import schema
from compreface_cli.data import (
    api_check,
    carry,
    clean,
    delete,
    foreign_rows,
    put_back,
    repair,
    rollback,
    upgrade,
)
from compreface_cli.docker import belongings
from compreface_cli.errors import CfError
from compreface_cli.facts.places import Place
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Endpoint
from compreface_cli.terminal.output import Output

Case = Callable[[Path], object]

STOPPED = Record("mine", "embedded", "x", "full", "stopped", "2026-01-01T00:00:00+00:00")
COMPOSE = {"launcher": "compose"}
FACE = api_check.StoredFace("Grace", "People", 7, "Front door", "1", "key")


def _raised(call: Callable[..., object], *given: Any, **named: Any) -> Case:
    """What the call raises."""

    def case(_: Path) -> object:
        try:
            return call(*given, **named)
        except CfError as error:
            return error

    return case


def _answered(*answers: dict[str, Any]) -> Case:
    """What becomes of answers of the api about a stored face of Grace."""
    return lambda _: [api_check.judged(FACE, answer) for answer in answers]


def _unrecognised(_: Path) -> object:
    return api_check.unrecognised([FACE], ['"Grace" of "People": it recognises Eileen'])


def _silent(_: Path) -> object:
    return api_check.recognise(Endpoint("127.0.0.1", 9), FACE, b"", 0.0)


FOREIGN = (
    foreign_rows.Foreign("Front door", "People", 7, "Grace", "facenet.Calculator", 2, 0),
    foreign_rows.Foreign("", "Doors", 8, "Eileen", "facenet.Calculator", 1, 1),
)


def _failed(_: Path) -> object:
    with foreign_rows.Work(None, "x") as work:  # type: ignore[arg-type]
        work.failed["1"] = foreign_rows.Kept("1", "People", "Grace", "y", "no face is found")
        repair._refuse_failed(work, may_move=False)
    return None


def _foreign_volume(named: str | None) -> Case:
    place = Place("faces_postgres-data", instance="mine")

    def case(_: Path) -> object:
        with mock.patch.object(belongings, "volumes", return_value=[]):
            delete._refuse_foreign(place, named, "mine")
        return None

    return case


def _declined(_: Path) -> object:
    with mock.patch.object(Output, "ask", return_value="n"):
        repair._confirm(FOREIGN, yes=False, both=True, recompute=False, out=Output())
    return None


def _loose(_: Path) -> object:
    target = mock.Mock()
    target.rows.return_value = [dict.fromkeys(("own", "other", "same", "given"), "embedding")]
    target.value.return_value = 3
    carry.refuse_loose_ends(target)
    return None


_CHANGES = ["0.2.7 drop-qrtz_triggers-table", "1.3.0 add-note", "1.3.0 b", "1.3.0 c", "1.3.0 d"]
_OTHER = {"subject": "Eileen", "similarity": 0.97}
_SELF = {"subject": "Grace", "similarity": 0.2}

CASES: Final[dict[str, Case]] = {
    "schema: an older admin": lambda _: schema.judge(
        "mine", "exadel/compreface-admin:1.2.0", _CHANGES, None
    ),
    "schema: one more change set": lambda _: schema.judge(
        "mine", "exadel/compreface-admin:mine", _CHANGES[:2], {_CHANGES[0]}
    ),
    "clean: without a confirmation": _raised(clean._confirm, False, Output()),
    "clean: no schema of CompreFace": _raised(clean._refuse_without_faces, "mine", there=False),
    "clean: what is shown": lambda _: "\n".join(
        clean.lines(
            clean.Cleaned(
                "mine",
                "dry run",
                (clean.Orphans("JPEG", 3, 41_000), clean.Orphans("other", 1, 12)),
                9,
                databases={"frs_cf_20261130t205500z": 9_000_000},
            )
        )
    ),
    "delete: a volume that cf did not make": _foreign_volume(None),
    "delete: another volume is named": _foreign_volume("other"),
    "delete: what is lost": lambda _: "\n".join(
        (delete.Held(3, 40, 39, 4_000_000).words, delete.Held(unknown="no answer").words)
    ),
    "repair: what is shown": lambda _: "\n".join(repair.lines(FOREIGN, "embedded.Calculator")),
    "repair: without a confirmation": _raised(
        repair._confirm, FOREIGN, yes=False, both=True, recompute=False, out=Output()
    ),
    "repair: declined": _declined,
    "repair: no image": _raised(repair._refuse_rest, FOREIGN, may_move=False),
    "repair: no single face": _failed,
    "repair: it is stopped": _raised(repair._refuse_stopped, STOPPED),
    "upgrade: an engine alone": _raised(upgrade.refuse_others, replace(STOPPED, services="core")),
    "upgrade: it is stopped": _raised(upgrade.refuse_others, replace(STOPPED, deployment=COMPOSE)),
    "upgrade: another PostgreSQL": _raised(upgrade.refuse_major, "mine", 11, 15, "mine:15"),
    "upgrade: Docker does not say": lambda _: upgrade.unknown_versions("mine"),
    "rollback: no other versions": _raised(rollback._target, STOPPED),
    "rollback: the schema has changed": lambda _: rollback.refused(
        "mine", ["1.3.0 add-note"], 12, "/backups/mine.cfbackup"
    ),
    "rollback: no backup": _raised(rollback.refuse_without_backup, "mine", None),
    "rollback: the backup is gone": _raised(
        rollback.refuse_without_backup, "mine", Path("/backups/mine.cfbackup")
    ),
    "rollback: what became of the data": lambda _: "\n".join(
        put_back.PutBack("frs_cf_20261130t205500z", carried).words
        for carried in (
            carry.Carried(2, 1),
            carry.Carried(2, 0, ("model_statistic",)),
            carry.Carried(reason="the newer version has changed the columns of embedding"),
        )
    ),
    "rollback: rows without the rows that they name": _loose,
    "api: stored faces are not recognised": _unrecognised,
    "api: nobody answers": _silent,
    "api: another subject, none, nonsense": _answered(
        {"result": [{"subjects": [_OTHER, _SELF]}]}, {"result": []}, {"results": []}
    ),
}
