"""What the flows of running instances share: their records, their launchers, and why one failed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compreface_cli import causes
from compreface_cli.checks import ui_routes
from compreface_cli.config import paths
from compreface_cli.deploy import lost, routes
from compreface_cli.engine.client import is_up
from compreface_cli.errors import (
    CfError,
    ConfigurationError,
    ConflictError,
    UnhealthyError,
    UsageError,
)
from compreface_cli.instance.records import Instances, Record
from compreface_cli.instance.state import Deployment, Kind, ServiceState
from compreface_cli.launchers.launcher import Launcher

if TYPE_CHECKING:
    from compreface_cli.engine.known_answer import KnownAnswer, Proof

TIMEOUT_S = {"process": 120.0, "compose": 300.0}  # from a start to the first answer
_LOG_LINES = 12
_BROKEN = ("failed", "stopped", "missing")


def instances() -> Instances:
    return Instances(paths.instances_dir())


def launcher(kind: Kind) -> Launcher:
    """The launcher of that kind (Docker's is imported only when it is needed)."""
    if kind == "process":
        from compreface_cli.launchers.process import ProcessLauncher

        return ProcessLauncher(instances().home)
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher()


def deployment(record: Record) -> Deployment:
    """What the record says is deployed, with the key that its engine asks for.

    Raises ConfigurationError when that cannot be understood.
    """
    from compreface_cli.launchers import keys

    if not record.deployment:
        raise ConfigurationError(
            f"nothing of instance '{record.name}' was started yet",
            hint=f"`{start_command(record)}` starts it, `cf down {record.name}` forgets it.",
        )
    try:
        known = Deployment.from_dict(record.deployment)
        key = known.engine.key or keys.first(known)
        return replace(known, engine=replace(known.engine, key=key))
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"the record of instance '{record.name}' does not say what was started",
            hint=f"It lies in {instances().home(record.name)}.",
        ) from error


def record_of(name: str) -> Record | None:
    """The instance's record, or one made up for containers of it that have none."""
    return instances().load(name) or lost.instance(name)


def pick(name: str | None, *, only_running: bool, command: str = "") -> Record:
    """The record a command means: the one named, or the only one there is.

    `command` takes the name as its argument (`cf down`); without it `--instance` does.

    Raises UsageError with the list when there are several, ConfigurationError when there is none.
    """
    store = instances()
    if name is not None:
        record = record_of(name)
        if record is None:
            raise ConfigurationError(
                f"there is no instance '{name}'", hint="`cf status` lists the instances."
            )
        return record
    records, _ = store.all()
    found = [one for one in records if one.phase != "stopped"] if only_running else records
    if not found:
        raise ConfigurationError("no instance runs", hint="`cf up` starts one.")
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise UsageError(
            f"several instances run: {names}",
            hint=f"Name one of them: {command or '--instance'} {found[0].name}",
            details={"instances": [one.name for one in found]},
        )
    return found[0]


@dataclass(frozen=True, slots=True)
class Health:
    """How an instance is in one word, with its services."""

    state: str  # running | starting | unhealthy | stopped | interrupted | unknown
    services: tuple[ServiceState, ...]
    detail: str = ""


def health(record: Record, *, busy: bool) -> Health:
    """Look at every service and ask the engine; `busy` tells that another `cf` holds the lock."""
    if record.phase == "stopped":
        return Health("stopped", ())
    try:
        services = _services(record) if record.deployment else ()
    except CfError as error:
        if record.unfinished and not busy:
            return Health("interrupted", (), f"{_cut_off(record, runs=False)}\n{error.message}")
        return Health("unknown", (), error.message)
    if record.unfinished and not busy:
        return Health("interrupted", services, _cut_off(record, runs=_answers(record)))
    if record.unfinished and not _answers(record):
        return Health("stopping" if record.phase == "stopping" else "starting", services)
    broken = next((one for one in services if one.state != "running"), None)
    if broken is not None:
        word = "starting" if broken.state == "starting" else "unhealthy"
        return Health(word, services, _says(record, broken))
    known = deployment(record)
    if known.ui is not None and (silent := routes.silent(known.ui.url)):
        found = ui_routes.judge(record.name, known.ui.url, silent)
        return Health("unhealthy", services, "\n".join((found.message, found.hint)))
    engine = known.engine
    if not is_up(engine.url, key=engine.key):
        return Health("unhealthy", services, "the engine gives no answer")
    sick = next((one for one in services if one.healthy is False), None)
    if sick is not None:
        return Health("unhealthy", services, f"{sick.name} says that it is not healthy")
    return Health("running", services, next((one.detail for one in services if one.detail), ""))


def _answers(record: Record) -> bool:
    if not record.deployment:
        return False
    engine = deployment(record).engine
    return is_up(engine.url, key=engine.key)


def _cut_off(record: Record, *, runs: bool) -> str:
    """What became of an instance whose `cf` was cut off, and the ways on."""
    now = f"; {record.build} answers" if runs else ""
    ways = f"`{start_command(record)}` puts that right, `cf down {record.name}` stops what is left"
    return f"`{record.command or 'cf up'}` was cut off before its end{now}. {ways}"


def start_command(record: Record) -> str:
    """The `cf up` that starts this very instance: its build, as flags have changed that."""
    from compreface_cli.config.settings_table import BUILD

    origins = record.plan.get("origins", {})
    words = ["cf", "up", origins.get("build", record.build)]
    if record.name != record.build:
        words += ["--instance", record.name]
    for row in BUILD:
        if row.flag and origins.get(row.key) == f"flag {row.flag}":
            value = record.plan[row.key]
            if row.key == "device":
                words.append(row.flag)
            else:
                for one in value if isinstance(value, list | tuple) else [value]:
                    words += [row.flag, str(one)]
    return shlex.join(words)


