"""A running instance goes on until its successor has answered rightly."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import misbehaving, up_core
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    flipped,
    free_port,
    get,
    post_photograph,
    sign_up,
    wait_until,
)


@pytest.fixture
def named(docker: Docker, cf: Cf, embedded: dict[str, Any]) -> str:
    """A name of its own for the right image, so that the test can point it elsewhere."""
    name = docker.own_name("replace")
    docker("tag", embedded["id"], name)
    cf.environment["CF_IMAGE"] = name
    return name


def test_a_right_successor_takes_the_place(
    docker: Docker, cf: Cf, instance: str, named: str
) -> None:
    up = up_core(instance, free_port(), "--json")
    first = json.loads(cf.ok(*up))
    before = docker.inspect(f"cf-{instance}-compreface-core-1")["Id"]
    cf.environment["CF_MAX_WAIT_S"] = "11"
    second = json.loads(cf.ok(*up))
    assert (first["change"], second["change"]) == ("started", "replaced")
    after = docker.inspect(f"cf-{instance}-compreface-core-1")
    assert after["Id"] != before
    assert "CF_MAX_WAIT_S=11" in after["Config"]["Env"]
    assert [name for name in docker.things_of(f"cf-{instance}") if "trial" in name] == []


def test_a_wrong_successor_never_takes_the_place(
    docker: Docker, cf: Cf, instance: str, named: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    port = free_port()
    up = up_core(instance, port, "--no-build")
    cf.ok(*up)
    before = docker.inspect(f"cf-{instance}-compreface-core-1")["Id"]
    project = _files(cf.project(instance))

    docker("tag", flipped(docker, embedded["image"], tmp_path / "wrong"), named)
    cf.environment["CF_MAX_WAIT_S"] = "11"
    failed = cf.run(*up)
    assert failed.returncode == 8, failed.stderr
    assert re.search(r"expected +\[.*\n +got +\[", failed.stderr)

    assert docker.inspect(f"cf-{instance}-compreface-core-1")["Id"] == before
    assert _files(cf.project(instance)) == project
    assert [name for name in docker.things_of(f"cf-{instance}") if "trial" in name] == []
    status, _ = post_photograph(f"http://127.0.0.1:{port}/find_faces", PORTRAITS / "astronaut.png")
    assert status == 200


def test_a_successor_that_answers_wrongly_beside_the_database_gets_no_request(
    docker: Docker,
    cf: Cf,
    instance: str,
    named: str,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path: Path,
) -> None:
    """It answers rightly alone, and wrongly where it would serve: there it is asked first."""
    cf.environment |= stack
    ui, engine = free_port(), free_port()
    doors = ("--port", str(ui), "--core-port", str(engine))
    up = ("up", "embedded", "--launcher", "compose", "--no-build", "--instance", instance, *doors)
    cf.ok(*up)
    project = _files(cf.project(instance))
    before = docker.inspect(f"cf-{instance}-compreface-core-1")["Id"]
    api = f"http://127.0.0.1:{ui}/api/v1/recognition"
    key = sign_up(f"http://127.0.0.1:{ui}")["RECOGNITION"]
    stored = post_photograph(f"{api}/faces?subject=Grace", PORTRAITS / "grace_hopper.jpg", key=key)
    assert stored[0] == 201, stored

    wrong = flipped(
        docker, embedded["image"], tmp_path / "wrong", only_beside="compreface-postgres-db"
    )
    docker("tag", wrong, named)
    cf.environment["CF_MAX_WAIT_S"] = "11"
    failed = cf.run(*up)
    assert failed.returncode == 8, failed.stderr
    assert re.search(r"expected +\[.*\n +got +\[", failed.stderr)

    assert docker.inspect(f"cf-{instance}-compreface-core-1")["Id"] == before
    assert len([name for name in docker.things_of(f"cf-{instance}") if "core" in name]) == 1
    assert _files(cf.project(instance)) == project
    assert get(f"{api}/subjects", key=key) == (200, {"subjects": ["Grace"]})
    listed = json.loads(cf.ok("status", "--json"))
    assert "running" in json.dumps(listed)


def test_a_trial_of_a_killed_run_is_swept_by_the_next(
    docker: Docker, cf: Cf, instance: str, named: str
) -> None:
    def trials() -> list[str]:
        return [name for name in docker.things_of(f"cf-{instance}") if "trial" in name]

    up = up_core(instance, free_port(), "--no-build")
    cf.ok(*up)
    before = docker.inspect(f"cf-{instance}-compreface-core-1")["Id"]
    project = _files(cf.project(instance))
    docker("tag", misbehaving(docker, "slow"), named)
    cf.environment["CF_MAX_WAIT_S"] = "11"

    def tried(line: str) -> bool:
        if "tried beside" not in line:
            return False
        wait_until(lambda: len(trials()) > 1)
        return True

    code, _ = cf.interrupted(*up, when=tried, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert trials()
    assert docker.inspect(f"cf-{instance}-compreface-core-1")["Id"] == before

    docker("tag", docker.inspect(before)["Image"], named)
    del cf.environment["CF_MAX_WAIT_S"]
    cf.ok(*up)
    assert _files(cf.project(instance)) == project
    assert docker.inspect(f"cf-{instance}-compreface-core-1")["Id"] == before, "it ran on"
    assert trials() == []


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
