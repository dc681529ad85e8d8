"""An instance as a stack on one node: from Compose and back, a bad engine, a cut run, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compreface_cli.project.writer import read_env
from tests.e2e.conftest import misbehaving
from tests.e2e.machine import Cf, Docker, free_port


@pytest.fixture
def up(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]
) -> tuple[str, ...]:
    if docker("info", "--format={{.Swarm.ControlAvailable}}") != "true":
        pytest.skip("this Docker engine is no manager of a Swarm; tests/swarm makes one")
    cf.environment |= stack
    ports = ("--port", str(free_port()), "--core-port", str(free_port()))
    return ("up", "embedded", "--instance", instance, *ports)


def test_a_stack_from_its_start_to_its_end(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    swarm = (*up, "--launcher", "swarm", "--bind", "0.0.0.0")
    project, volume = f"cf-{instance}", f"cf-{instance}_postgres-data"
    cf.ok(*up, "--launcher", "compose")
    try:
        cf.ok(*swarm)
        assert not docker("ps", "--quiet", f"--filter=label=com.docker.compose.project={project}")
        env = read_env(cf.project(instance) / ".env")
        services = docker("stack", "services", "--quiet", project).split()
        shown = docker("service", "inspect", *services)
        assert env["POSTGRES_PASSWORD"] not in shown
        assert env["ENGINE_KEY"] not in shown

        # More engines, each with its node.
        cf.ok(*swarm, "--replicas", "2")
        (seen,) = json.loads(cf.ok("status", instance, "--json"))["instances"]
        core = next(each for each in seen["services"] if each["name"] == "core")
        assert [task["name"] for task in core["tasks"]] == ["core.1", "core.2"]
        assert all(task["node"] for task in core["tasks"])

        # One that never gets healthy: Swarm goes back, and says why by the task.
        cf.environment["CF_IMAGE"] = misbehaving(docker, "crash")
        failed = cf.run(*swarm, "--replicas", "2", "--no-build", "--json")
        assert failed.returncode == 8, failed.stderr
        del cf.environment["CF_IMAGE"]
        assert cf.run("status", instance).returncode == 0

        for words in (("upgrade", instance), ("data", "repair", instance, "--dry-run")):
            refused = cf.run(*words)
            assert refused.returncode == 3
            assert "--launcher compose" in refused.stderr
        cf.ok("data", "backup", instance)

        cf.ok("down", instance)
        assert docker.things_of(project) == [volume]
        assert not docker("secret", "ls", "--quiet", f"--filter=name={project}_")
        assert not docker("config", "ls", "--quiet", f"--filter=name={project}_")
    finally:
        docker("stack", "rm", project, check=False)
