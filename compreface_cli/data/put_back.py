"""Puts a backup in the place of an instance's database, and keeps the one that was there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from compreface_cli.data import backup_source, carry, databases, restore, row_counts
from compreface_cli.data.carry import Carried
from compreface_cli.docker import cli, containers
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.errors import CfError
from compreface_cli.facts.database import CHANGE
from compreface_cli.instance.state import Deployment
from compreface_cli.launchers.compose import DATABASE
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class PutBack:
    """`kept`: the name of the database that gave way; what was carried over from it."""

    kept: str
    carried: Carried = field(default_factory=Carried)

    @property
    def words(self) -> str:
        """For users: what became of the rows that were added since the backup."""
        if self.carried.reason:
            return (
                f"what was added since the backup was not carried over, since "
                f"{self.carried.reason}; the database {self.kept} on the same server has it"
            )
        faces = f"{self.carried.added} faces added and {self.carried.removed} removed since"
        left = f"; not carried over: {', '.join(self.carried.left)}" if self.carried.left else ""
        return f"{faces} the backup were carried over{left}. {self.kept} is the database of before"


def change_sets(server: Server) -> tuple[str, ...]:
    """The change sets of a server's schema, as the record's history has them."""
    with Session(server) as session:
        if not session.value("select to_regclass('public.databasechangelog') is not null"):
            return ()
        rows = session.rows(
            f"select {CHANGE} as change from public.databasechangelog order by orderexecuted"
        )
        return tuple(str(row["change"]) for row in rows)


def stop_services(known: Deployment, out: Output) -> None:
    """Stop all containers of a project but its database and its engine, so that nothing writes."""
    project, folder = known.data["project"], known.data["folder"]
    ids = [
        each.id
        for each in containers.of_project(project, folder)
        if each.service != DATABASE and containers.short(each.service) != "core"
    ]
    if ids:
        with out.progress("Stopping UI, api and admin"):
            cli.run("stop", *ids, doing="stop the services", timeout_s=180)


def put_back(server: Server, archive: Path, out: Output) -> PutBack:
    """Restore the backup into a fresh database of the server, and give it the present one's name.

    What was added to the present one is carried over where its tables allow. Nothing may be
    connected to it. Whatever fails leaves the present one in its place.
    """
    with backup_source.opened(archive, out, backup_source.plain) as backup:
        fresh = databases.create_fresh(server)
        restore.load(backup, fresh, out)
        with Session(fresh, statement_s=None) as session:
            if row_counts.read(session) != backup.manifest.tables:
                raise CfError(f"{backup.name} was not restored: its rows are not all there")
    with out.waiting("Carrying over what was added since"):
        carried = carry.carry(server, fresh)
    done = PutBack(databases.swap(server, fresh.database), carried)
    out.note(f"The database is as in {archive}: {done.words}")
    return done
