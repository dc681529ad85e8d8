"""Several engines: whether this way of running has them, and whether the cores are enough."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, OwnedResources, fail, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import REPLICAS_WAY_OUT, Plan
from compreface_cli.topics import Topic

NAME = "replicas"

NOT_HERE = Topic(
    "replicas-not-here",
    means="Several engines are asked for where only one can run.",
    why="Engines that share the requests need nginx in front of them, which is part of the full "
    "stack. A local process is a single engine, which uses all cores.",
    see="`cf config list` shows where `replicas` is set.",
    ways=(
        "Start the full stack: `cf up --services full`.",
        "Run one engine: `cf up --replicas 1`.",
    ),
)
FEW_CORES = Topic(
    "replicas-few-cores",
    means="More engines are asked for than the machine has cores.",
    why="One engine uses all cores already, so that further ones on the same cores add memory "
    "and no throughput.",
    see="`nproc` prints the number of cores.",
    ways=(
        "Run fewer engines: `cf up --replicas 1`.",
        "Use a machine with more cores, or several machines: `cf up --launcher swarm`.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """The refusal of several engines where one runs; a warning for more engines than cores."""
    if plan.replicas == 1:
        return
    origin = plan.origins.get("replicas", "default")
    if fault := plan.replicas_fault():
        message = f"replicas: {plan.replicas} ({origin}): {fault}"
        yield fail(NAME, CONFIGURATION, message, REPLICAS_WAY_OUT, topic=NOT_HERE)
        return
    docker = facts.docker
    cores = docker.cores if docker is not None and docker.cores else facts.host.cores
    on_this_host = plan.launcher in ("auto", "compose")
    if on_this_host and plan.device == "cpu" and plan.replicas > cores:
        yield warn(
            NAME,
            f"{plan.replicas} engines share {cores} cores, and one engine uses all of them: they "
            "take more memory and answer no more",
            "Run fewer: --replicas 1, or more machines",
            topic=FEW_CORES,
        )
