"""Running instances: their records, launchers and health, and the cause of a failure."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from compreface_cli.causes.docker import PORT_TAKEN
from compreface_cli.checks import log_messages, ui_routes
from compreface_cli.checks.log_messages import Reason
from compreface_cli.config import paths
from compreface_cli.deploy import lost, reasons, restoring, routes
from compreface_cli.engine.client import is_up
from compreface_cli.errors import (
    CfError,
    ConfigurationError,
    ConflictError,
    UnhealthyError,
    UsageError,
)
from compreface_cli.instance import adopted, migrations
from compreface_cli.instance.records import Instances, Record
from compreface_cli.instance.state import Deployment, Kind, ServiceState
from compreface_cli.launchers.launcher import Launcher
from compreface_cli.topics import Topic

if TYPE_CHECKING:
    from compreface_cli.engine.known_answer import KnownAnswer, Proof

NOT_ON_SWARM = Topic(
    "not-on-swarm",
    means="The command does not work on an instance that is a stack of Docker Swarm.",
    why="It stops and starts single services on one database in an order of its own, which is "
    "done and tested with Docker Compose alone.",
    see="`cf status` shows the launcher of each instance.",
    ways=(
        "Start the instance by Compose on the node of its database, on the same data: "
        "`cf up --launcher compose`. Run the command, then `cf up --launcher swarm`.",
    ),
)
TIMEOUT_S = {"process": 120.0, "compose": 300.0, "swarm": 600.0}  # from a start to the first answer
_LOG_LINES = 12
_LINE_SHOWN = 300
_BROKEN = ("failed", "stopped", "missing")


def instances() -> Instances:
    return Instances(paths.instances_dir())


def launcher(kind: Kind) -> Launcher:
    """The launcher of that kind; that of Docker is imported only when it is needed."""
    if kind == "process":
        from compreface_cli.launchers.process import ProcessLauncher

        return ProcessLauncher(instances().home)
    if kind == "swarm":
        from compreface_cli.launchers.swarm import SwarmLauncher

        return SwarmLauncher()
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher()


def deployment(record: Record) -> Deployment:
    """The deployment in the record, with the API key of its engine.

    Raises ConfigurationError when the record is invalid.
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
            hint=f"It is in {instances().home(record.name)}.",
        ) from error


def record_of(name: str) -> Record | None:
    """The instance's record, or one restored from its containers; None if there is neither."""
    return instances().load(name) or lost.instance(name)


def refuse_swarm(record: Record, command: str) -> None:
    """Raise ConfigurationError for a command that changes what only Compose runs."""
    if record.deployment.get("launcher") != "swarm":
        return
    words = start_command(record).replace(" --launcher swarm", "")
    raise ConfigurationError(
        f"`{command}` does not work on a stack of Docker Swarm, and '{record.name}' is one",
        hint="On the node of its database it can run by Compose meanwhile, on the same data: "
        f"`{words} --launcher compose`, then `{command}`, then `cf up` with --launcher swarm.",
        details={"instance": record.name, "launcher": "swarm"},
        topic=NOT_ON_SWARM,
    )


