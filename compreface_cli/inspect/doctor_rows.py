"""What `cf doctor` asks beyond one plan: is this machine fit, and is what `cf` keeps here whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from compreface_cli.checks import architecture, cpu, disk, docker, gpu, memory, port
from compreface_cli.checks.base import (
    CONFIGURATION,
    CONFLICT,
    FETCH,
    Finding,
    fail,
    ok,
    size,
    warn,
    whose,
)
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import Container
from compreface_cli.facts.host import PortFact

MIN_PYTHON = (3, 11)

ModelState = Literal["here", "missing", "damaged"]


@dataclass(frozen=True, slots=True)
class Environment:
    """The engine's private environment: `folder` None: not made; `error`: what is broken."""

    folder: str | None
    error: str = ""
    can_be_made: bool = True  # this Python has what makes virtual environments


@dataclass(frozen=True, slots=True)
class PortUse:
    """What `cf up` would publish a port for; `needed`: without it no `up` of these settings starts.

    `way_out`: the flags that choose another.
    """

    what: str
    needed: bool = True
    way_out: str = "--port auto"


PORTS: Mapping[int, PortUse] = {
    3000: PortUse("the engine's port", way_out="--port auto --core-port auto"),
    8000: PortUse("the UI's port", needed=False),  # without Docker the engine starts alone
}


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything the doctor looked at; `instances`: port -> the running instance that has it.

    `settings`: what is wrong with them, as rows; `ui`: whether the build they choose fits the UI.
    """

    facts: Facts
    ports: Mapping[int, PortUse] = field(default_factory=lambda: PORTS)
    settings: Sequence[Finding] = ()
    ui: Sequence[Finding] = ()
    models: Mapping[str, ModelState] = field(default_factory=dict)
    environment: Environment = field(default_factory=lambda: Environment(None))
    instances: Mapping[int, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)  # builds, records -> what is wrong
    trouble: Sequence[Finding] = ()  # what keeps the models from being looked at
    uis: Sequence[Finding] = ()  # of each running instance with a UI: does it answer
    databases: Sequence[Finding] = ()  # of each running instance with a database: what it holds


def judge(seen: Seen) -> list[Finding]:
    """One row for each thing that was looked at, in the order of the report."""
    facts = seen.facts
    return [
        _python(facts.host.python),
        architecture.judge(facts.host.architecture),
        cpu.judge(facts.host.cpu_flags, "onnxruntime", facts.host.architecture),
        _memory(facts),
        *_disks(facts),
        *_docker(facts),
        *_nvidia(facts),
        *(_port(seen, number, fact) for (_, number), fact in facts.host.ports.items()),
        *seen.uis,
        *seen.databases,
        *(seen.settings or [ok("settings", "every value that is set is one that `cf up` takes")]),
        *seen.ui,
        *(seen.trouble or _models(seen.models)),
        _environment(seen),
        *(
            warn("files", f"{what} cannot be read: {why}", "Correct the file or move it away.")
            for what, why in seen.broken.items()
        ),
    ]


def exit_code(rows: list[Finding]) -> int:
    """The smallest code of the failed rows, 0 when none failed."""
    return min((row.code for row in rows if row.level == "fail"), default=0)


def _python(version: str) -> Finding:
    if docker.version(version) >= MIN_PYTHON:
        return ok("python", f"Python {version}")
    wanted = ".".join(str(part) for part in MIN_PYTHON)
    return fail(
        "python",
        CONFIGURATION,
        f"Python {version} is too old; {wanted} or newer is needed",
        "Install a newer Python and install cf with it.",
    )


def _memory(facts: Facts) -> Finding:
    row = memory.judge(facts.host.memory_total, facts.host.memory_available, memory.ENGINE)
    total = facts.host.memory_total
    if row.level == "ok" and total is not None and total < memory.STACK:
        return warn(
            memory.NAME,
            f"{size(total)}: enough for the engine, too little for the full stack "
            f"({size(memory.STACK)})",
            "Start the engine alone: cf up --services core",
        )
    return row


def _disks(facts: Facts) -> Iterator[Finding]:
    yield from disk.judge_folders(facts.host.disks.values())
    if facts.docker is not None and facts.docker.reachable:
        root = disk.judge_root(
            facts.docker.root_dir,
            facts.docker.root_free,
            facts.docker.local,
            disk.REST + disk.CPU_BUILD,
        )
        # An image that is built already needs no room, so this is no reason to fail.
        yield replace(root, level="warn", code=0) if root.level == "fail" else root


def _docker(facts: Facts) -> Iterator[Finding]:
    """Docker's rows; trouble is a warning, for the process launcher serves without it."""
    if facts.docker is None:
        return
    for row in docker.judge(facts.docker):
        yield replace(row, level="warn", code=0) if row.level == "fail" else row


