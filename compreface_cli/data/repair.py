"""`cf data repair`: heals collections with embeddings that the instance's engine cannot compare."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from compreface_cli.cleanup import deferred, interruptible
from compreface_cli.data import api_check, foreign_rows
from compreface_cli.data.api_check import Recognised
from compreface_cli.data.backup import backup
from compreface_cli.data.foreign_rows import Foreign, Kept
from compreface_cli.deploy import running, unfinished
from compreface_cli.docker import cli, containers
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import CfError, ConfigurationError, DataRefusedError, UsageError
from compreface_cli.facts import places
from compreface_cli.facts.places import Place
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

API = "compreface-api"
_START_S = 300.0


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was foreign and what became of it; `checked`: by service, None without a photograph."""

    instance: str
    calculator: str
    change: str  # "nothing", "dry run", "repaired"
    foreign: tuple[Foreign, ...]
    recomputed: int = 0
    moved_out: tuple[Kept, ...] = ()
    backup: str = ""
    checked: dict[str, Recognised | None] = field(default_factory=dict)


def repair(
    name: str,
    out: Output,
    *,
    recompute: bool = False,
    move_out: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> Repaired:
    """Re-compute the embeddings of other calculators from their images, or move them out.

    Neither flag stands for both: what has an image with one face is re-computed, the rest moved
    out. What is moved out stays in the backup, which is made first, and is named by a table of our
    own. The api is stopped during the one transaction, and recognises stored faces afterwards.
    Raises DataRefusedError when `recompute` alone would leave embeddings behind.
    """
    command = f"cf data repair {name}"
    with interruptible(), running.instances().lock(name, command):
        record = _running(name, out)
        known = running.deployment(record)
        place = places.of_record(record)
        with ExitStack() as stack:
            server = stack.enter_context(place.opened())
            session = stack.enter_context(Session(server))
            foreign = foreign_rows.listed(session, record.calculator)
            if not foreign or dry_run:
                change = "dry run" if foreign else "nothing"
                return Repaired(name, record.calculator, change, foreign)
            for line in lines(foreign, record.calculator):
                out.note(line)
            both = recompute == move_out
            _refuse_rest(foreign, may_move=both or move_out)
            _confirm(foreign, yes=yes, both=both, recompute=recompute, out=out)
            made = str(backup(place, out, server=server).path)
            work = stack.enter_context(foreign_rows.Work(session, record.calculator))
            if both or recompute:
                _compute(work, server, known, out)
                _refuse_failed(work, may_move=both or move_out)
            _apply(
                work,
                server,
                record,
                made,
                compute=both or recompute,
                may_move=both or move_out,
                out=out,
            )
        checked = _checked(foreign, place, record, known, out)
        return Repaired(
            name,
            record.calculator,
            "repaired",
            foreign,
            work.recomputed,
            tuple(work.moved),
            made,
            checked,
        )


def lines(foreign: tuple[Foreign, ...], calculator: str) -> list[str]:
    """For users: the foreign embeddings of each service, subject and calculator."""
    count = sum(each.faces for each in foreign)
    return [
        f"{count} embeddings are not of {calculator}, which the engine computes:",
        *(f"  {each.words}" for each in foreign),
    ]


def _running(name: str, out: Output) -> Record:
    record = running.pick(name, only_running=False)
    running.refuse_swarm(record, f"cf data repair {name}")
    record = unfinished.settle(name, record, out) or record
    _refuse_stopped(record)
    return record


def _refuse_stopped(record: Record) -> None:
    if record.phase != "running":
        raise ConfigurationError(
            f"instance '{record.name}' is not running, and repair asks its engine and its api",
            hint=f"Start it with `{running.start_command(record)}`.",
        )


def _refuse_rest(foreign: tuple[Foreign, ...], *, may_move: bool) -> None:
    without = sum(each.without_image for each in foreign)
    if without and not may_move:
        raise DataRefusedError(
            f"{without} of these embeddings have no image to be re-computed from",
            hint="To move these out into the backup as well: --recompute --move-out",
            details={"without_image": without},
        )


def _refuse_failed(work: foreign_rows.Work, *, may_move: bool) -> None:
    if work.failed and not may_move:
        shown = "\n".join(f"  {each.words}" for each in list(work.failed.values())[:20])
        raise DataRefusedError(
            f"{len(work.failed)} images do not give one face:\n{shown}",
            hint="Nothing was changed. To move these out into the backup: --recompute --move-out",
            details={"failed": [each.id for each in work.failed.values()]},
        )


def _confirm(
    foreign: tuple[Foreign, ...], *, yes: bool, both: bool, recompute: bool, out: Output
) -> None:
    count = sum(each.faces for each in foreign)
    without = sum(each.without_image for each in foreign)
    if both:
        what = f"Re-compute {count - without} of them, move {without} out"
        what += ", and those whose image gives no single face"
    else:
        what = f"{'Re-compute' if recompute else 'Move out'} all {count}"
    if yes:
        out.note(what)
        return
    typed = out.ask(f"{what}? [y/N] ")
    if typed is None:
        raise UsageError(
            "repairing needs a confirmation", hint="Add --yes. Only to look: --dry-run"
        )
    if typed.lower() not in ("y", "yes"):
        raise UsageError("nothing was changed")


def _compute(work: foreign_rows.Work, server: Server, known: Deployment, out: Output) -> None:
    """Ask the running engine for the embedding of each foreign image that was not asked for yet."""
    with Session(server) as reading, EngineClient(known.engine.url, key=known.engine.key) as client:
        due = work.due()
        with Heartbeat(out).progress("Re-computing embeddings", float(len(due))) as advance:
            for _ in work.compute(client, reading, due):
                advance(1.0)


def _apply(
    work: foreign_rows.Work,
    server: Server,
    record: Record,
    made: str,
    *,
    compute: bool,
    may_move: bool,
    out: Output,
) -> None:
    """Stop the api, change the rows in one transaction, and start the api again.

    No face is added meanwhile. However a run ends, the next one finds the record, and the rows
    are either all as before or all changed.
    """
    store, known = running.instances(), running.deployment(record)
    project, folder = known.data["project"], known.data["folder"]
    api = [each.id for each in containers.of_project(project, folder) if each.service == API]
    begun = unfinished.begun(record, f"cf data repair {record.name}")
    store.save(replace(begun, touched=["api"]))
    try:
        with out.progress("Stopping the api"):
            cli.run("stop", *api, doing="stop api", timeout_s=120)
        if compute:  # what was added until the api stopped
            _compute(work, server, known, out)
            _refuse_failed(work, may_move=may_move)
        with out.waiting("Changing the embeddings"):
            work.apply(made)
    finally:
        with deferred():
            cli.run("start", *api, doing="start api", timeout_s=120)
            store.save(record)


def _checked(
    foreign: tuple[Foreign, ...], place: Place, record: Record, known: Deployment, out: Output
) -> dict[str, Recognised | None]:
    """Have the api recognise a stored face of each service that was changed."""
    services = {each.service_id: each.service for each in foreign}
    checked: dict[str, Recognised | None] = {}
    assert known.ui is not None  # noqa: S101 - it has a database
    with out.waiting("Waiting until the api recognises again"), place.opened() as server:
        for number, service in services.items():
            try:
                checked[service] = api_check.check(
                    server, known.ui, record.calculator, service_id=number, limit_s=_START_S
                )
            except CfError as error:
                error.hint = error.hint or f"cf logs {record.name} --service api"
                raise
    return checked
