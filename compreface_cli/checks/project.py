"""Docker names: the project, containers and network must be unused or this instance's own."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.causes.docker import NAME_TAKEN
from compreface_cli.checks.base import CONFLICT, Finding, OwnedResources, described, fail, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "project"

TAKEN = Topic(
    "project-taken",
    means="Containers of the same Compose project name exist that were started from another "
    "folder.",
    why="Compose would take them for its own, and replace or remove them.",
    see="`docker compose ls -a`.",
    ways=(
        "Choose another name: `cf up --instance NAME`.",
        "Stop that project: `docker compose -p PROJECT down`. Its volumes stay.",
    ),
)

CRASH_LOOP = Topic(
    "crash-loop",
    means="A container ends again and again, and Docker starts it anew each time.",
    why="The service does not answer, or only for seconds.",
    see="`cf status` names the reason, `cf logs INSTANCE --explain` shows it in the log.",
    ways=("See to the reason; then `cf restart INSTANCE --all`.",),
)

NETWORK_TAKEN = Topic(
    "network-taken",
    means="A network of the name that this instance needs belongs to another project.",
    why="Compose refuses to use it.",
    see="`docker network inspect NAME`.",
    ways=(
        "Choose another name: `cf up --instance NAME`.",
        "Remove it: `docker network rm NAME`.",
    ),
)


def container_names(plan: Plan) -> tuple[str, ...]:
    """The names that Compose will give the containers, one for each service."""
    services = ["compreface-core"]
    if plan.services == "full":
        services += [
            "compreface-postgres-db",
            "compreface-admin",
            "compreface-api",
            "compreface-fe",
        ]
    return tuple(f"{plan.project}-{service}-1" for service in services)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or docker is None or not docker.reachable:
        return
    rename = "Choose another instance name with --instance"
    foreign = [c for c in docker.containers if c.project == plan.project and not own.has(c, plan)]
    if foreign:
        where = foreign[0].folder or "an unknown folder"
        names = ", ".join(sorted(c.name for c in foreign))
        yield fail(
            NAME,
            CONFLICT,
            f"the Compose project name {plan.project} is taken: its containers ({names}) "
            f"were started from {where}",
            f"{rename}, or stop that project: docker compose -p {plan.project} down",
            topic=TAKEN,
        )
    reserved = container_names(plan)
    for container in docker.containers:
        if container.name in reserved and container.project != plan.project:
            yield fail(
                NAME,
                CONFLICT,
                f"the container name {container.name} is taken by {described(container)}",
                f"{rename}, or rename that container: "
                f"docker rename {container.name} {container.name}-old",
                topic=NAME_TAKEN,
            )
        if own.has(container, plan) and container.state == "restarting":
            yield warn(
                NAME,
                f"{container.name} of this instance is in a crash loop: {container.status}",
                f"Read its last lines: cf logs {plan.instance}",
                topic=CRASH_LOOP,
            )
    network = f"{plan.project}_default"
    for item in docker.networks:
        if own.stack and item.stack == plan.project:
            continue
        if item.name == network and item.project != plan.project:
            owner = f"the Compose project {item.project}" if item.project else "no Compose project"
            yield fail(
                NAME,
                CONFLICT,
                f"the network {network} exists and belongs to {owner}",
                f"{rename}, or remove it: docker network rm {network}",
                topic=NETWORK_TAKEN,
            )
