"""What `cf` made is removed when its name is said once more, and nothing else is."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Cf, Docker, free_port


def test_data_go_when_their_name_is_said_and_not_before(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]
) -> None:
    cf.environment |= stack
    ports = ("--port", str(free_port()), "--core-port", str(free_port()))
    up = ("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    volume, env = f"cf-{instance}_postgres-data", cf.project(instance) / ".env"
    cf.ok(*up)
    made, password = docker.inspect(volume)["CreatedAt"], env.read_text()
    for unsaid in ((), ("--confirm", "another")):
        assert cf.run("down", instance, "--volumes", *unsaid).returncode == 2
    refused = cf.run("rm", instance, "--volumes", "--confirm", instance)
    assert (refused.returncode, f"cf down {instance}" in refused.stderr) == (4, True)
    assert json.loads(cf.ok("status", "--json"))["instances"][0]["state"] == "running"

    cf.ok("down", instance)
    planned = json.loads(cf.ok("rm", instance, "--volumes", "--dry-run", "--json"))
    assert {"volume", "record", "project folder"} == {one["kind"] for one in planned["removed"]}
    assert planned["removed"][0]["bytes"] > 1_000_000
    kept = cf.ok("rm", instance, "--confirm", instance)
    assert volume in kept
    assert f"cf rm --instance {instance} --volumes" in kept
    assert [path.name for path in cf.project(instance).iterdir()] == [".env"]
    assert json.loads(cf.ok("status", "--json"))["instances"] == []

    cf.ok(*up)  # the volume and its password were kept together
    assert (docker.inspect(volume)["CreatedAt"], env.read_text()) == (made, password)
    cf.ok("down", instance)
    docker("volume", "rm", volume)
    assert json.loads(cf.ok("status", "--json"))["instances"][0]["state"] == "stopped"
    cf.ok("down", instance)
    assert json.loads(cf.ok("status", "--json"))["instances"] == []

    cf.ok(*up)
    gone = ("down", instance, "--volumes", "--confirm", instance)
    cf.interrupted(*gone, when=lambda line: "Removing the volume" in line, number=signal.SIGKILL)
    assert volume in cf.ok("rm", instance, "--volumes", "--dry-run") or not docker.things_of(volume)
    cf.ok("rm", instance, "--volumes", "--confirm", instance)
    assert docker.things_of(f"cf-{instance}") == []
    assert not cf.project(instance).exists()
    assert cf.run("rm", instance, "--confirm", instance).returncode == 3


@pytest.fixture
def build(docker: Docker, cf: Cf) -> Iterator[str]:
    """A build of the user's own with three images: one free, one renamed, one of a container."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    file = cf.data / "builds" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        f"schema: 1\nname: {name}\ndetector: embedded.FaceDetector@mtcnn\n"
        "calculator: embedded.Calculator@mobilefacenet192\n"
    )
    folder = cf.here / "empty"
    folder.mkdir()
    for word in ("free", "named", "held"):
        (folder / "Dockerfile").write_text(
            f"FROM scratch\nLABEL compreface-cli.build={name}\nLABEL word={word}\n"
        )
        docker.build(folder, f"compreface-core:{name}-{word}")
    docker("tag", f"compreface-core:{name}-named", docker.own_name(name))
    docker("create", f"--name=cf-{name}", f"compreface-core:{name}-held", "nothing")
    yield name
    docker("rm", "--force", f"cf-{name}")


def test_a_build_goes_with_the_images_that_nothing_uses(docker: Docker, cf: Cf, build: str) -> None:
    file = cf.data / "builds" / f"{build}.yaml"
    assert cf.run("rm", build).returncode == 2
    assert file.exists()
    done = json.loads(cf.ok("rm", build, "--confirm", build, "--json"))
    assert [one["name"] for one in done["removed"]] == [f"compreface-core:{build}-free", str(file)]
    why = {one["name"].rpartition("-")[2]: one["why"] for one in done["kept"]}
    assert why["held"] == "of a container"
    assert f"{build}:" in next(text for word, text in why.items() if word != "held")
    assert not file.exists()
    names = docker("image", "ls", "--format={{.Tag}}", "compreface-core").split()
    assert {f"{build}-named", f"{build}-held"} <= set(names)
    assert f"{build}-free" not in names


def test_what_no_build_needs_is_pruned_and_what_is_in_use_stays(
    docker: Docker, cf: Cf, build: str, embedded: dict[str, Any]
) -> None:
    def planned() -> set[str]:
        document = json.loads(cf.ok("prune", "--dry-run", "--json"))
        return {Path(one["name"]).name for one in document["removed"]}

    free = f"compreface-core:{build}-free"
    assert cf.run("prune").returncode == 2
    found = planned()
    assert free in found  # another than the build is now
    assert not {f"compreface-core:{build}-held", f"compreface-core:{build}-named"} & found
    assert str(embedded["image"]) not in found
    (cf.data / "builds" / f"{build}.yaml").write_text("what it was\n")
    assert free not in planned()  # nobody knows what it needs
    (cf.data / "builds" / f"{build}.yaml").unlink()
    assert free in planned()
