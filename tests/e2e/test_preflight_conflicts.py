"""Each conflict made real: `cf up` names the holder and the way out, and creates nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.conftest import misbehaving
from tests.e2e.machine import ROOT, Cf, Docker, free_port, wait_until

BASE = "python:3.11-slim-bookworm"
SLEEP = ("python3", "-c", "import time; time.sleep(600)")


@pytest.fixture
def foreign(docker: Docker) -> Iterator[str]:
    """A name of somebody else; what the test makes under it is removed."""
    name = f"foreign-{uuid.uuid4().hex[:8]}"
    yield name
    docker.sweep(name)


@pytest.fixture
def ready(cf: Cf, docker: Docker, stack: dict[str, str]) -> Cf:
    """A `cf` for which every image of the full stack is here."""
    cf.environment.update(stack, CF_IMAGE=misbehaving(docker, "well"))
    return cf


def up(instance: str, *more: str) -> tuple[str, ...]:
    base = ("up", "embedded", "--launcher", "compose", "--instance", instance, "--no-build")
    doors = () if "--port" in more else ("--port", "auto")
    return (*base, *doors, "--core-port", "auto", *more)


def refused(
    cf: Cf, docker: Docker, instance: str, *more: str, restless: str = ""
) -> dict[str, Any]:
    """Run `up` for real and as a dry run: both say the same, and nothing was created.

    The container `restless` may be seen in another state by each of the two runs.
    """
    before = docker.things_of("")
    documents = []
    for way in ((), ("--dry-run",)):
        done = cf.run(*up(instance, *more), "--json", *way)
        said = done.stdout
        if restless:
            said = re.sub(rf"{restless} \((running|restarting)\)", restless, said)
        document = json.loads(said)
        assert done.returncode == document["error"]["exit_code"], done.stderr
        documents.append(document["error"])
    assert documents[0] == documents[1]
    assert docker.things_of(f"cf-{instance}") == [
        name for name in before if name.startswith(f"cf-{instance}")
    ]
    assert not cf.project(instance).exists()
    error: dict[str, Any] = documents[0]
    return error


def test_a_port_held_by_a_process_is_refused(docker: Docker, ready: Cf, instance: str) -> None:
    script = (
        "import socket, sys\n"
        "s = socket.create_server(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        number = holder.stdout.readline().strip()
        error = refused(ready, docker, instance, "--port", number)
        holder.communicate()
    assert error["exit_code"] == 4
    assert_named(error["message"], number, f"pid {holder.pid}", "--port auto")


def test_a_port_held_by_a_foreign_container_is_refused(
    docker: Docker, ready: Cf, instance: str, foreign: str
) -> None:
    number = str(free_port())
    docker("run", "-d", f"--name={foreign}", f"--publish=127.0.0.1:{number}:80", BASE, *SLEEP)
    error = refused(ready, docker, instance, "--port", number)
    assert error["exit_code"] == 4
    assert_named(error["message"], number, f"container {foreign}", "running")


def test_a_port_of_a_crash_looping_container_is_refused_between_two_of_its_starts(
    docker: Docker, ready: Cf, instance: str, foreign: str
) -> None:
    number = str(free_port())
    docker(
        *("run", "-d", f"--name={foreign}", "--restart=always"),
        *(f"--publish=127.0.0.1:{number}:80", BASE, "false"),
    )
    wait_until(lambda: docker.inspect(foreign)["RestartCount"] >= 4)  # long pauses by now
    error = refused(ready, docker, instance, "--port", number, restless=foreign)
    assert error["exit_code"] == 4
    assert_named(error["message"], number, f"container {foreign}")


def test_a_container_name_of_somebody_else_is_refused(
    docker: Docker, ready: Cf, instance: str
) -> None:
    name = f"cf-{instance}-compreface-core-1"
    docker("create", f"--name={name}", BASE)
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 4
    assert_named(error["message"], name, f"docker rename {name}")
    assert docker.inspect(name)["State"]["Status"] == "created"


def test_a_project_of_somebody_else_is_refused(
    docker: Docker, ready: Cf, instance: str, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    command = json.dumps(SLEEP)
    (folder / "compose.yaml").write_text(
        f"services:\n  web: {{image: '{BASE}', command: {command}, stop_grace_period: 0s}}\n"
    )
    docker("compose", f"--project-directory={folder}", f"-p=cf-{instance}", "up", "-d")
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 4
    assert_named(error["message"], f"cf-{instance}", folder)
    assert docker.inspect(f"cf-{instance}-web-1")["State"]["Running"] is True


def test_a_network_of_somebody_else_is_refused(docker: Docker, ready: Cf, instance: str) -> None:
    docker("network", "create", f"cf-{instance}_default")
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 4
    assert f"docker network rm cf-{instance}_default" in error["message"]


def test_a_foreign_volume_of_the_name_is_refused_and_kept(
    docker: Docker, ready: Cf, instance: str
) -> None:
    volume = f"cf-{instance}_postgres-data"
    docker("volume", "create", volume)
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 4
    assert [row["check"] for row in error["details"]["findings"]] == ["volume"]
    assert_named(error["message"], volume)
    assert docker.things_of(volume) == [volume]


def ours(docker: Docker, instance: str, calculator: str) -> str:
    """The volume that an earlier `up` of this instance has left."""
    labels = {
        "com.docker.compose.project": f"cf-{instance}",
        "com.docker.compose.volume": "postgres-data",
        "compreface-cli.instance": instance,
        "compreface-cli.calculator": calculator,
    }
    volume = f"cf-{instance}_postgres-data"
    given = [f"--label={key}={value}" for key, value in labels.items()]
    docker("volume", "create", *given, volume)
    return volume


def test_a_volume_of_another_calculator_is_refused_as_data_when_it_cannot_be_read(
    docker: Docker, ready: Cf, instance: str
) -> None:
    volume = ours(docker, instance, "facenet.Calculator")
    filled = "mkdir /data/15; echo 15 > /data/15/PG_VERSION"
    docker("run", "--rm", f"--volume={volume}:/data", BASE, "sh", "-c", filled)
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 5
    assert_named(error["message"], volume, "facenet.Calculator")


def test_an_empty_volume_takes_any_calculator(docker: Docker, ready: Cf, instance: str) -> None:
    ours(docker, instance, "facenet.Calculator")
    assert ready.run(*up(instance), "--dry-run").returncode == 0


def test_a_volume_mounted_by_a_running_container_is_refused(
    docker: Docker, ready: Cf, instance: str, foreign: str
) -> None:
    volume = ours(docker, instance, "embedded.Calculator@mobilefacenet192")
    docker("run", "-d", f"--name={foreign}", f"--volume={volume}:/data", BASE, *SLEEP)
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 4
    assert_named(error["message"], volume, "running", f"docker stop {foreign}")
    docker("rm", "--force", foreign)
    assert ready.run(*up(instance), "--dry-run").returncode == 0


def test_an_image_that_nobody_has_is_refused(docker: Docker, ready: Cf, instance: str) -> None:
    ready.environment["CF_FE_IMAGE"] = f"127.0.0.1:{free_port()}/nobody/has-this:1"
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 9
    assert [row["check"] for row in error["details"]["findings"]] == ["image"]
    assert_named(error["message"], ready.environment["CF_FE_IMAGE"])


def test_a_core_image_that_may_not_be_built_is_refused(
    docker: Docker, ready: Cf, instance: str
) -> None:
    ready.environment["CF_IMAGE"] = f"cf-e2e/{instance}:1"
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 9
    assert_named(error["message"], ready.environment["CF_IMAGE"], "--no-build")


def test_all_conflicts_come_in_one_report_with_the_smallest_code(
    docker: Docker, ready: Cf, instance: str
) -> None:
    docker("volume", "create", f"cf-{instance}_postgres-data")
    docker("network", "create", f"cf-{instance}_default")
    ready.environment["CF_IMAGE"] = f"cf-e2e/{instance}:1"
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 4
    assert_named(error["message"].splitlines()[0], 3)
    assert [row["exit_code"] for row in error["details"]["findings"]] == [4, 4, 9]


def test_with_nothing_in_the_way_a_dry_run_agrees(docker: Docker, ready: Cf, instance: str) -> None:
    done = ready.run(*up(instance), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert docker.things_of(f"cf-{instance}") == []
    assert not ready.project(instance).exists()


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (None, ("/dev/nvidia0",)),
        ("", ("nvidia-smi",)),
        ("0, RTX 4090, 8.9, 580.65.06, 24564", ("nvidia-ctk",)),
        ("0, GTX 980, 5.2, 580.65.06, 4096", ("GTX 980", "5.2")),
        ("0, RTX 4090, 8.9, 535.183.01, 24564", ("535.183.01", "cuda13", "cuda12")),
    ],
)
def test_a_gpu_that_was_asked_for_and_is_not_there_is_refused(
    docker: Docker,
    ready: Cf,
    instance: str,
    tmp_path: Path,
    answer: str | None,
    named: tuple[str, ...],
) -> None:
    if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        pytest.skip("this host has an NVIDIA driver of its own")
    ready.environment["CF_DEVICE"] = "cuda"
    ready.environment["CF_GPU_INDEX"] = "0"
    if answer is not None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o755)
        ready.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    error = refused(ready, docker, instance)
    assert error["exit_code"] == 7
    assert {row["check"] for row in error["details"]["findings"]} >= {"gpu"}
    assert_named(error["message"], *named)
    # The probe container has gone.
    assert docker("ps", "--all", "--quiet", "--filter=label=compreface-cli.probe") == ""


def test_a_user_without_rights_on_the_socket_is_told_the_group(ready: Cf, instance: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who can become another user")
    socket = Path(
        os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/var/run/docker.sock"
    )
    if socket.stat().st_mode & 0o007:
        pytest.skip("everybody may use this engine's socket")
    # Imported as root, who may read the checkout; asked as a user without any right.
    script = (
        "import json, os\n"
        "from compreface_cli.checks import docker as check\n"
        "from compreface_cli.facts import docker as facts\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "seen = facts.gather()\n"
        "[row] = check.judge(seen)\n"
        "print(json.dumps([seen.state, row.code, row.message, row.hint]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    state, code, message, hint = json.loads(done.stdout)
    assert (state, code) == ("denied", 6)
    assert_named(message, socket)
    assert_named(hint, "usermod -aG docker")


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9"])
def test_an_engine_out_of_reach_is_refused_and_auto_takes_a_process(
    ready: Cf, instance: str, host: str
) -> None:
    ready.environment["DOCKER_HOST"] = host
    error = json.loads(ready.run(*up(instance), "--json").stdout)["error"]
    assert error["exit_code"] == 6
    assert_named(error["message"], host, "--launcher process")
    said = ready.run("up", "embedded", "--instance", instance, "--port", "auto", "--dry-run")
    assert said.returncode == 6, said.stderr
    del ready.environment["CF_IMAGE"]  # which a process could not obey
    done = ready.run("up", "embedded", "--instance", instance, "--port", "auto", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Launcher: process" in done.stderr


def test_auto_is_compose_when_every_image_is_here(ready: Cf, instance: str) -> None:
    del ready.environment["CF_IMAGE"]
    done = ready.run(
        *("up", "embedded", "--instance", instance, "--dry-run"),
        *("--port", "auto", "--services", "core"),
    )
    assert done.returncode == 0, done.stderr
    assert "Launcher: compose" in done.stderr
