"""The Compose launcher against a docker program that answers as Docker does."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.builds import builds
from compreface_cli.cleanup import CleanUp
from compreface_cli.config import settings
from compreface_cli.docker import containers
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR
from compreface_cli.errors import CfError, DockerError, UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import compose_found, compose_project
from compreface_cli.launchers.compose import ComposeLauncher
from compreface_cli.launchers.launcher import LaunchInputs
from compreface_cli.plan.plan import resolve
from tests.cli.fake_docker import FakeDocker

CORE, API = "compreface-core", "compreface-api"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "fake")
    monkeypatch.setenv("PATH", fake.path)
    return fake


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


def row(
    service: str,
    folder: Path,
    identity: str = "1",
    networks: Sequence[str] = ("cf-x_default",),
    **state: Any,
) -> str:
    document = {
        "Id": identity,
        "Name": f"/cf-x-{service}-1",
        "Image": "sha256:proven",
        "RestartCount": state.pop("restarts", 0),
        "Config": {
            "Labels": {
                containers.PROJECT: "cf-x",
                containers.SERVICE: service,
                containers.FOLDER: str(folder),
            }
        },
        "State": {"Status": "running", "ExitCode": 0, **state},
        "NetworkSettings": {
            "Ports": {"3000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4567"}]},
            "Networks": {network: {"Aliases": [service]} for network in networks},
        },
    }
    return json.dumps(document) + "\n"


def stand(docker: FakeDocker, *rows: str) -> None:
    docker.answers("ps", "--all", "--quiet", out="".join(f"{n}\n" for n, _ in enumerate(rows)))
    docker.answers("container", "inspect", out="".join(rows))


def reads(docker: FakeDocker, folder: Path) -> None:
    """Compose reads a project of the engine and the api in one network."""
    services = {name: {"networks": {"default": None}} for name in (CORE, API)}
    document = {"services": services, "networks": {"default": {"name": "cf-x_default"}}}
    command = compose_project.command("cf-x", folder)
    docker.answers(*command, "config", "--format=json", out=json.dumps(document))


def state_of(docker: FakeDocker, folder: Path, **state: Any) -> tuple[str, str]:
    stand(docker, row(CORE, folder, **state))
    (container,) = containers.of_project("cf-x")
    found = containers.service_state(container)
    return found.state, found.detail


def test_the_cause_of_an_end_is_told(docker: FakeDocker, folder: Path) -> None:
    def of(**state: Any) -> tuple[str, str]:
        return state_of(docker, folder, **state)

    assert of() == ("running", "")
    assert of(Status="created") == ("starting", "")
    assert of(Status="exited", ExitCode=0) == ("stopped", "")
    assert of(Status="exited", ExitCode=3) == ("failed", "exit code 3")
    assert of(Status="paused") == ("paused", "")
    assert "illegal instruction" in of(Status="exited", ExitCode=132)[1]
    assert "out of memory" in of(Status="exited", ExitCode=137, OOMKilled=True)[1]
    assert of(Status="restarting", ExitCode=3, restarts=2) == (
        "restarting",
        "restarted 2 times, exit code 3",
    )
    error = "Bind for 127.0.0.1:3000 failed: port is already allocated"
    assert of(Status="created", Error=error) == ("failed", f"a port is taken: {error}")
    health = {"Status": "unhealthy", "Log": [{"Output": "curl: (22) 500\n", "ExitCode": 22}]}
    assert of(Health=health) == ("running", "its health check fails: curl: (22) 500")


def test_what_docker_forgot_when_it_restarted_is_in_its_events(
    docker: FakeDocker, folder: Path
) -> None:
    died = {"Action": "die", "Actor": {"Attributes": {"exitCode": "3"}}}
    docker.answers("events", out=json.dumps(died) + "\n")
    assert state_of(docker, folder, restarts=1) == ("running", "restarted once, exit code 3")
    killed = {"Action": "die", "Actor": {"Attributes": {"exitCode": "137"}}}
    docker.answers("events", out=json.dumps({"Action": "oom"}) + "\n" + json.dumps(killed) + "\n")
    assert "out of memory" in state_of(docker, folder, restarts=1)[1]


def test_only_containers_of_this_folder_are_stopped(docker: FakeDocker, folder: Path) -> None:
    stand(docker, row(CORE, folder, "mine"), row(CORE, folder / "other", "theirs"))
    with pytest.raises(CfError, match="cannot be removed"):
        ComposeLauncher().stop(deployment(folder))  # this fake removes nothing
    words = [word for asked in docker.asked() for word in asked]
    assert "mine" in words
    assert "theirs" not in words


def test_the_database_is_stopped_last(docker: FakeDocker, folder: Path) -> None:
    stand(docker, row("compreface-postgres-db", folder, "db"), row(CORE, folder, "core"))
    with pytest.raises(CfError):
        ComposeLauncher().stop(deployment(folder))
    stops = [asked[2:] for asked in docker.asked() if asked[0] == "stop"]
    assert stops == [["core"], ["db"]]


def test_a_start_uses_the_very_image_that_was_proven(docker: FakeDocker, folder: Path) -> None:
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
    stand(docker, row(CORE, folder, "core"), row(API, folder, "api"))
    reads(docker, folder)
    new, old = deployment(folder, calculator), deployment(folder, "one")
    ComposeLauncher().start(new, lambda line: None, replacing=old)
    assert docker.was_asked(["restart", "api"]) is (calculator == "two")


def test_a_container_that_was_taken_out_of_its_network_is_brought_back(
    docker: FakeDocker, folder: Path
) -> None:
    stand(docker, row(CORE, folder, "core", networks=("other",)), row(API, folder, "api"))
    reads(docker, folder)
    said: list[str] = []
    ComposeLauncher().start(deployment(folder), said.append)
    joins = [asked for asked in docker.asked() if asked[:2] == ["network", "connect"]]
    aliases = [f"--alias={CORE}", f"--alias=cf-x-{CORE}-1"]
    assert joins == [["network", "connect", *aliases, "cf-x_default", "core"]]
    assert said == ["  core is back in its network"]


def test_a_failed_start_shows_the_service_its_cause_and_its_last_lines(
    docker: FakeDocker, folder: Path
) -> None:
    stand(docker, row(API, folder), row(CORE, folder, Status="exited", ExitCode=132))
    docker.answers("compose", err="container cf-x-compreface-core-1 exited (132)\n", code=1)
    docker.answers("logs", out="loading\n", err="what it said last\n")
    reads(docker, folder)
    with pytest.raises(UnhealthyError) as failed:
        ComposeLauncher().start(deployment(folder), lambda line: None)
    assert "illegal instruction" in failed.value.message
    assert "what it said last" in failed.value.message
    assert failed.value.details["service"] == "core"


def test_a_service_that_was_stopped_by_hand_may_wait_for_what_it_depends_on(
    docker: FakeDocker, folder: Path
) -> None:
    """It ended with a code other than 0 before this start, and is not started yet."""
    ended: dict[str, Any] = {
        "Status": "exited",
        "ExitCode": 137,
        "StartedAt": "2026-11-30T08:00:00Z",
    }
    stand(docker, row(CORE, folder, "core"), row(API, folder, "api", **ended))
    reads(docker, folder)
    docker.answers("compose", seconds=3.5)
    reads(docker, folder)
    ComposeLauncher().start(deployment(folder), lambda line: None)
    assert docker.ended_by == ""


def test_a_start_ends_at_its_limit(docker: FakeDocker, folder: Path) -> None:
    """The way back to the old engine is bounded by the user's `--timeout`, too."""
    stand(docker, row(CORE, folder))
    docker.answers(*compose_project.command("cf-x", folder), "--progress=plain", seconds=20)
    reads(docker, folder)
    began = time.monotonic()
    with pytest.raises(CfError, match=r"not done after 0\.5 s"):
        ComposeLauncher().start(deployment(folder), lambda line: None, limit_s=0.5)
    assert time.monotonic() - began < 10


