"""An image alone is enough: another machine has neither the build file nor the models."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from tests.cli.test_up_own_model import BUILD, NETWORK
from tests.e2e.machine import PORTRAITS, TAG, Cf, Docker, free_port
from tests.e2e.test_image import LOCAL_REGISTRY

NAME = f"cf-e2e-alone-{TAG}"


@pytest.fixture(scope="module")
def engine(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of a build with a model of its own, whose machine is gone."""
    folder = tmp_path_factory.mktemp("machine")
    cf = Cf(folder)
    shutil.copy(NETWORK, folder / "my-model.onnx")
    digest = hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    text = BUILD.replace("HASH", digest).replace("name: my-build", f"name: {NAME}")
    (folder / "build.yaml").write_text(text)
    tag = docker.own_name("alone")
    made = json.loads(
        cf.ok("build", str(folder / "build.yaml"), "--tag", tag, "--json", timeout_s=500)
    )
    docker("image", "rm", made["image"])
    shutil.rmtree(folder)
    return tag


def test_an_image_alone_starts_and_is_checked(
    docker: Docker, cf: Cf, instance: str, engine: str
) -> None:
    port = str(free_port())
    flags = ("--services", "core", "--instance", instance, "--port", port)
    planned = cf.ok("up", "--image", engine, *flags, "--dry-run")
    assert "build image" not in planned
    up = json.loads(cf.ok("up", "--image", engine, *flags, "--json"))
    assert (up["build"], up["calculator"]) == (NAME, "custom.Calculator@my-model")
    assert up["proof"]["cosine"] >= 0.999
    assert "build image" not in {operation["verb"] for operation in up["operations"]}
    scanned = json.loads(cf.ok("scan", str(PORTRAITS / "grace_hopper.jpg"), "--json"))
    assert scanned
    again = json.loads(cf.ok("up", "--image", engine, *flags, "--json"))
    assert again["change"] == "already running"
    assert not (cf.data / "models").exists()
    cf.ok("down")


def test_an_image_that_answers_otherwise_than_its_label_says_is_not_started(
    docker: Docker, cf: Cf, instance: str, engine: str, tmp_path: Path
) -> None:
    labels = docker.inspect(engine)["Config"]["Labels"]
    answer = json.loads(labels["compreface-cli.answer"])
    answer["embedding"] = [-value for value in answer["embedding"]]
    text = json.dumps(json.dumps(answer))
    (tmp_path / "Dockerfile").write_text(f"FROM {engine}\nLABEL compreface-cli.answer={text}\n")
    other = docker.build(tmp_path, docker.own_name("otherwise"))
    flags = ("--services", "core", "--instance", instance, "--port", str(free_port()))
    failed = cf.run("up", "--image", other, *flags)
    assert failed.returncode == 8, failed.stderr
    assert docker.things_of(f"cf-{instance}") == []


def test_an_image_of_a_registry_is_pulled(
    docker: Docker, cf: Cf, instance: str, engine: str
) -> None:
    try:
        urllib.request.urlopen(f"http://{LOCAL_REGISTRY}/v2/", timeout=3).close()
    except OSError:
        pytest.skip(f"no registry answers at {LOCAL_REGISTRY}")
    remote = f"{LOCAL_REGISTRY}/cf-e2e/alone:{TAG}"
    docker("tag", engine, remote)
    docker("push", "--quiet", remote, timeout_s=300)
    docker("image", "rm", remote)
    try:
        flags = ("--services", "core", "--instance", instance, "--port", str(free_port()))
        assert cf.run("up", "--image", remote, *flags, "--dry-run").returncode == 9
        up = json.loads(cf.ok("up", "--image", remote, *flags, "--json", timeout_s=300))
        assert up["proof"]["cosine"] >= 0.999
        cf.ok("down")
    finally:
        docker("image", "rm", "--force", remote, check=False)


def test_another_image_is_refused(docker: Docker, cf: Cf, instance: str, engine: str) -> None:
    refused = cf.run("up", "--image", "python:3.11-slim-bookworm", "--instance", instance, "--json")
    assert refused.returncode == 3
    error = json.loads(refused.stdout)["error"]
    assert "compreface-cli.build" in error["details"]["missing"]
    of_another = cf.run("up", "embedded", "--image", engine, "--instance", instance, "--json")
    assert of_another.returncode == 3
    assert docker.things_of(f"cf-{instance}") == []
