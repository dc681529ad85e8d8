"""The image of the embedded build: its size, its rights, its labels, and upstream's own block."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import PORTRAITS, TAG, Cf, Docker, free_port, post_photograph, wait_until

BASE = "python:3.11-slim-bookworm"
LIMIT = 330_000_000
LOCAL_REGISTRY = "127.0.0.1:5000"


def test_embedded_image_is_at_most_330_mb_above_its_base(
    docker: Docker, embedded: dict[str, Any]
) -> None:
    above = embedded["size"] - docker.inspect(BASE)["Size"]
    print(f"the embedded image takes {above / 1e6:.1f} MB on top of its base")
    assert 0 < above <= LIMIT


def test_image_names_its_build_models_and_source(docker: Docker, embedded: dict[str, Any]) -> None:
    labels = docker.inspect(embedded["image"])["Config"]["Labels"]
    assert labels["compreface-cli.build"] == "embedded"
    models = dict(pair.split("=") for pair in labels["compreface-cli.models"].split(","))
    assert len(models) == 5
    assert all(len(digest) == 64 for digest in models.values())
    assert labels["org.opencontainers.image.revision"]


def test_image_has_the_engine_and_nothing_that_converts(
    docker: Docker, embedded: dict[str, Any]
) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "for name in ('compreface_engine', 'compreface_convert', 'onnx'):\n"
        "    print(name, find_spec(name) is not None)"
    )
    said = docker("run", "--rm", "--entrypoint", "python", embedded["image"], "-c", code)
    assert dict(line.split() for line in said.splitlines()) == {
        "compreface_engine": "True",
        "compreface_convert": "False",
        "onnx": "False",
    }


def test_image_serves_as_a_plain_user_on_a_read_only_root(
    docker: Docker, embedded: dict[str, Any]
) -> None:
    name, port = f"cf-e2e-{uuid.uuid4().hex[:8]}", free_port()
    try:
        docker(
            *("run", "--detach", f"--name={name}", "--read-only", "--tmpfs=/tmp"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=1g"),
            *(f"--publish=127.0.0.1:{port}:3000", embedded["image"]),
        )
        wait_until(lambda: _healthy(docker, name))
        assert docker("exec", name, "id", "-u") != "0"
        refused = docker("exec", name, "sh", "-c", "echo x > /engine/x", check=False)
        assert "Read-only" in refused or "denied" in refused
        status, found = post_photograph(
            f"http://127.0.0.1:{port}/find_faces", PORTRAITS / "grace_hopper.jpg"
        )
        assert status == 200
        assert len(found["result"]) == 1
    finally:
        docker("rm", "--force", name)


def test_image_stands_in_for_upstreams_core_service(
    docker: Docker, embedded: dict[str, Any], tmp_path: Path
) -> None:
    """The service as upstream's root Compose file has it, but for the image."""
    service = {
        "restart": "always",
        "container_name": f"compreface-core-{uuid.uuid4().hex[:8]}",
        "image": embedded["image"],
        "environment": [
            "ML_PORT=3000",
            "IMG_LENGTH_LIMIT=640",
            "UWSGI_PROCESSES=2",
            "UWSGI_THREADS=1",
        ],
        "healthcheck": {
            "test": "curl --fail http://localhost:3000/healthcheck || exit 1",
            "interval": "10s",
            "retries": 0,
            "start_period": "0s",
            "timeout": "1s",
        },
    }
    file = tmp_path / "docker-compose.yml"
    file.write_text(json.dumps({"services": {"compreface-core": service}}))
    project = ("compose", "-p", f"cf-e2e-{uuid.uuid4().hex[:8]}", "-f", str(file))
    try:
        docker(*project, "up", "--detach", "--wait")
        assert _healthy(docker, str(service["container_name"]))
        log = docker("logs", str(service["container_name"]))
        assert "Traceback" not in log
    finally:
        docker(*project, "down")


def test_a_second_build_from_the_same_files_builds_nothing(
    cf: Cf, embedded: dict[str, Any]
) -> None:
    again = json.loads(cf.ok("build", "embedded", "--json"))
    assert again["id"] == embedded["id"]
    assert again["built"] is False


def test_push_names_the_digest_that_the_registry_has(
    docker: Docker, cf: Cf, embedded: dict[str, Any]
) -> None:
    try:
        urllib.request.urlopen(f"http://{LOCAL_REGISTRY}/v2/", timeout=3).close()
    except OSError:
        pytest.skip(f"no registry answers at {LOCAL_REGISTRY}")
    tag = f"{LOCAL_REGISTRY}/cf-e2e/compreface-core:pushed-{TAG}"
    try:
        pushed = json.loads(cf.ok("build", "embedded", "--tag", tag, "--push", "--json"))
        digest = pushed["digest"]
        assert digest.startswith("sha256:")
        request = urllib.request.Request(
            f"http://{LOCAL_REGISTRY}/v2/cf-e2e/compreface-core/manifests/{digest}",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
            assert json.load(answer)["config"]["digest"] == pushed["id"]
    finally:
        docker("image", "rm", tag, check=False)


def test_ctrl_c_during_a_build_leaves_no_image(docker: Docker, cf: Cf) -> None:
    before = set(docker("image", "ls", "--all", "--quiet", "--no-trunc").split())
    name = f"e2e-cut-{uuid.uuid4().hex[:8]}"
    code, said = cf.interrupted(
        *("build", "--name", name, "--no-cache"),
        when=lambda line: "pip" in line,
        number=signal.SIGINT,
    )
    assert code == 130, said
    assert "Traceback" not in said
    assert set(docker("image", "ls", "--all", "--quiet", "--no-trunc").split()) <= before
    time.sleep(1)  # a build that went on would name its image now
    assert docker("image", "ls", "--quiet", f"--filter=label=compreface-cli.build={name}") == ""


def _healthy(docker: Docker, name: str) -> bool:
    return str(docker.inspect(name)["State"]["Health"]["Status"]) == "healthy"
