"""`cf up --services core` on a real engine: a face is found, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.conftest import misbehaving, up_core
from tests.e2e.machine import PORTRAITS, Cf, Docker, flipped, free_port, post_photograph


def test_up_scans_a_photograph_and_down_leaves_nothing(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    started = json.loads(cf.ok(*up_core(instance, port), "--json"))
    assert started["change"] == "started"
    assert started["proof"]["cosine"] > 0.999

    status, found = post_photograph(
        f"http://127.0.0.1:{port}/find_faces?face_plugins=calculator,landmarks",
        PORTRAITS / "grace_hopper.jpg",
    )
    assert status == 200
    (face,) = found["result"]
    assert face["box"]["probability"] > 0.9
    assert len(face["embedding"]) == 192

    again = json.loads(cf.ok(*up_core(instance, port), "--json"))
    assert again["change"] == "already running"
    assert again["services"][0]["container"] == started["services"][0]["container"]

    listed = json.loads(cf.ok("status", "--json"))
    assert instance in json.dumps(listed)
    assert "find_faces" in cf.ok("logs", instance)

    docker("rm", "--force", started["services"][0]["container"])
    lost = json.loads(cf.ok(*up_core(instance, port), "--dry-run", "--json"))["operations"]
    assert [one["verb"] for one in lost] == ["start", "check"]
    assert lost[0]["cause"] == "core is missing: no container"

    cf.ok("down")
    assert docker.things_of(f"cf-{instance}") == []


def test_the_container_is_locked_down(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    cf.ok(*up_core(instance, free_port()))
    found = docker.inspect(f"cf-{instance}-compreface-core-1")
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["Memory"] == found["HostConfig"]["MemorySwap"] == 2 << 30
    assert found["Config"]["User"] not in ("", "0", "root")
    bindings = found["HostConfig"]["PortBindings"]["3000/tcp"]
    assert [binding["HostIp"] for binding in bindings] == ["127.0.0.1"]


def test_keys_reach_the_container_as_a_file_that_holds_none(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    key, other = "the-key-of-the-test", "another-key-of-the-test"
    cf.environment["CF_API_KEYS"] = key
    port = free_port()
    cf.ok(*up_core(instance, port))
    container = f"cf-{instance}-compreface-core-1"
    assert key not in json.dumps(docker.inspect(container))
    given = docker("exec", container, "cat", "/run/secrets/api-keys")
    assert given.strip() == f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    asked = f"http://127.0.0.1:{port}/find_faces", PORTRAITS / "grace_hopper.jpg"
    assert post_photograph(*asked)[0] == 401
    assert post_photograph(*asked, key=key)[0] == 200
    assert json.loads(cf.ok("scan", str(asked[1]), "--json"))["pictures"][0]["faces"]
    holding = [path for path in cf.data.parent.parent.rglob("*") if _holds(path, key)]
    assert holding == [cf.project(instance) / ".env"]
    assert holding[0].stat().st_mode & 0o777 == 0o600

    cf.environment["CF_API_KEYS"] = other
    same = docker.inspect(container)["Id"]
    changed = json.loads(cf.ok(*up_core(instance, port), "--json"))
    assert changed["change"] == "replaced"
    assert docker.inspect(container)["Id"] == same  # the engine has read them again
    assert post_photograph(*asked, key=key)[0] == 401
    assert post_photograph(*asked, key=other)[0] == 200


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes()


def test_a_crash_loop_is_told_with_its_last_lines_and_removed(
    docker: Docker, cf: Cf, instance: str
) -> None:
    cf.environment["CF_IMAGE"] = misbehaving(docker, "crash")
    failed = cf.run(*up_core(instance, free_port(), "--no-build"))
    assert failed.returncode == 8, failed.stderr
    assert "exit code 3" in failed.stderr
    assert "the weights are not what they should be" in failed.stderr
    assert docker.things_of(f"cf-{instance}") == []
    assert not cf.project(instance).exists()


def test_what_an_engine_that_is_not_well_answers_is_told(
    docker: Docker, cf: Cf, instance: str
) -> None:
    cf.environment["CF_IMAGE"] = misbehaving(docker, "unhealthy")
    failed = cf.run(*up_core(instance, free_port(), "--no-build", "--timeout", "3"))
    assert failed.returncode == 8, failed.stderr
    assert_named(failed.stderr, "500 Internal Server Error: no model")
    assert "--timeout" not in failed.stderr
    assert "cf logs" not in failed.stderr  # the instance is gone
    assert docker.things_of(f"cf-{instance}") == []


def test_memory_that_runs_out_is_named_as_the_cause(docker: Docker, cf: Cf, instance: str) -> None:
    cf.environment["CF_IMAGE"] = misbehaving(docker, "hungry")
    override = cf.project(instance) / "compose.override.yaml"
    override.parent.mkdir(parents=True)
    override.write_text("services: {compreface-core: {mem_limit: 96m, memswap_limit: 96m}}\n")
    failed = cf.run(*up_core(instance, free_port(), "--no-build"))
    assert failed.returncode == 8, failed.stderr
    assert_named(failed.stderr, "memory")
    assert docker.things_of(f"cf-{instance}") == []
    assert override.exists(), "the user's own file was there before"
    assert [path.name for path in override.parent.iterdir()] == [override.name]


def test_an_engine_that_never_answers_is_given_up_after_the_timeout(
    docker: Docker, cf: Cf, instance: str
) -> None:
    cf.environment["CF_IMAGE"] = misbehaving(docker, "slow")
    failed = cf.run(*up_core(instance, free_port(), "--no-build", "--timeout", "10"))
    assert failed.returncode == 8, failed.stderr
    assert "thinking" in failed.stderr
    assert docker.things_of(f"cf-{instance}") == []


def test_a_wrong_answer_shows_both_values(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    cf.environment["CF_IMAGE"] = flipped(docker, embedded["image"], cf.here / "wrong")
    failed = cf.run(*up_core(instance, free_port(), "--no-build"))
    assert failed.returncode == 8, failed.stderr
    assert re.search(r"expected +\[.*\n +got +\[", failed.stderr)
    assert docker.things_of(f"cf-{instance}") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["core started", "Waiting for the engine"])
def test_an_interrupted_up_leaves_nothing(
    docker: Docker,
    cf: Cf,
    instance: str,
    embedded: dict[str, Any],
    number: signal.Signals,
    moment: str,
) -> None:
    code, said = cf.interrupted(
        *up_core(instance, free_port()), when=lambda line: moment in line, number=number
    )
    assert code == 130, said
    assert said.rstrip().splitlines()[-1].startswith("interrupted")
    assert docker.things_of(f"cf-{instance}") == []
    assert not cf.project(instance).exists()
    assert docker.inspect(embedded["image"])["Id"] == embedded["id"]
