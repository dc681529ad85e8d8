"""What `cf` says of Docker Swarm: before a start, of a rollout, and of what does not work there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.checks import swarm
from compreface_cli.checks.base import OwnedResources
from compreface_cli.deploy import running
from compreface_cli.docker import client, containers, stack
from compreface_cli.docker.stack import Node, Service, Task
from compreface_cli.facts.swarm import SwarmFacts
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import rollout
from compreface_cli.launchers.launcher import LaunchInputs
from compreface_cli.launchers.swarm import SwarmLauncher
from compreface_cli.plan.plan import with_launcher
from tests.cli.fake_facts import docker, facts, plan

Case = Callable[[Path], object]

HERE, OTHER = Node("here", "node-a", True), Node("other", "node-b", True)
ONE = SwarmFacts("active", True, "", "here", (HERE,))
TWO = replace(ONE, nodes=(HERE, OTHER))
PLAN = with_launcher(plan(bind="0.0.0.0", instance="mine"), "swarm")
HELD = replace(OTHER, labels={"cf-mine.database": "true"})
FAILED = Task("t1", 1, "other", "failed", "shutdown", "task: non-zero exit (1)", "", 1, "2", True)
ENDED = replace(FAILED, state="complete", error="", exit_code=0, container="c1")
CORE = Service("s1", "compreface-core", 2, "", "", "", (FAILED,))
BACK = replace(CORE, update="rollback_completed", update_began="now")


def _check(seen: SwarmFacts | None, **flags: Any) -> Case:
    wanted = with_launcher(plan(**{"bind": "0.0.0.0", "instance": "mine", **flags}), "swarm")

    def case(folder: Path) -> object:
        here = replace(facts(docker=docker()), swarm=seen)
        found = swarm.check(wanted, here, OwnedResources())
        return [finding for finding in found if finding.level != "ok"]

    return case


def _rollout(now: Service, *, late: bool = False) -> Case:
    def case(folder: Path) -> object:
        with (
            mock.patch.object(stack, "services", return_value=[now]),
            mock.patch.object(stack, "nodes", return_value=[HERE, OTHER]),
            mock.patch.object(stack, "task_log", return_value=[]),
            mock.patch.object(containers, "inspect", return_value=[]),
        ):
            rollout.wait("cf-mine", {}, lambda line: None, -1.0 if late else 1e12)
        return None

    return case


def _not_there(folder: Path) -> object:
    rejected = replace(FAILED, state="rejected", error="No such image: postgres:13")
    database = replace(CORE, name="compreface-postgres-db", tasks=(rejected,))
    with (
        mock.patch.object(stack, "services", return_value=[database]),
        mock.patch.object(stack, "containers_here", return_value=[]),
    ):
        rollout.until_there("cf-mine", "compreface-postgres-db")
    return None


def _deployment(folder: Path) -> Deployment:
    data = {"project": "cf-mine", "folder": str(folder), "services": ["compreface-core"]}
    return Deployment("swarm", "mine", Endpoint("0.0.0.0", 3000), data=data)


def _still_there(folder: Path) -> object:
    with (
        mock.patch.object(stack, "services", return_value=[]),
        mock.patch.object(stack, "containers_here", return_value=[]),
        mock.patch.object(client, "find", return_value={"Driver": "overlay"}),
        mock.patch("compreface_cli.launchers.swarm._GONE_S", -1.0),
    ):
        SwarmLauncher().stop(_deployment(folder), timeout_s=-1.0)
    return None


def _refused(folder: Path) -> object:
    record = Record(
        name="mine",
        build="embedded",
        calculator="embedded.Calculator@mobilefacenet192",
        services="full",
        phase="running",
        created="2026-01-01T00:00:00+00:00",
        deployment=_deployment(folder).as_dict(),
    )
    running.refuse_swarm(record, "cf upgrade mine")
    return None


def _prepared(folder: Path) -> object:
    inputs = LaunchInputs(Endpoint("0.0.0.0", 3000))
    return SwarmLauncher().prepare(PLAN, inputs, mock.Mock(), lambda line: None)


CASES: Final[Mapping[str, Case]] = {
    "swarm: none": _check(SwarmFacts("inactive")),
    "swarm: not asked": _check(None),
    "swarm: a worker": _check(SwarmFacts("active", False)),
    "swarm: no majority": _check(replace(ONE, error="The swarm does not have a leader")),
    "swarm: bind": _check(ONE, bind="127.0.0.1"),
    "swarm: the engine alone": _check(ONE, services="core"),
    "swarm: a GPU": _check(ONE, device="cuda"),
    "swarm: several nodes, no registry": _check(TWO),
    "swarm: ingress without IPVS": _check(replace(ONE, ipvs=False), publish="ingress"),
    "swarm: ingress, other nodes": _check(
        replace(TWO, ipvs=True), push_to="registry.example.org/faces"
    ),
    "swarm: database elsewhere": _check(
        replace(ONE, nodes=(HERE, HELD)), push_to="registry.example.org/faces"
    ),
    "swarm: the stack's name is taken": _check(replace(ONE, stacks=("cf-mine",))),
    "swarm: rolled back": _rollout(BACK),
    "swarm: rolled back, unhealthy": _rollout(
        replace(
            BACK,
            update_message="rolled back due to failure or early termination of task t1",
            tasks=(ENDED,),
        )
    ),
    "swarm: paused": _rollout(replace(BACK, update="paused", tasks=())),
    "swarm: ends again and again": _rollout(
        replace(CORE, tasks=tuple(replace(FAILED, id=str(number)) for number in range(3)))
    ),
    "swarm: late": _rollout(CORE, late=True),
    "swarm: the database is not placed": _not_there,
    "swarm: still there": _still_there,
    "swarm: no project folder": _prepared,
    "swarm: no such service": lambda folder: list(
        SwarmLauncher().logs(_deployment(folder), tail=1, follow=False, service="api")
    ),
    "swarm: a trial": lambda folder: SwarmLauncher().trial(_deployment(folder), print),
    "swarm: a command that does not work there": _refused,
}
