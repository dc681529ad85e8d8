"""A run of `cf` that was cut off: the instance stays known, and the next run puts it right."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker.endpoint import DEFAULT_HOST
from tests.cli.names import assert_named
from tests.e2e.conftest import misbehaving, up_core
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, get, wait_until


class Plug:
    """The way of a `cf` to the Docker engine: a link to its socket, which can be taken away."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.socket = (os.environ.get("DOCKER_HOST") or DEFAULT_HOST).removeprefix("unix://")

    def put_in(self) -> None:
        self.link.symlink_to(self.socket)

    def pull(self) -> None:
        self.link.unlink()


@pytest.fixture
def plug(cf: Cf, tmp_path: Path) -> Plug:
    plug = Plug(tmp_path / "docker.sock")
    if not Path(plug.socket).is_socket():
        pytest.skip("the Docker engine is on no local socket")
    plug.put_in()
    cf.environment["DOCKER_HOST"] = f"unix://{plug.link}"
    return plug


@pytest.mark.parametrize("then", ["up", "down"])
def test_an_engine_that_goes_away_under_up_leaves_an_instance_that_is_known(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], plug: Plug, then: str
) -> None:
    name = f"cf-{instance}-compreface-core-1"

    def started(line: str) -> bool:
        if "core started" in line:
            plug.pull()
            return True
        return False

    up = up_core(instance, free_port())
    cf.environment["CF_IMAGE"] = misbehaving(docker, "slow")
    code, said = cf.interrupted(*up, "--no-build", when=started, number=signal.SIGCONT)
    assert code == 6, said
    assert_named(said, f"`cf down {instance}`")
    assert name in docker.things_of(f"cf-{instance}")

    without_engine = cf.run("status", instance)
    assert without_engine.returncode == 8, without_engine.stderr
    assert_named(without_engine.stdout, "`cf up embedded`", f"`cf down {instance}`")
    plug.put_in()
    (seen,) = json.loads(cf.run("status", instance, "--json").stdout)["instances"]
    assert seen["state"] == "interrupted"
    assert f"cf up embedded --instance {instance}" in seen["detail"]

    del cf.environment["CF_IMAGE"]
    done = cf.run(*up) if then == "up" else cf.run("down", instance)
    assert done.returncode == 0, done.stderr
    assert_named(done.stderr, "`cf up embedded`", "core")
    if then == "up":
        cf.ok("down", instance)
    assert docker.things_of(f"cf-{instance}") == []


def test_containers_of_an_instance_whose_record_is_lost_are_not_held_against_it(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    cf.ok(*up_core(instance, port))
    shutil.rmtree(cf.home / ".local" / "state")
    (seen,) = json.loads(cf.run("status", instance, "--json").stdout)["instances"]
    assert (seen["build"], seen["state"]) == ("embedded", "interrupted")
    assert seen["engine_url"] == f"http://127.0.0.1:{port}"
    assert cf.run("up", "embedded", *up_core(instance, port)[2:], "--dry-run").returncode == 0
    again = cf.run(*up_core(instance, port))
    assert again.returncode == 0, again.stderr
    assert_named(again.stderr, f"'{instance}'")
    shutil.rmtree(cf.home / ".local" / "state")
    cf.ok("down", instance)
    assert docker.things_of(f"cf-{instance}") == []


def test_after_a_killed_replacement_cf_talks_of_the_engine_that_runs(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    name = docker.own_name("cut-off")
    docker("tag", embedded["id"], name)
    cf.environment["CF_IMAGE"] = name
    cf.ok(*up_core(instance, port, "--no-build"))
    docker("tag", misbehaving(docker, "slow"), name)
    code, _ = cf.interrupted(
        *up_core(instance, free_port(), "--no-build"),
        when=lambda line: "tried beside" in line,
        number=signal.SIGKILL,
    )
    assert code == -signal.SIGKILL
    status = cf.run("status", instance, "--json")
    assert status.returncode == 8
    (seen,) = json.loads(status.stdout)["instances"]
    assert (seen["state"], seen["engine_url"]) == ("interrupted", f"http://127.0.0.1:{port}")
    assert_named(seen["detail"], "`cf up embedded`")
    scanned = cf.ok("scan", "--instance", instance, "--json", str(PORTRAITS / "astronaut.png"))
    assert f":{port}" in scanned

    docker("tag", embedded["id"], name)
    restarted = cf.run("restart", instance)
    assert restarted.returncode == 0, restarted.stderr
    assert_named(restarted.stderr, "`cf up embedded`")
    (seen,) = json.loads(cf.ok("status", instance, "--json"))["instances"]
    assert (seen["state"], seen["engine_url"]) == ("running", f"http://127.0.0.1:{port}")


def test_a_restart_killed_while_it_stops_everything_is_no_running_instance(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    cf.ok(*up_core(instance, port))
    record = cf.home / ".local/state/compreface-cli/instances" / instance / "instance.json"

    def stopping(line: str) -> bool:
        if "Stopping" not in line:
            return False
        wait_until(lambda: json.loads(record.read_text())["phase"] == "stopping")
        return True

    code, _ = cf.interrupted("restart", instance, "--all", when=stopping, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    again = cf.run(*up_core(instance, port))
    assert again.returncode == 0, again.stderr
    assert_named(again.stderr, f"`cf restart {instance} --all`")
    assert get(f"http://127.0.0.1:{port}/status")[0] == 200
    assert json.loads(cf.ok("status", instance, "--json"))["instances"][0]["state"] == "running"


def test_a_paused_service_is_called_so_and_goes_on(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    cf.ok(*up_core(instance, port))
    name = f"cf-{instance}-compreface-core-1"
    docker("pause", name)
    status = cf.run("status", instance)
    assert status.returncode == 8
    assert_named(status.stdout, "core is paused", f"`cf restart {instance}`")
    again = cf.run(*up_core(instance, port), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["change"] == "already running"
    docker("pause", name)
    cf.ok("restart", instance)
    docker("pause", name)
    cf.ok("down", instance)
    assert docker.things_of(f"cf-{instance}") == []


def test_what_cf_has_started_of_docker_ends_with_it(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]
) -> None:
    """Else a killed `cf up` goes on behind the back of the next one."""
    cf.environment |= stack
    cf.environment["CF_IMAGE"] = misbehaving(docker, "slow")
    doors = ("--port", str(free_port()), "--core-port", str(free_port()), "--no-build")
    up = ("up", "embedded", "--launcher", "compose", "--instance", instance, *doors)
    code, _ = cf.interrupted(*up, when=lambda line: "core started" in line, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    wait_until(lambda: _commands_with(f"--project-name=cf-{instance}") == [], timeout_s=10)


def _commands_with(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if word in words:
            found.append(" ".join(words))
    return found
