"""Docker Swarm before a start: what is refused, and where the ports are published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli.checks import project, swarm
from compreface_cli.checks.base import Finding, OwnedResources
from compreface_cli.docker.labels import STACK
from compreface_cli.docker.stack import Node
from compreface_cli.facts.docker import Labelled
from compreface_cli.facts.swarm import SwarmFacts
from compreface_cli.plan.plan import Plan, with_launcher
from tests.cli.fake_facts import docker, facts, plan

HERE, OTHER = Node("here", "node-a", True), Node("other", "node-b", True)
ONE = SwarmFacts("active", True, "", "here", (HERE,))
REGISTRY: dict[str, Any] = {"push_to": "registry.example.org/faces"}


def wanted(**flags: Any) -> Plan:
    return with_launcher(plan(**{"bind": "0.0.0.0", "instance": "mine", **flags}), "swarm")


def found(
    seen: SwarmFacts | None, own: OwnedResources | None = None, **flags: Any
) -> list[Finding]:
    here = replace(facts(docker=docker()), swarm=seen)
    return list(swarm.check(wanted(**flags), here, own or OwnedResources()))


def ids(findings: list[Finding]) -> list[str]:
    return [finding.id for finding in findings if finding.level != "ok"]


def test_a_swarm_of_this_machine_alone_is_enough() -> None:
    assert ids(found(ONE)) == []


def test_another_launcher_asks_for_no_swarm() -> None:
    compose = with_launcher(plan(), "compose")
    assert list(swarm.check(compose, facts(docker=docker()), OwnedResources())) == []


@pytest.mark.parametrize(
    "seen",
    [
        None,
        SwarmFacts("inactive"),
        SwarmFacts("active", False),
        replace(ONE, error="no leader"),
        SwarmFacts("pending", False),
    ],
)
def test_only_a_manager_that_answers_starts_a_stack(seen: SwarmFacts | None) -> None:
    findings = found(seen)
    assert ids(findings) == ["swarm-no-manager"]
    assert findings[0].code == 6


def test_several_nodes_need_a_registry() -> None:
    two = replace(ONE, nodes=(HERE, OTHER))
    assert ids(found(two)) == ["swarm-no-registry"]
    assert ids(found(two, **REGISTRY)) == []
    assert ids(found(two, origins={"image": "flag --image"})) == []


def test_a_database_is_looked_for_on_its_own_node() -> None:
    label = {"cf-mine.database": "true"}
    held = replace(ONE, nodes=(HERE, replace(OTHER, labels=label)))
    findings = found(held, **REGISTRY)
    assert ids(findings) == ["swarm-database-node"]
    assert "node-b" in findings[0].message
    own = replace(ONE, nodes=(replace(HERE, labels=label), OTHER))
    assert ids(found(own, **REGISTRY)) == []
    elsewhere = {**plan().stack, "postgres_host": "db.example.org"}
    assert ids(found(held, stack=elsewhere, **REGISTRY)) == []


def test_a_stack_that_nobody_knows_is_left_alone() -> None:
    taken = replace(ONE, stacks=("cf-mine",))
    assert ids(found(taken)) == ["stack-taken"]
    assert ids(found(taken, OwnedResources(stack=True))) == []


def test_ports_are_published_as_the_kernel_allows() -> None:
    def published(ipvs: bool | None, **flags: Any) -> str:
        seen = replace(facts(docker=docker()), swarm=replace(ONE, ipvs=ipvs))
        return swarm.published(wanted(**flags), seen).publish

    assert published(True) == "ingress"
    assert published(False) == published(None) == "host"
    assert published(True, publish="host") == "host"
    compose = with_launcher(plan(), "compose")
    assert swarm.published(compose, facts(docker=docker())).publish == "auto"
    two = replace(ONE, nodes=(HERE, OTHER), ipvs=True)
    assert ids(found(two, **REGISTRY)) == ["swarm-other-nodes"]
    assert ids(found(replace(ONE, ipvs=False), publish="ingress")) == ["swarm-no-ipvs"]
    assert ids(found(replace(ONE, ipvs=True), publish="ingress")) == []


@pytest.mark.parametrize("flags", [{"bind": "127.0.0.1"}, {"services": "core"}, {"device": "cuda"}])
def test_what_swarm_cannot_run_is_found_before(flags: dict[str, Any]) -> None:
    assert "swarm-unfit" in ids(found(ONE, **flags))


def test_the_network_of_the_own_stack_is_no_conflict() -> None:
    network = Labelled("cf-mine_default", {STACK: "cf-mine"})
    here = facts(docker=docker(networks=(network,)))
    own = OwnedResources(stack=True)
    assert list(project.check(wanted(), here, own)) == []
    assert ids(list(project.check(wanted(), here, OwnedResources()))) == ["network-taken"]
