"""Docker Swarm: a manager answers, all nodes can get the images, and the plan fits Swarm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compreface_cli.checks.base import (
    CONFIGURATION,
    CONFLICT,
    DOCKER,
    Finding,
    OwnedResources,
    fail,
    ok,
    warn,
)
from compreface_cli.facts import Facts
from compreface_cli.facts.swarm import SwarmFacts
from compreface_cli.plan.plan import Plan
from compreface_cli.project.targets import swarm as target
from compreface_cli.topics import Topic

NAME = "swarm"

NO_MANAGER = Topic(
    "swarm-no-manager",
    means="The Docker engine is no manager of a Swarm, or its managers have no majority.",
    why="Only a manager starts services.",
    see="`docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'`.",
    ways=(
        "Make a Swarm of this machine: `docker swarm init`.",
        "Run `cf` on a manager: `docker node ls` lists them there.",
        "Run it on this machine alone: `cf up --launcher compose`.",
    ),
)

UNFIT = Topic(
    "swarm-unfit",
    means="The plan asks for what Docker Swarm cannot run.",
    why="Swarm publishes ports at all addresses of a node, hands no device to a service, and the "
    "engines have their one name behind the UI's nginx.",
    see="`cf config list` shows where each setting comes from.",
    ways=(
        "Do as the message says.",
        "Run it on one machine: `cf up --launcher compose`.",
    ),
)

NO_REGISTRY = Topic(
    "swarm-no-registry",
    means="The Swarm has several nodes, and the engine's image is on this machine alone.",
    why="A node that is to run an engine pulls its image from a registry; without one its tasks "
    "never start.",
    see="`docker node ls`, and `cf config list` for `push_to`.",
    ways=(
        "Name a registry that all nodes reach: CF_PUSH_TO=REGISTRY/FOLDER.",
        "Name an image that is in one: `cf up --image NAME`.",
    ),
)

NO_IPVS = Topic(
    "swarm-no-ipvs",
    means="Ports are to be published on the ingress network, and the kernel has no IPVS.",
    why="The ingress network spreads connections by IPVS; without it no connection is answered, "
    "while all tasks run.",
    see="`ls /proc/net/ip_vs` on the node, and the log of dockerd.",
    ways=(
        "Leave `publish` out, or set it to `host`.",
        "Load the module ip_vs on every node: `modprobe ip_vs`.",
    ),
)

OTHER_NODES = Topic(
    "swarm-other-nodes",
    means="This node's kernel has IPVS, and ports are published on the ingress network.",
    why="`cf` has asked the kernel of this node alone. One that lacks IPVS answers no connection "
    "that arrives at it.",
    see="`ls /proc/net/ip_vs` on each node.",
    ways=("Set CF_PUBLISH=host if a node lacks it.", "Say CF_PUBLISH=ingress if all have it."),
)

DATABASE_ELSEWHERE = Topic(
    "swarm-database-node",
    means="The volume of the instance's database is on another node of the Swarm.",
    why="`cf` reads and checks a database where it runs, and would otherwise start an empty one.",
    see="`docker node ls --filter node.label=cf-INSTANCE.database=true`.",
    ways=(
        "Run `cf` on that node, once it is a manager: `docker node promote NODE`.",
        "Start it under another name: `cf up --instance NAME`.",
    ),
)

TAKEN = Topic(
    "stack-taken",
    means="A stack of the name that this instance needs runs, and this `cf` has not started it.",
    why="Its services would be replaced.",
    see="`docker stack services NAME`.",
    ways=(
        "Choose another name: `cf up --instance NAME`.",
        "Stop it: `docker stack rm NAME`. Its volumes stay.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """The findings about the Swarm; none for another launcher."""
    if plan.launcher != "swarm" or facts.docker is None or not facts.docker.reachable:
        return
    for fault, hint in target.faults(plan):
        yield fail(NAME, CONFIGURATION, fault, hint, topic=UNFIT)
    swarm = facts.swarm
    if swarm is None or swarm.error or swarm.state != "active" or not swarm.manager:
        yield _no_manager(swarm)
        return
    yield from _ports(plan, swarm)
    if swarm.several and not target.in_registry(plan):
        yield fail(
            NAME,
            CONFIGURATION,
            f"the Swarm has {len(swarm.nodes)} nodes, and the engine's image would be on this one "
            "alone",
            "Name a registry that all nodes reach: CF_PUSH_TO=REGISTRY/FOLDER",
            topic=NO_REGISTRY,
        )
    yield from _database(plan, swarm)
    if plan.project in swarm.stacks and not own.stack:
        yield fail(
            NAME,
            CONFLICT,
            f"a stack {plan.project} runs that no record of this user knows",
            "Choose another instance name with --instance, or stop it: "
            f"docker stack rm {plan.project}",
            topic=TAKEN,
        )
    yield ok(NAME, f"the Swarm has {len(swarm.nodes)} nodes")


def _no_manager(swarm: SwarmFacts | None) -> Finding:
    if swarm is not None and swarm.error:
        message, hint = f"the Swarm does not answer: {swarm.error}", "docker node ls"
    elif swarm is not None and swarm.state == "active":
        message = "this engine is a worker of a Swarm, and only a manager starts services"
        hint = "Run cf on a manager, or make this node one there: docker node promote NODE"
    else:
        message = "the Docker engine belongs to no Swarm"
        hint = "Make one of this machine: docker swarm init"
    return fail(
        NAME,
        DOCKER,
        message,
        f"{hint}. Without Swarm: --launcher compose",
        topic=NO_MANAGER,
    )


def _ports(plan: Plan, swarm: SwarmFacts) -> Iterator[Finding]:
    if plan.publish == "ingress" and swarm.ipvs is False:
        yield fail(
            NAME,
            CONFIGURATION,
            f"publish is ingress ({plan.origins.get('publish', 'default')}), and the kernel of "
            "this node has no IPVS: no connection would be answered",
            "Leave publish out, or load the module ip_vs on every node",
            topic=NO_IPVS,
        )
    elif plan.publish == "auto" and swarm.ipvs and swarm.several:
        yield warn(
            NAME,
            "ports are published on the ingress network, since this node's kernel has IPVS; the "
            "other nodes were not asked",
            "If one lacks it: CF_PUBLISH=host",
            topic=OTHER_NODES,
        )


def _database(plan: Plan, swarm: SwarmFacts) -> Iterator[Finding]:
    if not plan.owns_database:
        return
    label = target.database_label(plan)
    holders = [node for node in swarm.nodes if node.labels.get(label) == "true"]
    others = [node.name for node in holders if node.id != swarm.node]
    if others:
        yield fail(
            NAME,
            CONFLICT,
            f"the database of '{plan.instance}' is held to the node {', '.join(others)} by the "
            f"label {label}",
            f"Run cf there, or remove the label: docker node update --label-rm {label} {others[0]}",
            topic=DATABASE_ELSEWHERE,
        )


def published(plan: Plan, facts: Facts) -> Plan:
    """The plan with its ports on the ingress network where the kernel has IPVS, else on nodes."""
    if plan.launcher != "swarm" or plan.publish != "auto":
        return plan
    ipvs = facts.swarm is not None and facts.swarm.ipvs
    return replace(plan, publish="ingress" if ipvs else "host")
