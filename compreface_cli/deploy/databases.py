"""What the databases of running instances hold, judged for `status` and `doctor`."""

from __future__ import annotations

from compreface_cli.checks import Finding
from compreface_cli.checks import database as checks
from compreface_cli.facts import database
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.terminal.output import Output


def look(record: Record, known: Deployment | None) -> list[Finding]:
    """The findings about the database of an instance that runs; none when it has no own one."""
    if record.phase != "running" or known is None or known.launcher != "compose":
        return []
    from compreface_cli.launchers.database import place

    where = place(known)
    if where is None:
        return []
    seen = database.look(where.database)
    return checks.judge(where, seen, record.calculator)


def warn(record: Record, known: Deployment | None, out: Output) -> None:
    """Say on stderr what is wrong with what an instance that runs has stored."""
    for one in look(record, known):
        if one.level == "fail":
            out.warning(f"{one.message}\n{one.hint}")
