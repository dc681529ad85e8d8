"""What keeps two engines from standing side by side, and what Docker tells of a start's length."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.config import settings
from compreface_cli.deploy import takeover as flow
from compreface_cli.docker import containers
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import swap
from compreface_cli.plan import plan
from compreface_cli.project.targets import compose as target
from tests.cli.names import assert_named
from tests.golden.rendered import NOWHERE

CORE = "compreface-core"


def project(**core: Any) -> dict[str, Any]:
    return {"services": {CORE: {"ports": [{"target": 3000, "host_ip": "127.0.0.1"}], **core}}}


@pytest.mark.parametrize(
    ("core", "word"),
    [
        ({"ports": [{"target": 3000, "published": "3000"}]}, "port"),
        ({"container_name": "my-engine"}, "container name"),
        ({"network_mode": "host"}, "network `host`"),
        ({"networks": {"default": {"ipv4_address": "172.20.0.9"}}}, "address"),
        ({"networks": {"default": {"ipv6_address": "fd00::9"}}}, "address"),
        ({"networks": {"default": {"mac_address": "02:42:ac:11:00:03"}}}, "address"),
        ({"mac_address": "02:42:ac:11:00:03"}, "address"),
    ],
)
def test_each_obstacle_for_two_containers_is_named(core: dict[str, Any], word: str) -> None:
    assert word in swap.obstacle(project(**core), CORE)


@pytest.mark.parametrize(
    "core",
    [
        {},
        {"networks": {"default": None}},
        {"networks": {"default": {"aliases": ["engine"]}, "more": None}},
        {"ports": []},
        {"ports": None},
        {"ports": [{"target": 3000, "published": "0"}]},
    ],
)
def test_properties_that_every_container_may_have_are_no_conflict(core: dict[str, Any]) -> None:
    assert swap.obstacle(project(**core), CORE) == ""


def test_the_rendered_stack_allows_two_engines_side_by_side() -> None:
    found = settings.resolve({}, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    wanted = plan.resolve(builds.load(resources.builds_dir() / "embedded.yaml"), found)
    text = target.render(wanted, with_models=False).files["compose.yaml"]
    core = yaml.safe_load(str(text))["services"][CORE]
    # As Compose reads it: no number before the second colon is any free port.
    assert core["ports"] == ["127.0.0.1::3000"]
    assert swap.obstacle(project(**{k: v for k, v in core.items() if k != "ports"}), CORE) == ""


def test_a_local_process_is_replaced_in_its_place() -> None:
    engine, ui = Endpoint("127.0.0.1", 3000), Endpoint("127.0.0.1", 8000)
    process = Deployment("process", "x", engine)
    stack = Deployment("compose", "x", engine, ui, {"project": "cf-x", "folder": "/x"})
    assert flow.obstacle(process, process)
    assert flow.obstacle(stack, process) == flow.obstacle(process, process)
    alone = Deployment("compose", "x", engine, None, {"project": "cf-x", "folder": "/x"})
    assert_named(flow.obstacle(alone, stack), "UI")
    other = Deployment("compose", "x", engine, ui, {"project": "cf-y", "folder": "/x"})
    assert_named(flow.obstacle(stack, other), "project")


def container(log: list[dict[str, Any]], began: str = "2026-11-30T08:00:00.5Z") -> Any:
    state = {"Status": "running", "StartedAt": began, "Health": {"Log": log}}
    return containers.Container("1", "core", "running", "sha256:x", details=state)


def probed(second: int, code: int) -> dict[str, Any]:
    return {"End": f"2026-11-30T10:00:{second:02d}.123456789+02:00", "ExitCode": code}


def test_the_start_time_is_that_of_the_first_probe_that_passed() -> None:
    log = [probed(2, 1), probed(4, 0), probed(14, 0)]
    assert containers.start_seconds(container(log)) == pytest.approx(3.62, abs=0.01)
    assert containers.start_seconds(container([probed(4, 0)])) == pytest.approx(3.62, abs=0.01)


@pytest.mark.parametrize(
    "log",
    [
        [],
        [probed(2, 1)],
        [probed(second, 0) for second in (10, 20, 30, 40, 50)],  # Docker remembers five
        [{"ExitCode": 0}],
        [{"End": "soon", "ExitCode": 0}],
    ],
)
def test_a_start_beyond_dockers_log_is_not_known(log: list[dict[str, Any]]) -> None:
    assert containers.start_seconds(container(log)) is None