def pick(name: str | None, *, only_running: bool, command: str = "") -> Record:
    """The record of the instance with that name, or of the only instance.

    `command`: a command that takes the name as its argument (`cf down`), else `--instance` does.
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
    choices = [each for each in records if each.phase != "stopped"] if only_running else records
    if not choices:
        raise ConfigurationError("no instance runs", hint="`cf up` starts one.")
    if len(choices) > 1:
        names = [each.name for each in choices]
        raise UsageError(
            f"several instances run: {', '.join(names)}",
            hint=f"Name one of them: {command or '--instance'} {names[0]}",
            details={"instances": names},
        )
    return choices[0]


@dataclass(frozen=True, slots=True)
class Health:
    """The state of an instance in one word, with its services.

    `reason`: why a service ends again and again, or does not become ready. `slow`: what is late.
    """

    state: str  # running | slow | starting | crash-looping | unhealthy | stopped | interrupted ...
    services: tuple[ServiceState, ...]
    detail: str = ""
    reason: Reason | None = None
    slow: reasons.Slow | None = None

    @property
    def answers(self) -> bool:
        return self.state in ("running", "slow")


def health(record: Record, *, busy: bool) -> Health:
    """Examine all services and request `/status`; `busy`: another `cf` holds the lock.

    A migration that was cut off is named, with the command that goes on with it.
    """
    state = _health(record, busy=busy)
    mark = None if busy or record.phase == "stopped" else migrations.marked(record.name)
    if mark is None:
        return state
    words = f"the migration to {mark.build} is not complete; `{mark.command}` goes on with it"
    interrupted = mark.phase == "switching" and state.state != "running"
    lines = "\n".join(filter(None, (words, state.detail)))
    return replace(state, state="interrupted" if interrupted else state.state, detail=lines)


def _health(record: Record, *, busy: bool) -> Health:
    if adopted.half(record):
        words = adopted.cut_off_words(record)
        return Health("starting", ()) if busy else Health("interrupted", (), words)
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
    known = deployment(record)
    looping = next((each for each in services if reasons.crash_loops(each)), None)
    broken = looping or next((each for each in services if each.state != "running"), None)
    if broken is not None:
        reason = reasons.of(launcher(known.launcher), known, broken)
        detail = _with_reason(record, _says(record, broken), reason)
        word = "starting" if broken.state == "starting" else "unhealthy"
        return Health("crash-looping" if looping else word, services, detail, reason)
    if known.ui is not None and (
        silent := routes.silent(known.ui.url, certificate=known.ui.certificate)
    ):
        finding = ui_routes.judge(record.name, known.ui.url, silent)
        return Health("unhealthy", services, "\n".join((finding.message, finding.hint)))
    taken_s = reasons.seconds(known.engine)
    if taken_s is None:
        return Health("unhealthy", services, "the engine gives no answer")
    faulty = next((each for each in services if each.healthy is False), None)
    if faulty is not None:
        reason = reasons.of(launcher(known.launcher), known, faulty)
        detail = _with_reason(record, f"{faulty.name} reports that it is unhealthy", reason)
        return Health("unhealthy", services, detail, reason)
    detail = next((each.detail for each in services if each.detail), "")
    slow = reasons.slow(known.engine, taken_s)
    if slow is not None:
        detail = "\n".join(filter(None, (f"slow: {slow.says} [{slow.topic.id}]", detail)))
    return Health("slow" if slow else "running", services, detail, slow=slow)


def _with_reason(record: Record, fault: str, reason: Reason | None) -> str:
    """The fault with its likely cause, the line of the log that says so, and the next step."""
    if reason is None:
        return fault
    lines = [fault, f"Likely cause: {reason.says} [{reason.topic.id}]"]
    if reason.line:
        lines.append(f"Its log: {reason.line[:_LINE_SHOWN]}")
    return "\n".join([*lines, f"Next: {reason.topic.ways[0].replace('INSTANCE', record.name)}"])


def _answers(record: Record) -> bool:
    if not record.deployment:
        return False
    engine = deployment(record).engine
    return is_up(engine.url, key=engine.key)


def _cut_off(record: Record, *, runs: bool) -> str:
    """The state of an instance whose `cf` was cut off, with the commands that repair it."""
    if restoring.is_of(record):
        return (
            f"`{record.command}` was cut off before its end, and nothing uses what it has made: "
            f"the same command starts anew, `cf down {record.name}` removes what is left"
        )
    now = f"; {record.build} answers" if runs else ""
    # What only that command can go on with, such as `cf upgrade`.
    own = record.command and not record.command.startswith(("cf up ", "cf restart ", "cf down "))
    going_on = str(record.task.get("command") or "")  # another command was cut off since
    again = going_on or (record.command if own else start_command(record))
    ways = f"`{again}` puts that right, `cf down {record.name}` stops what is left"
    return f"`{record.command or 'cf up'}` was cut off before its end{now}. {ways}"


def start_command(record: Record) -> str:
    """The `cf up` command that starts this instance: its build with the flags that changed it.

    A database image that the environment chose goes before it: no other reads the data.
    """
    from compreface_cli.builds.builds import RENAMED
    from compreface_cli.config.settings_table import BUILD, BY_KEY

    origins = record.plan.get("origins", {})
    alone = record.plan.get("image_alone", False)
    build = RENAMED.get(record.build, record.build)
    words = ["cf", "up", *(() if alone else (origins.get("build", build),))]
    if record.name != build:
        words += ["--instance", record.name]
    for row in BUILD:
        named = row.key == "image" and alone
        if row.flag and (named or origins.get(row.key) == f"flag {row.flag}"):
            value = record.plan[row.key]
            if row.key in ("device", "fallbacks"):  # flags without a value
                words.append(row.flag)
            else:
                for item in value if isinstance(value, list | tuple) else [value]:
                    words += [row.flag, str(item)]
    if record.plan.get("launcher") == "swarm":
        words += ["--launcher", "swarm", "--bind", str(record.plan["bind"])]
    stack = record.plan.get("stack") or {}
    chosen = [
        f"{BY_KEY[key].env}={shlex.quote(str(stack[key]))}"
        for key in ("postgres_image", "postgres_version")
        if key in stack and origins.get(key) == f"environment {BY_KEY[key].env}"
    ]
    return " ".join([*chosen, shlex.join(words)])


def _says(record: Record, broken: ServiceState) -> str:
    """The fault of a service, with the commands that repair it."""
    fault = broken.words
    if broken.state == "paused":
        return f"{fault}; `cf restart {record.name}` resumes it"
    if broken.state not in ("stopped", "missing"):
        return fault
    down = f"`cf down {record.name}` removes what is left"
    # A process whose folder is gone cannot be started; Compose can create its containers again.
    if broken.state == "missing" and deployment(record).launcher == "process":
        return f"{fault}; {down}"
    return f"{fault}; `cf restart {record.name}` starts it again, {down}"


def runtimes(record: Record) -> Mapping[str, Any]:
    """Runtime, precision and cosine of each network, as the engine reports them; {} without.

    Keys are the plugins' slugs (`calculator`, `detector`, ...).
    """
    from compreface_cli.engine.client import EngineClient, Refused

    try:
        engine = deployment(record).engine
        with EngineClient(engine.url, key=engine.key, timeout_s=2.0) as client:
            runtimes = client.status().get("runtimes")
    except (UnhealthyError, Refused):
        return {}
    return runtimes if isinstance(runtimes, dict) else {}


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
    """Whether at least one of the services runs."""
    return any(each.state not in _BROKEN for each in services)


def refuse_foreign_listener(of: Deployment) -> None:
    """Raise ConflictError if another program than this process's engine listens at its port.

    It may have bound the port between the check and the engine's start.
    """
    if of.launcher != "process":
        return  # Docker itself refuses to share a port
    from compreface_cli.facts import host

    engine = launcher(of.launcher).services(of)[0]
    others = host.port(of.engine.bind, of.engine.port).listeners
    if not others or engine.pid in {each.pid for each in others}:
        return
    pid, name = others[0].pid, others[0].process
    who = "a process that this user may not see" if pid is None else f"{name} (pid {pid})"
    raise ConflictError(
        f"port {of.engine.port} was taken by {who} while the engine started",
        hint="Choose another port: --port auto",
        details={"port": of.engine.port, "pid": pid},
        topic=PORT_TAKEN,
    )


def prove(
    of: Deployment,
    answer: KnownAnswer,
    limit_s: float,
    *,
    answered: Callable[[], None] = lambda: None,
) -> Proof:
    """Wait until the engine recognises the reference face and every service is ready.

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

    `trial`: it is the error of an engine that was checked next to the running one.
    """
    try:
        log = error.details.get("log") or _last_lines(of, error.details.get("service"), trial)
    except CfError:
        log = []  # the first error is the one that matters
    lines = [str(line)[:300] for line in log if '"severity": "INFO"' not in line][-_LOG_LINES:]
    service = str(error.details.get("service") or "core")
    code = re.search(r"exit code (\d+)", error.message)
    cause = log_messages.reason(
        service, [error.message, *lines], exit_code=int(code[1]) if code else 0
    )
    parts = [error.hint or ""]
    if cause and "wrong" not in error.details:
        parts.append(f"Likely cause: {cause.says}.")
    if lines:
        parts.append("Its last lines:\n  " + "\n  ".join(lines))
    details: dict[str, Any] = {**error.details, "log": lines, "likely_cause": cause and cause.says}
    kind, message, port = cause.error if cause else UnhealthyError, error.message, of.engine.port
    if kind is ConflictError and of.launcher == "process" and str(port) not in message:
        message = f"port {port} was taken meanwhile: {message}"
    about = cause.topic if cause and "wrong" not in error.details else error.topic
    hint = "\n".join(part for part in parts if part)
    return kind(message, hint=hint, details=details, topic=about)


def _last_lines(of: Deployment, service: str | None, trial: bool) -> list[str]:
    if trial and of.launcher == "compose":
        from compreface_cli.docker import containers
        from compreface_cli.docker.labels import LABEL_TRIAL

        engines = containers.listed(f"{LABEL_TRIAL}={of.instance}")
        return containers.last_lines(engines[0], _LOG_LINES) if engines else []
    lines = launcher(of.launcher).logs(of, tail=_LOG_LINES, follow=False, service=service or "core")
    return list(lines)


def service_rows(services: Sequence[ServiceState]) -> list[Mapping[str, Any]]:
    """The services as `--json` lists them."""
    return [
        {
            "name": service.name,
            "state": service.state,
            "healthy": service.healthy,
            "detail": service.detail,
            "pid": service.pid,
            "container": service.container,
            "restarts": service.restarts,
            "since": service.since,
            "replicas": [
                {"number": each.number, "metrics": each.address and f"{each.address}/metrics"}
                | {key: getattr(each, key) for key in ("state", "healthy", "detail", "restarts")}
                for each in service.replicas
            ],
            **({"tasks": [asdict(task) for task in service.tasks]} if service.tasks else {}),
        }
        for service in services
    ]
