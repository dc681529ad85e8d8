"""`cf data migrate --finish`: removes what an instance could return to, after a backup of it."""

from __future__ import annotations

from dataclasses import dataclass

from compreface_cli.cleanup import interruptible
from compreface_cli.data import backup
from compreface_cli.data.migration import tables
from compreface_cli.data.migration.tables import Run
from compreface_cli.deploy import running
from compreface_cli.docker.postgres import Session
from compreface_cli.errors import ConfigurationError, ConflictError
from compreface_cli.facts import places
from compreface_cli.instance import migrations
from compreface_cli.removal.things import confirm
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Finished:
    """What was removed, or would be; `backup`: the archive that still has all of it."""

    instance: str
    change: str  # "finished" or "dry run"
    stored: int  # embeddings of the former calculator
    computed: int
    kept_out: int  # faces
    backup: str | None = None

    def lines(self) -> list[str]:
        would = "would be removed" if self.change == "dry run" else "removed"
        text = [
            f"{would} from '{self.instance}': {self.stored} embeddings to return to, "
            f"{self.computed} computed ones, {self.kept_out} faces that were kept out"
        ]
        if self.backup:
            text.append(f"  All of them are in {self.backup}")
        return text


def finish(name: str, out: Output, *, confirmed: list[str], dry_run: bool) -> Finished:
    """Remove the saved embeddings and the faces kept out, once a backup has them.

    Raises ConfigurationError if there are none, ConflictError while a switch is not complete.
    """
    with interruptible(), running.instances().lock(name, f"cf data migrate {name} --finish"):
        place = places.place_of(name)
        with place.opened() as server, Session(server) as session:
            run = tables.run_of(session)
            _refuse(name, run)
            counted = tables.counts(session)
            numbers = (counted["stored"], counted["computed"], counted["kept_out"])
            would = Finished(name, "dry run", *numbers)
            if dry_run:
                return would
            for line in would.lines():
                out.note(line)
            confirm([name], confirmed, out)
            path = str(backup.backup(place, out, server=server).path)
            tables.drop(session)
        migrations.unmark(name)
        return Finished(name, "finished", *numbers, backup=path)


def _refuse(name: str, run: Run | None) -> None:
    if run is None:
        raise ConfigurationError(
            f"'{name}' has nothing to finish: no migration has left anything in it",
            hint=f"`cf data migrate {name} --to BUILD` begins one.",
        )
    if run.phase == "switched":
        raise ConflictError(
            f"the switch of '{name}' to {run.build} is not complete",
            hint=f"Complete it first: cf data migrate {name}",
        )