def test_an_engine_that_an_earlier_run_has_left_goes_with_the_next_start(
    docker: FakeDocker, folder: Path
) -> None:
    stand(docker, row(CORE, folder, "1"), row(CORE, folder, "2", networks=()))
    reads(docker, folder)
    ComposeLauncher().tidy(deployment(folder))
    assert docker.was_asked(["rm", "--force", "2"])
    assert not docker.was_asked(["rm", "--force", "1"])


def test_of_two_engines_with_the_name_the_newer_stays_since_the_other_is_being_stopped(
    docker: FakeDocker, folder: Path
) -> None:
    newer = json.loads(row(CORE, folder, "2"))
    newer["Config"]["Labels"]["com.docker.compose.container-number"] = "2"
    stand(docker, row(CORE, folder, "1"), json.dumps(newer) + "\n")
    reads(docker, folder)
    ComposeLauncher().tidy(deployment(folder))
    assert docker.was_asked(["stop", "1"])
    assert not docker.was_asked(["rm", "--force", "2"])


def test_what_a_run_was_stopping_when_it_was_cut_off_is_waited_for(
    docker: FakeDocker, folder: Path
) -> None:
    stand(docker, row(CORE, folder, "1"), row(API, folder, "2"))
    ComposeLauncher().tidy(deployment(folder), ["api"])
    assert docker.was_asked(["stop", "2"])
    assert not docker.was_asked(["stop", "1"])


