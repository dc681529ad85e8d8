"""Published ports: may this user bind each of them, is it free, and if not, what holds it?"""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.causes.docker import PORT_TAKEN
from compreface_cli.checks.base import (
    CONFLICT,
    Finding,
    OtherInstance,
    OwnedResources,
    described,
    fail,
    ok,
    warn,
)
from compreface_cli.checks.machine import Machine, WantedPort
from compreface_cli.docker.containers import Container, PublishedPort
from compreface_cli.facts import Facts
from compreface_cli.facts.host import DOCKERS_OWN, PortFact
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "port"

EQUAL = Topic(
    "ports-equal",
    means="The UI and the engine were given the same port.",
    why="Only one of them could bind it.",
    see="`cf show --resolved` lists both with their origins.",
    ways=("Give another one: `--core-port N`, or `--core-port auto`.",),
)

UNKNOWN = Topic(
    "port-unknown",
    means="The Docker engine runs on another host, so that only its containers are known, and "
    "no other program there.",
    why="If another program holds the port, the start fails and is rolled back.",
    see="On that host: `ss -ltnp`.",
    ways=("Nothing needs to be done unless the start fails.",),
)

INVALID = Topic(
    "port-invalid",
    means="The number is not that of a TCP port.",
    why="Ports are 1 to 65535.",
    see="The message names the flag or setting.",
    ways=("Choose a number from 1024 to 65535, or `auto`.",),
)

SHARED = Topic(
    "port-shared",
    means="A container that is stopped now publishes the same port.",
    why="The two cannot run at the same time: whichever starts second fails.",
    see="`docker ps -a` lists it with its state.",
    ways=(
        "Give this instance another port: `--port auto`.",
        "Remove the stopped container when it is not needed: `docker rm NAME`.",
    ),
)

PRIVILEGED = Topic(
    "port-privileged",
    means="The port is below the first one that this user, or a rootless Docker engine, may "
    "bind (mostly 1024).",
    why="The kernel reserves these ports for root.",
    see="`sysctl net.ipv4.ip_unprivileged_port_start` prints the first free one.",
    ways=(
        "Choose a port from 1024 on, such as 8080, or `--port auto`.",
        "Put a reverse proxy that may bind 80 or 443 in front.",
        "Lower the limit: `sudo sysctl net.ipv4.ip_unprivileged_port_start=80`.",
    ),
)

ADDRESS = Topic(
    "port-address",
    means="The port cannot be bound on that address, mostly since this machine does not have "
    "the address.",
    why="Nothing could reach the service.",
    see="`ip address` lists the addresses of this machine.",
    ways=("Choose one of them with `--bind`, or leave it out for 127.0.0.1.",),
)
LOOPBACK = "127.0.0.1"


def published(plan: Plan) -> list[tuple[str, str, int]]:
    """(flag, address, port) of each published port with a fixed number, `auto` left out."""
    wanted = [("--port", plan.bind, plan.port)]
    if plan.services == "full" and plan.launcher != "process":
        wanted.append(("--core-port", LOOPBACK, plan.core_port))
    return [(flag, address, port) for flag, address, port in wanted if isinstance(port, int)]


def clash(plan: Plan) -> str | None:
    """The fault of two published ports with the same number, else None."""
    wanted = published(plan)
    if len(wanted) == 2 and wanted[0][2] == wanted[1][2]:
        number = wanted[0][2]
        return f"--port and --core-port are both {number}; they must differ"
    return None


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    wanted = published(plan)
    both = clash(plan)
    if both is not None:
        yield fail(
            NAME,
            CONFLICT,
            both,
            "Give another --core-port, or --core-port auto.",
            topic=EQUAL,
        )
    remote = _uses_docker(plan) and facts.docker is not None and not facts.docker.local
    if remote and wanted:
        yield warn(
            NAME,
            "the Docker engine is on another host: "
            "whether processes there hold these ports is not known",
            topic=UNKNOWN,
        )
    for flag, address, port in wanted:
        yield from _judge(plan, facts, own, flag, address, port, remote)


def _judge(
    plan: Plan, facts: Facts, own: OwnedResources, flag: str, address: str, port: int, remote: bool
) -> Iterator[Finding]:
    way_out = f"Stop what holds it, or choose another port: {flag} auto takes a free one."
    if not 1 <= port <= 65535:
        yield fail(
            NAME,
            CONFLICT,
            f"{flag} {port} is not a TCP port",
            f"Choose {flag} between 1024 and 65535.",
            topic=INVALID,
        )
        return
    holder, stopped, own_holds = _containers(plan, facts, own, address, port)
    if holder is not None:
        instance = own.other_instance_of(holder)
        if instance is not None:
            yield _held_by_instance(instance, port, flag)
        else:
            yield fail(
                NAME,
                CONFLICT,
                f"port {port} is held by {described(holder)}",
                way_out,
                topic=PORT_TAKEN,
            )
        return
    if stopped is not None:
        yield warn(
            NAME,
            f"port {port} also belongs to {described(stopped)}, "
            "which cannot start again while this instance runs",
            topic=SHARED,
        )
    fact = None if remote else facts.host.ports.get((address, port))
    if fact is None:
        return
    listeners = fact.listeners
    if fact.free or own_holds or (listeners and all(each.pid in own.pids for each in listeners)):
        holds = "free" if fact.free else "held by this instance"
        yield ok(NAME, f"port {port} on {address} is {holds}")
    elif fact.denied:
        # The Docker engine binds as root, whatever this user may bind.
        if not _uses_docker(plan):
            yield fail(
                NAME,
                CONFLICT,
                f"port {port} is privileged: this user may not bind it ({fact.error})",
                f"Choose {flag} between 1024 and 65535.",
                topic=PRIVILEGED,
            )
    elif (instance := _listening(fact, own)) is not None:
        yield _held_by_instance(instance, port, flag)
    else:
        answers = facts.docker is not None and facts.docker.reachable
        yield _held(fact, flag, way_out, docker_answers=answers)


