"""All five services with a real PostgreSQL: data outlive the run, and are never mixed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import misbehaving
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, get, post_photograph, sign_up


@pytest.fixture
def up(cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]) -> tuple[str, ...]:
    cf.environment |= stack
    ports = ("--port", str(free_port()), "--core-port", str(free_port()))
    return ("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)


def test_rows_survive_down_and_up(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    assert "first account" in cf.ok(*up)
    ui = f"http://127.0.0.1:{up[up.index('--port') + 1]}"
    api = f"{ui}/api/v1/recognition"
    key = sign_up(ui)["RECOGNITION"]
    for subject, photograph in (("Grace", "grace_hopper.jpg"), ("Eileen", "astronaut.png")):
        added = post_photograph(f"{api}/faces?subject={subject}", PORTRAITS / photograph, key=key)
        assert added[0] == 201, added
    assert get(f"{ui}/core/status")[0] == 200
    assert get(f"http://127.0.0.1:{up[up.index('--core-port') + 1]}/status")[0] == 200

    stopped = cf.ok("down", instance)
    assert f"cf-{instance}_postgres-data" in stopped
    assert docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]

    cf.ok(*up)
    status, listed = get(f"{api}/subjects", key=key)
    assert (status, sorted(listed["subjects"])) == (200, ["Eileen", "Grace"])
    assert get(f"{ui}/api/v1/consistence/status")[1]["dbIsInconsistent"] is False
    found = post_photograph(f"{api}/recognize", PORTRAITS / "astronaut.png", key=key)
    (face,) = found[1]["result"]
    assert face["subjects"][0]["subject"] == "Eileen"
    assert face["subjects"][0]["similarity"] > 0.99


def test_a_volume_of_another_calculator_is_refused_and_not_touched(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    cf.ok(*up)
    cf.ok("down", instance)
    volume = docker.inspect(f"cf-{instance}_postgres-data")
    other = ("up", "facenet", *up[2:])
    refused = cf.run(*other)
    assert refused.returncode == 5, refused.stderr
    assert "embedded.Calculator@mobilefacenet192" in refused.stderr
    assert "facenet.Calculator" in refused.stderr
    assert docker.inspect(f"cf-{instance}_postgres-data") == volume
    assert docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]


def test_a_failed_first_start_leaves_no_volume(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    cf.environment["CF_IMAGE"] = misbehaving(docker, "crash")
    failed = cf.run(*up, "--no-build")
    assert failed.returncode == 8, failed.stderr
    assert "the weights are not what they should be" in failed.stderr
    assert docker.things_of(f"cf-{instance}") == []


def test_a_failed_later_start_keeps_the_volume_and_its_rows(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    cf.ok(*up)
    ui = f"http://127.0.0.1:{up[up.index('--port') + 1]}"
    api = f"{ui}/api/v1/recognition"
    key = sign_up(ui)["RECOGNITION"]
    added = post_photograph(f"{api}/faces?subject=Grace", PORTRAITS / "grace_hopper.jpg", key=key)
    assert added[0] == 201, added
    cf.ok("down", instance)
    cf.environment["CF_IMAGE"] = misbehaving(docker, "crash")
    assert cf.run(*up, "--no-build").returncode == 8
    assert docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]
    del cf.environment["CF_IMAGE"]
    cf.ok(*up)
    assert get(f"{api}/subjects", key=key) == (200, {"subjects": ["Grace"]})