def test_the_start_of_the_ui_is_that_of_nginx_and_not_of_all_it_waits_for(
    docker: FakeDocker, folder: Path
) -> None:
    log = [
        {"ExitCode": 1, "End": "2026-11-30T08:01:00Z"},
        {"ExitCode": 0, "End": "2026-11-30T08:01:20Z"},
    ]
    state: dict[str, Any] = {
        "StartedAt": "2026-11-30T08:00:00Z",
        "Health": {"Status": "healthy", "Log": log},
    }
    stand(docker, row("compreface-fe", folder, "fe", **state), row(API, folder, "api", **state))
    assert ComposeLauncher().start_seconds(deployment(folder)) == {"api": 80.0, "fe": 2.0}


def test_a_trial_is_the_engine_alone_on_a_loopback_port(docker: FakeDocker, folder: Path) -> None:
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
    stand(docker, row(CORE, folder, "trial"))
    with ComposeLauncher().trial(deployment(folder), lambda line: None) as (endpoint, look):
        assert endpoint == Endpoint("127.0.0.1", 4567)
        assert look().state == "running"
        (up,) = [asked for asked in docker.asked() if "up" in asked]
        file = next(word for word in up if word.startswith("--file=")).removeprefix("--file=")
        document = json.loads(Path(file).read_text())
        docker.answers("rm", clears=["ps", "--all", "--quiet"])
    assert docker.was_asked(["rm", "--force", "trial"])
    assert not Path(file).parent.exists()
    assert list(document["services"]) == [CORE]
    alone = document["services"][CORE]
    assert alone["restart"] == "no"
    assert alone["read_only"] is True
    assert alone["ports"] == [{"target": 3000, "host_ip": "127.0.0.1", "protocol": "tcp"}]
    assert not {"build", "depends_on"} & set(alone)
    assert "volumes" not in document


def test_volumes_that_were_there_before_are_never_removed(docker: FakeDocker, folder: Path) -> None:
    plan = resolve(builds.load("embedded"), settings.resolve({"launcher": "compose"}, environ={}))
    inputs = LaunchInputs(Endpoint("127.0.0.1", 3000), folder=folder, image="sha256:proven")
    docker.answers("volume", "ls", out="cf-x_before\n")
    undo = CleanUp()
    ComposeLauncher().prepare(plan, inputs, undo, lambda line: None)
    docker.answers("volume", "ls", out="cf-x_before\ncf-x_new\n")
    undo.undo()
    removed = [asked[2:] for asked in docker.asked() if asked[:2] == ["volume", "rm"]]
    assert removed == [["cf-x_new"]]


