"""The Compose launcher against a docker program that answers as Docker does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker import containers
from compreface_cli.docker.labels import FOLDER, LABEL_BUILD, LABEL_CALCULATOR, PROJECT, SERVICE
from compreface_cli.errors import CfError, DockerError, UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import compose_project, compose_state
from compreface_cli.launchers.compose import ComposeLauncher
from tests.cli.fake_docker import FakeDocker, fake_docker
from tests.cli.names import assert_named

CORE, API = "compreface-core", "compreface-api"


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path / "fake") as fake:
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "compose.yaml").write_text("{}")
    return path


def deployment(folder: Path, calculator: str = "one", **more: Any) -> Deployment:
    data = {
        "project": "cf-x",
        "folder": str(folder),
        "image": "sha256:proven",
        "tag": "compreface-core:x",
        "services": [API, CORE],
        "volume": "cf-x_postgres-data",
        "calculator": [calculator],
        **more,
    }
    return Deployment("compose", "x", Endpoint("127.0.0.1", 3000), data=data)


def row(service: str, folder: Path, identity: str = "1", **state: Any) -> dict[str, Any]:
    return {
        "Id": identity,
        "Name": f"/cf-x-{service}-1",
        "Image": "sha256:proven",
        "RestartCount": state.pop("restarts", 0),
        "Config": {
            "Labels": {
                PROJECT: "cf-x",
                SERVICE: service,
                FOLDER: str(folder),
            }
        },
        "State": {"Status": "running", "ExitCode": 0, **state},
        "NetworkSettings": {
            "Ports": {"3000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4567"}]},
            "Networks": {"cf-x_default": {"Aliases": [service]}},
        },
    }


def reads(docker: FakeDocker, folder: Path) -> None:
    """Compose reads a project of the engine and the api in one network."""
    services = {name: {"networks": {"default": None}} for name in (CORE, API)}
    document = {"services": services, "networks": {"default": {"name": "cf-x_default"}}}
    command = compose_project.command("cf-x", folder)
    docker.answers(*command, "config", "--format=json", out=json.dumps(document))


def state_of(docker: FakeDocker, folder: Path, **state: Any) -> tuple[str, str]:
    docker.containers(row(CORE, folder, **state))
    (container,) = containers.of_project("cf-x")
    found = containers.service_state(container)
    return found.state, found.detail


def test_the_cause_of_an_end_is_reported(docker: FakeDocker, folder: Path) -> None:
    def of(**state: Any) -> tuple[str, str]:
        return state_of(docker, folder, **state)

    assert of() == ("running", "")
    assert of(Status="created") == ("starting", "")
    assert of(Status="exited", ExitCode=0) == ("stopped", "")
    assert of(Status="exited", ExitCode=3) == ("failed", "exit code 3")
    assert of(Status="paused") == ("paused", "")
    assert_named(of(Status="exited", ExitCode=132)[1], "exit code 132: ")
    assert_named(of(Status="exited", ExitCode=137, OOMKilled=True)[1], "memory")
    assert of(Status="restarting", ExitCode=3, restarts=2) == (
        "restarting",
        "restarted 2 times, exit code 3",
    )
    error = "Bind for 127.0.0.1:3000 failed: port is already allocated"
    assert of(Status="created", Error=error) == ("failed", f"a port is taken: {error}")
    health = {"Status": "unhealthy", "Log": [{"Output": "curl: (22) 500\n", "ExitCode": 22}]}
    assert of(Health=health) == ("running", "its health check fails: curl: (22) 500")


def test_the_end_before_a_restart_is_read_from_dockers_events(
    docker: FakeDocker, folder: Path
) -> None:
    died = {"Action": "die", "Actor": {"Attributes": {"exitCode": "3"}}}
    docker.answers("events", out=json.dumps(died) + "\n")
    assert state_of(docker, folder, restarts=1) == ("running", "restarted once, exit code 3")
    killed = {"Action": "die", "Actor": {"Attributes": {"exitCode": "137"}}}
    docker.answers("events", out=json.dumps({"Action": "oom"}) + "\n" + json.dumps(killed) + "\n")
    assert_named(state_of(docker, folder, restarts=1)[1], "memory")


def test_only_containers_of_this_folder_are_stopped(docker: FakeDocker, folder: Path) -> None:
    docker.containers(row(CORE, folder, "mine"), row(CORE, folder / "other", "theirs"))
    with pytest.raises(CfError, match="cf-x-compreface-core-1"):
        ComposeLauncher().stop(deployment(folder))  # this fake removes nothing
    words = [word for asked in docker.asked() for word in asked]
    assert "mine" in words
    assert "theirs" not in words


def test_the_database_is_stopped_last(docker: FakeDocker, folder: Path) -> None:
    docker.containers(row("compreface-postgres-db", folder, "db"), row(CORE, folder, "core"))
    with pytest.raises(CfError):
        ComposeLauncher().stop(deployment(folder))
    stops = [asked[2:] for asked in docker.asked() if asked[0] == "stop"]
    assert stops == [["core"], ["db"]]


def test_a_start_uses_the_image_that_was_tested(docker: FakeDocker, folder: Path) -> None:
    (folder / "compose.override.yaml").write_text("{}")
    ComposeLauncher().start(deployment(folder), lambda line: None)
    assert docker.was_asked(["tag", "sha256:proven", "compreface-core:x"])
    (started,) = [asked for asked in docker.asked() if "up" in asked]
    assert f"--file={folder / 'compose.override.yaml'}" in started
    assert "--no-build" in started


@pytest.mark.parametrize("calculator", ["one", "two"])
def test_api_is_restarted_when_the_calculator_changes(
    docker: FakeDocker, folder: Path, calculator: str
) -> None:
    docker.containers(row(CORE, folder, "core"), row(API, folder, "api"))
    reads(docker, folder)
    new, old = deployment(folder, calculator), deployment(folder, "one")
    ComposeLauncher().start(new, lambda line: None, replacing=old)
    assert docker.was_asked(["restart", "api"]) is (calculator == "two")


def test_a_service_that_was_stopped_by_hand_may_wait_for_what_it_depends_on(
    docker: FakeDocker, folder: Path
) -> None:
    """It ended with a code other than 0 before this start, and is not started yet."""
    ended: dict[str, Any] = {
        "Status": "exited",
        "ExitCode": 137,
        "StartedAt": "2026-11-30T08:00:00Z",
    }
    docker.containers(row(CORE, folder, "core"), row(API, folder, "api", **ended))
    reads(docker, folder)
    docker.answers("compose", seconds=3.5)
    reads(docker, folder)
    ComposeLauncher().start(deployment(folder), lambda line: None)
    assert docker.ended_by == ""


def test_a_start_ends_at_its_limit(docker: FakeDocker, folder: Path) -> None:
    """The way back to the old engine is bounded by the user's `--timeout`, too."""
    docker.containers(row(CORE, folder))
    docker.answers(*compose_project.command("cf-x", folder), "--progress=plain", seconds=20)
    reads(docker, folder)
    began = time.monotonic()
    with pytest.raises(CfError, match=r"0\.5 s"):
        ComposeLauncher().start(deployment(folder), lambda line: None, limit_s=0.5)
    assert time.monotonic() - began < 10


