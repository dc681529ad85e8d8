"""Recovery after a run of `cf` that was cut off: what runs now, and how the next run repairs it.

Before a run changes anything, it writes into the instance's record what it is about to do and what
there was before. However it ends, killed or with a Docker engine that died during its clean-up, the
next `cf` reads that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from compreface_cli.config import paths
from compreface_cli.deploy import changes, restoring, running, takeover
from compreface_cli.engine import known_answer
from compreface_cli.errors import CfError, DataRefusedError, UnhealthyError
from compreface_cli.instance import migrations
from compreface_cli.instance.records import Phase, Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S
from compreface_cli.plan.operations import Operation
from compreface_cli.terminal.output import Output


def begun(record: Record, command: str, *, stopping: bool = False) -> Record:
    """The record of an instance that `command` stops and starts again."""
    phase: Phase = "stopping" if stopping else "starting"
    return replace(record, phase=phase, previous_record=asdict(record), command=command)


def ending(record: Record, command: str) -> Record:
    """The record of an instance that `command` stops permanently."""
    before = record.previous if record.unfinished else None
    previous = asdict(replace(before, phase="stopped")) if before else None
    return replace(record, phase="stopping", previous_record=previous, command=command)


def actual(record: Record) -> Record:
    """An unfinished record with the build and the addresses that really run; others unchanged."""
    if not record.unfinished:
        return record
    before = record.previous
    shown = before or record
    for candidate in (before, record):
        if candidate is None or not candidate.deployment or candidate.phase == "stopped":
            continue
        known = running.deployment(candidate)
        try:
            if running.alive(running.launcher(known.launcher).services(known)):
                shown = _as_docker_says(candidate, known)
                break
        except CfError:
            break  # Docker does not answer, which the caller will see too
    marks = {key: getattr(record, key) for key in ("phase", "previous_record", "command")}
    return replace(shown, **marks)


def _as_docker_says(record: Record, known: Deployment) -> Record:
    """The record by its containers, some of which an interrupted run may have replaced."""
    if known.launcher != "compose":
        return record
    from compreface_cli.launchers.compose_state import project_state

    state = project_state(known.data["project"], Path(known.data["folder"]))
    if state is None:
        return record
    runs = replace(
        known,
        engine=_at(known.engine, state.engine),
        ui=_at(known.ui, state.ui) if known.ui else None,
        data={**known.data, "image": state.image or known.data.get("image")},
    )
    return replace(
        record,
        build=state.build or record.build,
        calculator=state.calculator or record.calculator,
        deployment=runs.as_dict(),
    )


def _at(known: Endpoint, published: Endpoint | None) -> Endpoint:
    return replace(published, key=known.key) if published else known


def cut_off(record: Record | None) -> tuple[Operation, ...]:
    """The operation that `cf up` carries out first if an interrupted run left this record."""
    if record is None or not record.unfinished:
        return ()
    cause = "its containers have no record"
    if record.command:
        cause = f"an earlier `{record.command}` was cut off"
    return (Operation("put right", record.name, cause),)


def foresee(record: Record | None) -> Record | None:
    """The record that `settle` will return, without changing anything."""
    if record is None or not record.unfinished:
        return record
    if restoring.is_of(record):
        return None
    before = record.previous
    if before is None or before.phase != "running":
        return _stopped(before or record)
    return before


def settle(
    name: str,
    record: Record | None,
    out: Output,
    *,
    timeout_s: float = STOP_TIMEOUT_S,
    must_run: bool = False,
) -> Record | None:
    """Put right what a run of `cf` that was cut off has left; says what that is.

    To be called with the instance's lock held. `record`: as `running.record_of(name)` has it.
    Returns the record as it then is: of the previous instance, or of a stopped one whose volume is
    here, or None. A previous instance that does not start is a warning; with `must_run` its
    error is raised, and the record stays unfinished.
    """
    from compreface_cli.deploy import project_folder, rotation

    store, folder = running.instances(), paths.project_dir(name)
    if record is None:
        store.remove(name)
        return None
    if restoring.is_of(record):
        announce(record, out, going_down=True)
        restoring.drop(record)
        return None
    rotation.heal(record, out)
    if not record.unfinished:
        # The way back that a run has left which was killed after its last step.
        project_folder.forget_old(folder)
        return record
    announce(record, out)
    before = record.previous
    project_folder.put_old_back(folder)
    goes_on = before is not None and before.phase == "running"
    mark = migrations.marked(name)
    if before is not None and mark is not None and mark.phase == "switching":
        # The faces may be the new engine's by now: beside a running api the former one mixes them.
        goes_on = goes_on and before.calculator == record.calculator
    for known in deployments(record):
        same = known == running.deployment(before) if before and before.deployment else False
        if goes_on and record.phase == "starting" and (same or _shared(known, before)):
            continue  # what is left of it runs on, and the start below makes it whole
        launcher = running.launcher(known.launcher)
        launcher.stop(known, timeout_s=timeout_s)
        if not same:
            launcher.remove(known)
    if before is None or not goes_on:
        return ended(_before(record))
    fault = _bring_back(before, record, out)
    if fault is not None:
        # It may be what `up` is about to replace; or a migration has changed the faces by now.
        out.warning(f"the previous instance does not start: {fault.message}")
        if must_run:
            raise fault
    # What its command needs to go on stays, since the previous instance may not have started.
    settled = _before(record)
    store.save(settled)
    return settled


def deployments(record: Record) -> list[Deployment]:
    """All that a record knows of, what the run began first."""
    distinct: list[Deployment] = []
    for state in (record, record.previous):
        if state is not None and state.deployment:
            known = running.deployment(state)
            if known not in distinct:
                distinct.append(known)
    return distinct


def before(record: Record) -> Record:
    """The record before an unfinished run, with what its command needs to go on; else itself."""
    previous = record.previous if record.unfinished else None
    return replace(previous, task=record.task) if previous else record


_before = before  # where a local name hides it


def ended(record: Record) -> Record | None:
    """Write down that nothing of it runs any more; forget it when it has no data either.

    Returns what is written down.
    """
    stopped = _stopped(record)
    if stopped is None:
        running.instances().remove(record.name)
    else:
        running.instances().save(stopped)
    return stopped


def _stopped(record: Record) -> Record | None:
    """The record of an instance of which nothing runs; None where it has no data either."""
    stopped = replace(record, phase="stopped", previous_record=None, command="")
    if record.adopted:
        return stopped  # the way back to upstream's containers
    if record.services == "full" and record.deployment:
        known = running.deployment(record)
        if "volume" in running.launcher(known.launcher).keeps(known):
            # The data outlive the instance's run, and so does the word which calculator made them.
            return stopped
    return None


def announce(record: Record, out: Output, *, going_down: bool = False) -> None:
    """Say that a run was cut off, and of what something is left."""
    left = sorted({name for known in deployments(record) for name in _there(known)})
    what = f" ({', '.join(left)})" if left else ""
    if not record.command:
        out.note(f"'{record.name}' has containers but no record; taking them over{what}")
        return
    before = record.previous
    back = before is not None and before.phase == "running" and not going_down
    then = "restoring the previous instance" if back else "removing what it left"
    out.note(f"An earlier `{record.command}` was cut off; {then}{what}")


def _there(known: Deployment) -> Iterator[str]:
    for service in running.launcher(known.launcher).services(known):
        if service.state != "missing":
            yield service.name


def _shared(known: Deployment, before: Record | None) -> bool:
    """Whether both are states of one Compose project or stack."""
    if before is None or not before.deployment:
        return False
    other = running.deployment(before)
    return known.launcher == other.launcher != "process"


def _bring_back(before: Record, record: Record, out: Output) -> CfError | None:
    """Start the previous instance again; returns why it does not start."""
    known = running.deployment(before)
    replacing = running.deployment(record) if _shared(known, record) else None
    if known.launcher == "process" and not Path(known.data["folder"]).is_dir():
        return None
    launcher = running.launcher(known.launcher)
    launcher.tidy(known, record.touched)
    try:
        if replacing is not None and _another_engine(known):
            out.note("The previous engine starts beside the new one")
            answer = known_answer.KnownAnswer.from_dict(before.answer)
            limit_s = running.TIMEOUT_S[known.launcher]
            takeover.swap(known, answer, out, limit_s=limit_s, every=False)
        launcher.start(known, out.note, replacing=replacing)
    except (UnhealthyError, DataRefusedError) as error:
        return error
    return None


def _another_engine(known: Deployment) -> bool:
    """Whether an engine runs that is not this one, and that this one can stand beside."""
    if takeover.obstacle(known, known) or "core" not in changes.of(known):
        return False
    return running.launcher(known.launcher).services(known)[0].state == "running"