def _nvidia(facts: Facts) -> Iterator[Finding]:
    """The NVIDIA rows; nobody asked for a GPU here, so trouble is a warning and absence is fine."""
    if facts.gpu is None:
        return
    seen = facts.gpu
    if seen.driver is None and seen.smi is None and not seen.device_nodes and not seen.card_on_bus:
        yield ok(gpu.NAME, "no NVIDIA card; the CPU builds need none")
        return
    trouble = gpu.driver_trouble(seen, seen.gpus[0].index if seen.gpus else 0)
    if trouble is not None:
        yield replace(trouble, level="warn", code=0)
        return
    for card in seen.gpus:
        fits = gpu.wheel_row(card.capability, seen.driver_major or 0)
        row = gpu.card_finding(seen, card, fits)
        yield (
            replace(row, level="warn", code=0)
            if row.level == "fail"
            else replace(row, message=f"{row.message}: wheels of {fits}")
        )
    if facts.docker is not None and facts.docker.reachable and facts.docker.local:
        row = gpu.toolkit_finding(seen, facts.docker, facts, has_driver=True)
        yield replace(row, level="warn", code=0) if row.level == "fail" else row


def _port(seen: Seen, number: int, fact: PortFact) -> Finding:
    """A port of the settings: ours, free, or in the way of an `up` without flags."""
    use = seen.ports.get(number, PortUse("published", needed=False))
    what = f"port {number} ({use.what})"
    if number in seen.instances:
        return ok(port.NAME, f"{what} is the instance {seen.instances[number]}'s")
    holder = _container_on(seen.facts, number)
    if fact.free and holder is None:
        return ok(port.NAME, f"{what} is free")
    if holder is not None:
        who = whose(holder)
    elif fact.listeners and fact.listeners[0].pid is not None:
        who = f"the process {fact.listeners[0].process} (pid {fact.listeners[0].pid})"
    elif fact.denied:
        return warn(port.NAME, f"{what} is privileged: only Docker may bind it ({fact.error})")
    elif fact.error and "in use" not in fact.error:
        # No port helps where the address is none of this host.
        return fail(
            port.NAME,
            CONFLICT,
            f"{what} cannot be bound on {fact.address}: {fact.error}",
            "Choose an address of this host: cf up --bind ADDRESS",
        )
    else:
        who = "a process that this user may not see"
    message, way_out = f"{what} is held by {who}", f"Choose another port: cf up {use.way_out}"
    if use.needed:
        return fail(port.NAME, CONFLICT, message, way_out)
    return warn(port.NAME, message, way_out)


def _container_on(facts: Facts, number: int) -> Container | None:
    containers = facts.docker.containers if facts.docker else ()
    return next(
        (item for item in containers if item.active and any(p.port == number for p in item.ports)),
        None,
    )


def _models(models: Mapping[str, ModelState]) -> Iterator[Finding]:
    here = sorted(name for name, state in models.items() if state == "here")
    damaged = sorted(name for name, state in models.items() if state == "damaged")
    if here:
        yield ok("models", f"prepared and intact: {', '.join(here)}")
    elif not damaged:
        yield ok("models", "none prepared; the embedded build brings its own")
    for name in damaged:
        yield fail(
            "models",
            FETCH,
            f"the prepared model {name} is damaged: its files are not those that were written",
            "The next `cf up` of its build prepares it again.",
        )


def _environment(seen: Seen) -> Finding:
    name = "engine"
    environment = seen.environment
    if environment.error and environment.folder is None:
        return fail(name, 1, environment.error, "Install cf again: a part of it is missing.")
    if environment.error:
        return fail(
            name,
            1,
            f"the engine's environment {environment.folder} is broken: {environment.error}",
            f"Remove it, the next `cf up` makes it again: rm -r {environment.folder}",
        )
    if environment.folder is not None:
        return ok(name, f"the engine's environment works: {environment.folder}")
    if environment.can_be_made:
        return ok(name, "no environment yet; the first `cf up` without Docker makes it")
    message = "this Python cannot make the engine's environment: it has neither pip nor ensurepip"
    way_out = "On Debian and Ubuntu: apt-get install python3-venv"
    if seen.facts.docker is not None and seen.facts.docker.reachable:
        return warn(name, f"{message} (only needed without Docker)", way_out)
    return fail(name, CONFIGURATION, message, way_out)
