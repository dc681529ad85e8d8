"""`cf restart`: replaces the engine by a new one without downtime, or restarts all services."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compreface_cli.cleanup import interruptible
from compreface_cli.deploy import adoption, running, takeover, unfinished
from compreface_cli.engine import known_answer
from compreface_cli.errors import (
    CfError,
    ConfigurationError,
    DockerError,
    Interruption,
    UnhealthyError,
)
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, ServiceState
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S, Launcher
from compreface_cli.plan.operations import Away
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Restarted:
    """The restarted instance with the check of its answer; a dry run has `away` only."""

    record: Record
    deployment: Deployment
    away: tuple[Away, ...]
    whole: str = ""  # why everything restarts; empty: the engine alone
    services: tuple[ServiceState, ...] = ()
    proof: known_answer.Proof | None = None


def restart(
    name: str | None,
    out: Output,
    *,
    whole: bool = False,
    dry_run: bool = False,
    timeout_s: float | None = None,
) -> Restarted:
    """Restart the instance of that name, or the only one that runs, with the same settings.

    In a full stack only the engine, without downtime; with `whole` all services.
    """
    store = running.instances()
    name = running.pick(name, only_running=True, command="cf restart").name
    command = f"cf restart {name}"
    with interruptible(), store.lock(name, command):
        record = running.pick(name, only_running=False)
        adoption.refuse_half(record)
        if not dry_run:
            record = unfinished.settle(name, record, out) or record
        known = _startable(record)
        launcher = running.launcher(known.launcher)
        if not dry_run:
            launcher.resume(known, out.note)
        services = launcher.services(known)
        why = "--all asks for it" if whole else _obstacle(known, services)
        away = _away(services, record) if why else ()
        if dry_run:
            return Restarted(record, known, away, why)
        limit_s = timeout_s or running.TIMEOUT_S[known.launcher]
        answer = known_answer.KnownAnswer.from_dict(record.answer)
        if not why:
            out.note(f"A new engine of '{name}' starts beside the running one")
            store.save(unfinished.begun(record, command))
            try:
                _replace(known, answer, out, limit_s)
            except DockerError:
                out.warning(
                    f"what is left of '{name}' is known: `{command}` or the next `cf up` of it "
                    "puts it right"
                )
                raise  # the record stays unfinished, since Docker cannot say what runs
            except (CfError, Interruption) as failed:
                launcher.tidy(known)
                store.save(record)  # the running engine stayed as it was
                if isinstance(failed, Interruption):
                    failed.outcome = f"'{name}' runs on"
                raise
        else:
            _stop_and_start(launcher, known, record, out)
        store.save(record)
        with out.waiting("Waiting for the engine's answer"):
            proof = _prove(known, answer, limit_s)
        return Restarted(record, known, away, why, launcher.services(known), proof)


def _replace(
    known: Deployment, answer: known_answer.KnownAnswer, out: Output, limit_s: float
) -> None:
    """Replace the engines by new ones of the same kind, without downtime."""
    if known.launcher != "swarm":
        takeover.swap(known, answer, out, limit_s=limit_s)
        return
    from compreface_cli.launchers.swarm import SwarmLauncher

    with out.waiting("Swarm replaces the engines"):
        try:
            SwarmLauncher().roll(known, ["core"], out.note, limit_s=limit_s)
        except UnhealthyError as error:
            raise running.explain(error, known) from error


def _startable(record: Record) -> Deployment:
    name = record.name
    start = running.start_command(record)
    if record.phase != "running":
        raise ConfigurationError(
            f"instance '{name}' is not running", hint=f"Start it with `{start}`."
        )
    known = running.deployment(record)
    if not Path(known.data["folder"]).is_dir():
        raise ConfigurationError(
            f"instance '{name}' cannot start again: {known.data['folder']} is gone",
            hint=f"Start it again with `{start}`.",
        )
    if known.launcher == "compose":  # before anything is stopped
        from compreface_cli.launchers import compose_project

        folder = Path(known.data["folder"])
        compose_project.read(compose_project.command(known.data["project"], folder), "--quiet")
    return known


def _obstacle(known: Deployment, services: tuple[ServiceState, ...]) -> str:
    """Why the engine cannot be restarted alone; empty: it can."""
    idle = next((each for each in services if each.state != "running"), None)
    if idle is not None:
        return idle.words
    if known.launcher == "swarm":
        return ""  # which starts each new engine before it ends an old one
    obstacle = takeover.obstacle(known, known)
    return f"two engines cannot run side by side: {obstacle}" if obstacle else ""


def _away(services: tuple[ServiceState, ...], record: Record) -> tuple[Away, ...]:
    """All services are away from the first stop to the last start, at worst one after the other."""
    known = [record.start_s.get(service.name) for service in services]
    whole_s = None if None in known else STOP_TIMEOUT_S + sum(seconds or 0 for seconds in known)
    if len(services) == 1:
        whole_s = known[0]
    return tuple(Away(service.name, whole_s, "it restarts") for service in services)


def _stop_and_start(launcher: Launcher, known: Deployment, record: Record, out: Output) -> None:
    store, name = running.instances(), record.name
    command = f"cf restart {name} --all"
    try:
        store.save(unfinished.begun(record, command, stopping=True))
        with out.progress(f"Stopping '{name}'"):
            launcher.stop(known)
        store.save(unfinished.begun(record, command))
        with out.progress(f"Starting '{name}'"):
            launcher.start(known, out.note)
    except UnhealthyError:
        store.save(record)
        raise
    except Interruption as signalled:
        signalled.outcome = f"'{name}' may be stopped now: `{command}` starts it"
        raise


def _prove(
    known: Deployment, answer: known_answer.KnownAnswer, limit_s: float
) -> known_answer.Proof:
    try:
        return running.prove(known, answer, limit_s)
    except UnhealthyError as error:
        raise running.explain(error, known) from error