def _says(record: Record, broken: ServiceState) -> str:
    """What is wrong with a service, and the ways on where it was ended: perhaps by half a `down`"""
    said = broken.words
    if broken.state == "paused":
        return f"{said}; `cf restart {record.name}` lets it go on"
    if broken.state not in ("stopped", "missing"):
        return said
    down = f"`cf down {record.name}` removes what is left"
    # A process whose folder went has nothing to start from; Compose makes containers anew.
    if broken.state == "missing" and deployment(record).launcher == "process":
        return f"{said}; {down}"
    return f"{said}; `cf restart {record.name}` starts it again, {down}"


def runtimes(record: Record) -> Mapping[str, Any]:
    """What the engine says of each network: runtime, precision, cosine; empty if it says nothing.

    Keys are the plugins' slugs (`calculator`, `detector`, ...).
    """
    from compreface_cli.engine.client import EngineClient, Refused

    try:
        engine = deployment(record).engine
        with EngineClient(engine.url, key=engine.key, timeout_s=2.0) as client:
            said = client.status().get("runtimes")
    except (UnhealthyError, Refused):
        return {}
    return said if isinstance(said, dict) else {}


def runtime_words(said: Mapping[str, Any]) -> str:
    """One network's runtime in a line: `onnxruntime fp32, cosine 0.99996 (at least 0.9995)`."""
    words = f"{said.get('runtime')} {said.get('precision')}"
    if said.get("min_cosine") is None:
        return words
    return f"{words}, cosine {said['min_cosine']:.5f} to fp32 (at least {said.get('tolerance')})"


def _services(record: Record) -> tuple[ServiceState, ...]:
    known = deployment(record)
    return launcher(known.launcher).services(known)


def alive(services: Sequence[ServiceState]) -> bool:
    """Whether anything of it runs."""
    return any(one.state not in _BROKEN for one in services)


def refuse_foreign_listener(of: Deployment) -> None:
    """ConflictError when not the engine of this process answers at its port, but another program.

    Between the look at the port and the engine's start somebody else may have taken it.
    """
    if of.launcher != "process":
        return  # Docker itself refuses to share a port
    from compreface_cli.facts import host

    mine = launcher(of.launcher).services(of)[0]
    others = host.port(of.engine.bind, of.engine.port).listeners
    if not others or mine.pid in {one.pid for one in others}:
        return
    pid, name = others[0].pid, others[0].process
    who = "a process that this user may not see" if pid is None else f"{name} (pid {pid})"
    raise ConflictError(
        f"port {of.engine.port} was taken by {who} while the engine started",
        hint="Choose another port: --port auto",
        details={"port": of.engine.port, "pid": pid},
    )


def prove(
    of: Deployment,
    answer: KnownAnswer,
    limit_s: float,
    *,
    answered: Callable[[], None] = lambda: None,
) -> Proof:
    """Wait until the engine knows the known face and every service is ready.

    `answered` is called at the engine's first answer. Raises UnhealthyError, and ConflictError when
    another program has the port.
    """
    from compreface_cli.engine import known_answer

    deadline = time.monotonic() + limit_s
    runs = launcher(of.launcher)
    known_answer.wait(of.engine, lambda: runs.services(of)[0], deadline)
    answered()
    refuse_foreign_listener(of)
    proof = known_answer.check(of.engine, answer, deadline)
    known_answer.wait_for_all(lambda: runs.services(of), deadline)
    return proof


def explain(error: CfError, of: Deployment, *, trial: bool = False) -> CfError:
    """The same error with the service's last log lines and the likely cause.

    `trial`: it was the engine that runs beside the old one.
    """
    try:
        told = error.details.get("log") or _last_lines(of, error.details.get("service"), trial)
    except CfError:
        told = []  # the first error is the one that counts
    lines = [str(line)[:300] for line in told if '"severity": "INFO"' not in line][-_LOG_LINES:]
    text = "\n".join([error.message, *lines])
    cause = causes.of("service", text)
    parts = [error.hint or ""]
    if cause and "wrong" not in error.details:
        parts.append(f"Likely cause: {cause.what}.")
    if lines:
        parts.append("Its last lines:\n  " + "\n  ".join(lines))
    details: dict[str, Any] = {**error.details, "log": lines, "likely_cause": cause and cause.what}
    kind = cause.error if cause else UnhealthyError
    return kind(error.message, hint="\n".join(p for p in parts if p), details=details)


def _last_lines(of: Deployment, service: str | None, trial: bool) -> list[str]:
    if trial and of.launcher == "compose":
        from compreface_cli.docker import containers
        from compreface_cli.docker.labels import LABEL_TRIAL

        engines = containers.listed(f"{LABEL_TRIAL}={of.instance}")
        return containers.last_lines(engines[0], _LOG_LINES) if engines else []
    lines = launcher(of.launcher).logs(of, tail=_LOG_LINES, follow=False, service=service or "core")
    return list(lines)


def service_rows(services: Sequence[ServiceState]) -> list[Mapping[str, Any]]:
    """For `--json`."""
    return [
        {
            "name": one.name,
            "state": one.state,
            "healthy": one.healthy,
            "detail": one.detail,
            "pid": one.pid,
            "container": one.container,
            "restarts": one.restarts,
            "since": one.since,
        }
        for one in services
    ]
