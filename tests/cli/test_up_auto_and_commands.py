"""`--launcher auto` without Docker, and the small commands around a running instance."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.local_cf import LocalCf, eventually, free_port
from tests.cli.names import assert_named

pytestmark = pytest.mark.slow

NO_DOCKER = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def test_auto_without_docker_runs_the_engine_alone_and_names_what_is_missing(
    local_cf: LocalCf,
) -> None:
    port = str(free_port())
    up = local_cf.run("up", "embedded", "--port", port, **NO_DOCKER)
    assert up.returncode == 0, up.stderr
    told = [line for line in up.stderr.splitlines() if line.startswith("Launcher: process")]
    assert len(told) == 1
    assert_named(told[0], "web UI", "REST API", "database")
    assert f"http://127.0.0.1:{port}" in up.stdout
    again = json.loads(local_cf.run("up", "embedded", "--port", port, "--json", **NO_DOCKER).stdout)
    assert again["change"] == "already running"
    assert (again["launcher"], again["services_wanted"]) == ("process", "full")
    # What runs is no reason to take less than what is said.
    full = local_cf.run("up", "embedded", "--services", "full", "--json", **NO_DOCKER)
    assert json.loads(full.stdout)["error"]["exit_code"] == full.returncode == 6


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        (("--services", "full"), {}, "services is full (flag --services)"),
        (("--core-port", "3777"), {}, "core_port is 3777 (flag --core-port)"),
        ((), {"CF_SERVICES": "full"}, "services is full (environment CF_SERVICES)"),
        ((), {"CF_IMAGE": "corp/core:1"}, "image is corp/core:1 (environment CF_IMAGE)"),
    ],
)
def test_a_setting_that_needs_docker_selects_compose_or_fails(
    local_cf: LocalCf, flags: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    free = {} if "--core-port" in flags else {"CF_CORE_PORT": str(free_port())}
    variables = {**NO_DOCKER, **free, **environment}
    up = local_cf.run("up", "embedded", "--port", "auto", *flags, **variables)
    assert up.returncode == 6, up.stderr
    assert_named(up.stderr, "Launcher: compose", said, NO_DOCKER["DOCKER_HOST"])
    assert local_cf.json("status")["instances"] == []
    core = ("--dry-run", "--services", "core", "--port", "auto")
    here = local_cf.run("up", "embedded", *core, **NO_DOCKER)
    assert here.returncode == 0, here.stderr
    assert "Launcher: process" in here.stderr


def test_without_an_instance_the_commands_name_cf_up(local_cf: LocalCf) -> None:
    assert "cf up" in local_cf.run("status").stdout
    assert local_cf.json("status") == {"schema_version": 1, "instances": [], "damaged": []}
    for command in ("down", "restart", "logs"):
        done = local_cf.run(command)
        assert done.returncode == 3
        assert "cf up" in done.stderr
        assert local_cf.json(command, "nobody", exit_code=3)["error"]["hint"]
    assert local_cf.files() == []


def test_following_the_log_ends_with_ctrl_c(local_cf: LocalCf) -> None:
    assert local_cf.run("logs", "--follow", "--json").returncode == 2
    local_cf.up("--port", "auto")
    follow = local_cf.start("logs", "--follow")
    assert follow.stdout is not None
    assert any("ready" in line for line in follow.stdout)
    follow.send_signal(signal.SIGINT)
    _, err = follow.communicate(timeout=30)
    assert (follow.returncode, err) == (0, "")


def test_following_the_log_ends_with_the_instance(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto")
    follow = local_cf.start("logs", "-f", "--tail", "1")
    assert follow.stdout is not None
    assert follow.stdout.readline()
    local_cf.json("down")
    follow.communicate(timeout=30)
    assert follow.returncode == 0


def test_a_closed_output_pipe_is_no_error(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto")
    follow = local_cf.start("logs")
    assert follow.stdout is not None
    follow.stdout.close()
    assert eventually(lambda: follow.poll() is not None)
    assert follow.stderr is not None
    assert (follow.returncode, follow.stderr.read()) == (0, "")
    follow.stderr.close()


def test_a_restart_that_is_cut_says_how_to_start_again(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto")
    process = local_cf.start("restart")
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "Stopping" in said
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert_named(rest, "'embedded'", "`cf restart embedded --all`")
    assert local_cf.json("restart")["instance"] == "embedded"
    assert local_cf.status()["state"] == "running"