def _listening(fact: PortFact, own: OwnedResources) -> OtherInstance | None:
    """The other instance that listens there, by its record and the listener's process."""
    known = [item for item in fact.listeners if item.pid is not None]
    for instance in own.others:
        if fact.port not in instance.ports:
            continue
        if not known or any(item.pid in instance.pids for item in known):
            return instance
        if instance.folder is not None and any(item.process in DOCKERS_OWN for item in known):
            return instance
    return None


def _held_by_instance(instance: OtherInstance, port: int, flag: str) -> Finding:
    return fail(
        NAME,
        CONFLICT,
        f"port {port} is held by the instance {instance.name}",
        f"Stop it with `cf down {instance.name}`, "
        f"or choose another port: {flag} auto takes a free one.",
        topic=PORT_TAKEN,
    )


def _held(fact: PortFact, flag: str, way_out: str, *, docker_answers: bool) -> Finding:
    if "in use" not in fact.error:
        return fail(
            NAME,
            CONFLICT,
            f"port {fact.port} on {fact.address} cannot be bound: {fact.error}",
            f"Choose an address of this host with --bind, or another port with {flag}.",
            topic=ADDRESS,
        )
    known = [item for item in fact.listeners if item.pid is not None]
    if known:
        who = f"the process {known[0].process or 'without a name'} (pid {known[0].pid})"
        if docker_answers and known[0].process in DOCKERS_OWN:
            # Docker starts it again with the network of a container whose start its death cut off.
            who += ", which Docker left of a container that is gone"
            way_out = f"Restart Docker, which ends it, or choose another port: {flag} auto."
    else:
        who = "a process that this user may not see"
        way_out += f" As root, `ss -ltnp 'sport = :{fact.port}'` names it."
    return fail(
        NAME,
        CONFLICT,
        f"port {fact.port} is held by {who}",
        way_out,
        topic=PORT_TAKEN,
    )


def _containers(
    plan: Plan, facts: Facts, own: OwnedResources, address: str, port: int
) -> tuple[Container | None, Container | None, bool]:
    """(foreign container on that port, stopped foreign one, whether an own container is on it)."""
    holder = stopped = None
    own_holds = False
    for container in facts.docker.containers if facts.docker else ():
        if not any(_overlaps(published, address, port) for published in container.ports):
            continue
        if own.has(container, plan):
            own_holds = own_holds or container.active
        elif container.active:
            holder = holder or container
        else:
            stopped = stopped or container
    return holder, stopped, own_holds


def _overlaps(published: PublishedPort, address: str, port: int) -> bool:
    everywhere = ("", "0.0.0.0", "::")  # noqa: S104
    return published.port == port and (
        published.address == address or published.address in everywhere or address in everywhere
    )


def _uses_docker(plan: Plan) -> bool:
    return plan.launcher != "process"


def doctor(machine: Machine) -> Iterator[Finding]:
    for (_, number), fact in machine.facts.host.ports.items():
        yield _wanted(machine, number, fact)


def _wanted(machine: Machine, number: int, fact: PortFact) -> Finding:
    """A port of the settings: used by an instance, free, or a conflict for `up` without flags."""
    wanted = machine.ports.get(number, WantedPort("a port", needed=False))
    what = f"port {number} ({wanted.what})"
    if number in machine.instances:
        return ok(NAME, f"{what} is used by the instance {machine.instances[number]}")
    holder = _container_on(machine.facts, number)
    if fact.free and holder is None:
        return ok(NAME, f"{what} is free")
    if holder is not None:
        who = described(holder)
    elif fact.listeners and fact.listeners[0].pid is not None:
        who = f"the process {fact.listeners[0].process} (pid {fact.listeners[0].pid})"
    elif fact.denied:
        return warn(
            NAME,
            f"{what} is privileged: only Docker may bind it ({fact.error})",
            topic=PRIVILEGED,
        )
    elif fact.error and "in use" not in fact.error:
        # Another port does not help when the address is not one of this host.
        return fail(
            NAME,
            CONFLICT,
            f"{what} cannot be bound on {fact.address}: {fact.error}",
            "Choose an address of this host: cf up --bind ADDRESS",
            topic=ADDRESS,
        )
    else:
        who = "a process that this user may not see"
    message, way_out = f"{what} is held by {who}", f"Choose another port: cf up {wanted.way_out}"
    if wanted.needed:
        return fail(
            NAME,
            CONFLICT,
            message,
            way_out,
            topic=PORT_TAKEN,
        )
    return warn(
        NAME,
        message,
        way_out,
        topic=PORT_TAKEN,
    )


def _container_on(facts: Facts, number: int) -> Container | None:
    containers = facts.docker.containers if facts.docker else ()
    return next(
        (item for item in containers if item.active and any(p.port == number for p in item.ports)),
        None,
    )