def test_the_containers_tell_what_runs_of_a_project(docker: FakeDocker, folder: Path) -> None:
    document = json.loads(row(CORE, folder))
    document["Config"]["Labels"] |= {LABEL_BUILD: "corp", LABEL_CALCULATOR: "custom.Calculator@x"}
    stand(docker, json.dumps(document) + "\n")
    seen = compose_found.found("cf-x", folder)
    assert seen is not None
    assert (seen.build, seen.calculator) == ("corp", "custom.Calculator@x")
    assert (seen.engine, seen.ui) == (Endpoint("127.0.0.1", 4567), None)
    assert compose_found.found("cf-x", folder / "elsewhere") is None


def test_an_unknown_service_is_named_with_those_there_are(docker: FakeDocker, folder: Path) -> None:
    launcher = ComposeLauncher()
    with pytest.raises(CfError, match="nginx") as failed:
        list(launcher.logs(deployment(folder), tail=5, follow=False, service="nginx"))
    assert "core" in str(failed.value.hint)


def test_what_docker_says_of_its_daemon_is_said_once_and_is_no_log_line(
    docker: FakeDocker, folder: Path
) -> None:
    gone = "Cannot connect to the Docker daemon at unix:///nowhere. Is the docker daemon running?"
    docker.answers("version", err=f"{gone}\n", code=1)
    docker.answers("compose", err=f"{gone}\n", code=1)
    lines: list[str] = []

    def read() -> None:
        for line in ComposeLauncher().logs(deployment(folder), tail=5, follow=False):
            lines.append(line)

    with pytest.raises(DockerError) as failed:
        read()
    assert (lines, str(failed.value).count(gone)) == ([], 1)

    docker.answers("version")  # it went while the lines came
    with pytest.raises(DockerError) as failed:
        read()
    assert (lines, str(failed.value).count(gone)) == ([gone], 0)


def test_a_second_container_of_a_service_is_told(docker: FakeDocker, folder: Path) -> None:
    stand(docker, row(CORE, folder, "1"), row(CORE, folder, "2"), row(API, folder, "3"))
    core, api = ComposeLauncher().services(deployment(folder))
    assert (core.state, core.detail) == ("running", "core has 2 containers, and cf makes one")
    assert api.detail == ""


DATABASE = "compreface-postgres-db"
SAID = '@login\n@found\n{"sessions": 0}\n{"old": false}\n{"collections": []}\n@end\n'


def with_database(folder: Path) -> Deployment:
    known = {"user": "postgres", "name": "frs"}
    return deployment(folder, services=[DATABASE], database=known)


def test_a_database_that_was_restarted_long_ago_and_answers_is_well(
    docker: FakeDocker, folder: Path
) -> None:
    stand(docker, row(DATABASE, folder, "db", restarts=5, Health={"Status": "healthy"}))
    reads(docker, folder)
    docker.answers("exec", out=SAID)
    ComposeLauncher().start(with_database(folder), lambda line: None)
    ups = [asked for asked in docker.asked() if "up" in asked]
    assert [asked[-1] for asked in ups] == ["--remove-orphans"], "it runs: nothing starts before"


def test_a_database_that_ended_for_good_is_not_waited_for(docker: FakeDocker, folder: Path) -> None:
    stand(docker, row(DATABASE, folder, "db", Status="exited", ExitCode=1))
    reads(docker, folder)
    docker.answers("logs", out="what it said last\n")
    with pytest.raises(UnhealthyError, match="does not come up") as failed:
        ComposeLauncher().start(with_database(folder), lambda line: None)
    assert "what it said last" in failed.value.message
    ups = [asked for asked in docker.asked() if "up" in asked]
    assert [asked[-1] for asked in ups] == [DATABASE], "no other service was started"


def test_a_look_that_fails_stops_no_start_and_touches_nothing(
    docker: FakeDocker, folder: Path
) -> None:
    healthy = row(DATABASE, folder, "db", Health={"Status": "healthy"})
    stand(docker, healthy)
    reads(docker, folder)
    docker.answers("volume", "ls", out="cf-x_postgres-data\n")
    docker.answers("exec", err="OCI runtime exec failed\n", code=126)
    ComposeLauncher().start(with_database(folder), lambda line: None)
    assert not docker.was_asked(["volume", "rm"])
    assert not docker.was_asked(["rm"])
