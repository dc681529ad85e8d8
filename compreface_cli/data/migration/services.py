"""The services around a switch: stopped before, started anew after it, and back as they were."""

from __future__ import annotations

from dataclasses import replace

from compreface_cli.data import api_check
from compreface_cli.data.migration import foresight, switch, tables
from compreface_cli.data.migration.tables import Target
from compreface_cli.deploy import running, same_settings
from compreface_cli.deploy import up as deploy
from compreface_cli.docker.postgres import Session
from compreface_cli.engine import known_answer
from compreface_cli.facts import places
from compreface_cli.instance import migrations
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.plan.operations import Options as UpOptions
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output


def start_new(former: Record, plan: Plan, out: Output, timeout_s: float | None) -> deploy.Result:
    """Replace the engine, start the other services, and write down that it is done."""
    result = deploy.under_lock(
        plan,
        UpOptions(timeout_s=timeout_s),
        out,
        data_back=lambda: _data_back(former, out),
    )
    current = running.record_of(former.name) or former
    ui = running.deployment(current).ui
    with places.of_record(current).opened() as server:
        if ui is not None:
            with out.waiting("Waiting until the api recognises a stored face"):
                known = api_check.check(server, ui, plan.calculator)
            if known is not None:
                out.note(f"The api recognises '{known.subject}' ({known.similarity:.4f})")
        with Session(server) as session:
            tables.set_phase(session, "done")
    migrations.unmark(former.name)
    return result


def as_before(former: Record, out: Output) -> None:
    """Undo: the old embeddings, then the old engine and all services."""
    _data_back(former, out)
    record = running.record_of(former.name)
    known = running.deployment(former)
    if record is None or record.unfinished or record.deployment != former.deployment:
        deploy.under_lock(same_settings.as_it_was(former, out), UpOptions(), out)
    else:
        start_again(known, former, out)
    if (mark := migrations.marked(former.name)) is not None:
        migrations.mark(former.name, replace(mark, phase="computing"))


def _data_back(former: Record, out: Output) -> None:
    """Undo: the embeddings as before the switch, if there was one. Nothing writes faces then."""
    stop_writers(running.deployment(former))
    with places.of_record(former).opened() as server, Session(server) as session:
        run = tables.run_of(session)
        if run is None or run.phase != "switched":
            return
        added = switch.undo(session, Target.of(session, run.calculator))
    out.note("The faces have their former embeddings again")
    if added:
        out.warning(
            f"{added} faces were added with the new engine and are kept out until "
            f"`cf data migrate {former.name}` succeeds"
        )


def stop_writers(known: Deployment) -> None:
    from compreface_cli.launchers.compose import ComposeLauncher

    ComposeLauncher().leave_out(known, foresight.WRITERS)


def start_again(known: Deployment, record: Record, out: Output) -> None:
    answer = known_answer.KnownAnswer.from_dict(record.answer)
    running.launcher(known.launcher).start(known, out.note)
    running.prove(known, answer, running.TIMEOUT_S[known.launcher])
