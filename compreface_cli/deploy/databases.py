"""Findings about the databases of running instances, for `status` and `doctor`."""

from __future__ import annotations

from compreface_cli.checks import Finding
from compreface_cli.checks import database as checks
from compreface_cli.facts import database
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.terminal.output import Output


def look(record: Record, known: Deployment | None) -> list[Finding]:
    """The findings about the database of a running instance; none if it has no database."""
    if record.phase != "running" or known is None or known.launcher == "process":
        return []
    from compreface_cli.launchers.database import place

    where = place(known)
    if where is None:
        from compreface_cli.launchers import database_elsewhere

        return database_elsewhere.look(known, record.calculator)
    return checks.judge(where, database.look(where.database), record.calculator)


def warn(record: Record, known: Deployment | None, out: Output) -> None:
    """Print a warning for each fault in the database of a running instance."""
    for finding in look(record, known):
        if finding.level == "fail":
            out.warning(f"{finding.tagged}\n{finding.hint}")
