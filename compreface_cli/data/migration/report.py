"""Names, by subject, every face that cannot be migrated: in a file, and in the result."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compreface_cli.config import paths
from compreface_cli.data.migration.rules import Rules
from compreface_cli.data.migration.tables import Target, texts
from compreface_cli.docker.postgres import Session

SHOWN = 100  # subjects in the result; the file has all
_COLUMNS = ("application", "service", "subject", "image_id", "calculator", "outcome", "reason",
            "done")  # fmt: skip


def subjects(session: Session, target: Target, rules: Rules) -> list[dict[str, Any]]:
    """The first `SHOWN` of those with faces that are kept out, by outcome.

    application, service, subject, outcome, faces, and `left`: faces of the subject that stay.
    """
    rows = session.rows(
        "select application, service, subject, outcome, faces, total - out as left from ("
        " select *, sum(faces) over (partition by subject_id) as total,"
        f" sum(case when {_out('outcome', rules)} then faces else 0 end)"
        " over (partition by subject_id) as out from ("
        " select a.name as application, m.name as service, s.id as subject_id,"
        f" s.subject_name as subject, {target.outcome} as outcome, count(*) as faces"
        f" from {target.source} where {target.other} group by 1, 2, 3, 4, 5) r) o"
        f" where {_out('outcome', rules)} order by 1, 2, 3, 4 limit {SHOWN}"
    )
    return list(rows)


def write(session: Session, target: Target, rules: Rules, instance: str) -> Path | None:
    """A CSV file with a line for each face that is kept out; None if there is none.

    Only its owner can read it, since it names people. It is written whole or not at all.
    """
    rows = _faces(session, target, rules)
    first = next(rows, None)
    if first is None:
        return None
    folder = paths.data_dir() / "reports" / instance
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"migrate-{stamp}.csv"
    part = path.with_suffix(".part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, _COLUMNS)
            table.writeheader()
            table.writerow(first)
            table.writerows(rows)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


def _faces(session: Session, target: Target, rules: Rules) -> Iterator[dict[str, Any]]:
    yield from session.rows(
        "select application, service, subject, image_id, calculator, outcome, reason,"
        f" case when outcome = 'several faces' and not {_out('outcome', rules)}"
        " then 'the largest face was taken' else 'kept out' end as done from ("
        " select a.name as application, m.name as service, s.subject_name as subject,"
        f" e.id as image_id, e.calculator, {target.outcome} as outcome, v.reason"
        f" from {target.source} where {target.other}) r"
        f" where {_out('outcome', rules)} or outcome = 'several faces' order by 1, 2, 3, 4"
    )


def _out(column: str, rules: Rules) -> str:
    return f"{column} <> all({texts((*rules.taken, 'pending'))})"