def test_the_start_seconds_of_the_ui_are_those_of_nginx(docker: FakeDocker, folder: Path) -> None:
    log = [
        {"ExitCode": 1, "End": "2026-11-30T08:01:00Z"},
        {"ExitCode": 0, "End": "2026-11-30T08:01:20Z"},
    ]
    state: dict[str, Any] = {
        "StartedAt": "2026-11-30T08:00:00Z",
        "Health": {"Status": "healthy", "Log": log},
    }
    docker.containers(row("compreface-fe", folder, "fe", **state), row(API, folder, "api", **state))
    assert ComposeLauncher().start_seconds(deployment(folder)) == {"api": 80.0, "fe": 2.0}


def test_a_trial_is_the_engine_alone_on_a_loopback_port(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = {
        "image": "compreface-core:x",
        "restart": "unless-stopped",
        "read_only": True,
        "ports": [{"target": 3000, "published": "3000", "host_ip": "0.0.0.0"}],
        "depends_on": {"compreface-postgres-db": {}},
        "build": {"context": "core"},
    }
    config = {"services": {CORE: core, API: {"image": "api"}}, "volumes": {"postgres-data": {}}}
    compose = ["compose", "--ansi=never", "--project-name=cf-x"]
    where = [f"--project-directory={folder}", f"--file={folder / 'compose.yaml'}"]
    docker.answers(*compose, *where, "config", out=json.dumps(config))
    monkeypatch.setattr("secrets.token_hex", lambda size: "1")
    trial = row(CORE, folder, "trial")
    trial["Config"]["Labels"][PROJECT] = "cf-x-trial-1"
    docker.containers(trial)

    def tried() -> tuple[Path, dict[str, Any]]:
        with suppress(CfError), ComposeLauncher().trial(deployment(folder), print) as found:
            endpoint, look = found
            assert endpoint == Endpoint("127.0.0.1", 4567)
            assert look().state == "running"
            (up,) = [asked for asked in docker.asked() if "up" in asked]
            file = next(word for word in up if word.startswith("--file=")).removeprefix("--file=")
            seen = Path(file), json.loads(Path(file).read_text())
        return seen  # this fake removes nothing, which is an error

    file, document = tried()
    assert docker.was_asked(["rm", "--force", "trial"])
    assert not file.parent.exists()
    assert list(document["services"]) == [CORE]
    alone = document["services"][CORE]
    assert alone["restart"] == "no"
    assert alone["read_only"] is True
    assert alone["ports"] == [{"target": 3000, "host_ip": "127.0.0.1", "protocol": "tcp"}]
    assert not {"build", "depends_on"} & set(alone)
    assert "volumes" not in document


def test_the_state_of_a_project_is_read_from_its_containers(
    docker: FakeDocker, folder: Path
) -> None:
    document = row(CORE, folder)
    document["Config"]["Labels"] |= {LABEL_BUILD: "corp", LABEL_CALCULATOR: "custom.Calculator@x"}
    docker.containers(document)
    seen = compose_state.project_state("cf-x", folder)
    assert seen is not None
    assert (seen.build, seen.calculator) == ("corp", "custom.Calculator@x")
    assert (seen.engine, seen.ui) == (Endpoint("127.0.0.1", 4567), None)
    assert compose_state.project_state("cf-x", folder / "elsewhere") is None


def test_an_unknown_service_is_named_with_those_there_are(docker: FakeDocker, folder: Path) -> None:
    launcher = ComposeLauncher()
    with pytest.raises(CfError, match="nginx") as failed:
        list(launcher.logs(deployment(folder), tail=5, follow=False, service="nginx"))
    assert "core" in str(failed.value.hint)


def test_an_error_about_the_daemon_is_reported_once_and_is_no_log_line(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "Cannot connect to the Docker daemon at "
    docker.answers("compose", err=f"{gone}\n", code=1)
    lines: list[str] = []

    def read() -> None:
        for line in ComposeLauncher().logs(deployment(folder), tail=5, follow=False):
            lines.append(line)

    host = os.environ["DOCKER_HOST"]
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    with pytest.raises(DockerError) as failed:
        read()
    assert (lines, str(failed.value).count(gone)) == ([], 1)

    monkeypatch.setenv("DOCKER_HOST", host)  # it goes while the lines come
    with pytest.raises(DockerError) as failed:
        read()
    assert (lines, str(failed.value).count(gone)) == ([gone], 0)


def test_a_second_container_of_a_service_is_reported(docker: FakeDocker, folder: Path) -> None:
    docker.containers(row(CORE, folder, "1"), row(CORE, folder, "2"), row(API, folder, "3"))
    core, api = ComposeLauncher().services(deployment(folder))
    assert (core.state, core.detail) == ("running", "core has 2 containers instead of one")
    assert api.detail == ""


DATABASE = "compreface-postgres-db"
SAID = '@login\n@found\n{"sessions": 0}\n{"old": false}\n{"collections": []}\n@end\n'


def with_database(folder: Path) -> Deployment:
    known = {"user": "postgres", "name": "frs"}
    return deployment(folder, services=[DATABASE], database=known)


def test_a_database_that_was_restarted_long_ago_and_answers_is_well(
    docker: FakeDocker, folder: Path
) -> None:
    docker.containers(row(DATABASE, folder, "db", restarts=5, Health={"Status": "healthy"}))
    reads(docker, folder)
    docker.answers("exec", out=SAID)
    ComposeLauncher().start(with_database(folder), lambda line: None)
    ups = [asked for asked in docker.asked() if "up" in asked]
    assert [asked[-1] for asked in ups] == ["--remove-orphans"], "it runs: nothing starts before"


def test_a_database_that_ended_for_good_is_not_waited_for(docker: FakeDocker, folder: Path) -> None:
    docker.containers(row(DATABASE, folder, "db", Status="exited", ExitCode=1))
    reads(docker, folder)
    docker.answers("logs", out="what it said last\n")
    with pytest.raises(UnhealthyError) as failed:
        ComposeLauncher().start(with_database(folder), lambda line: None)
    assert_named(failed.value.message, "what it said last")
    assert failed.value.details["service"] == "postgres"
    ups = [asked for asked in docker.asked() if "up" in asked]
    assert [asked[-1] for asked in ups] == [DATABASE], "no other service was started"


def test_a_failed_check_of_the_watch_does_not_stop_the_start(
    docker: FakeDocker, folder: Path
) -> None:
    healthy = row(DATABASE, folder, "db", Health={"Status": "healthy"})
    docker.containers(healthy)
    reads(docker, folder)
    docker.answers("volume", "ls", out="cf-x_postgres-data\n")
    docker.answers("exec", err="OCI runtime exec failed\n", code=126)
    ComposeLauncher().start(with_database(folder), lambda line: None)
    assert not docker.was_asked(["volume", "rm"])
    assert not docker.was_asked(["rm"])
