"""The operations that `--dry-run` lists are those that the same `cf up` then carries out."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.local_cf import shared_environment
from tests.cli.test_up_own_model import BUILD, NETWORK
from tests.e2e.conftest import up_core
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph, sign_up

BESIDE = ["start beside", "try", "take over"]


@pytest.fixture
def cf(cf: Cf) -> Cf:
    """One with the packages of the engine, as an earlier version has left them."""
    homes = cf.data / "engine-env"
    homes.mkdir(parents=True)
    (homes / "0123456789abcdef").symlink_to(shared_environment().folder)
    return cf


def both(cf: Cf, *up: str) -> list[str]:
    """The verbs of a dry run, which are those of the real run that follows; causes and all."""
    listed: list[dict[str, Any]] = json.loads(cf.ok(*up, "--dry-run", "--json"))["operations"]
    done = json.loads(cf.ok(*up, "--json"))["operations"]
    assert done == listed
    return [operation["verb"] for operation in done]


def image_name(cf: Cf) -> str:
    """The name of the engine's image of the default build."""
    name: str = json.loads(cf.ok("show", "embedded", "--resolved", "--json"))["plan"]["image"]
    return name


def own_model(folder: Path) -> str:
    """A build file with a model of its user's own, the file beside it."""
    shutil.copy(NETWORK, folder / "my-model.onnx")
    digest = hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    text = BUILD.replace("HASH", digest).replace("base_image: null\n", "")
    (folder / "my-build.yaml").write_text(text)
    return str(folder / "my-build.yaml")


def test_what_a_dry_run_lists_is_what_becomes_of_a_stack(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]
) -> None:
    cf.environment |= stack
    ui, core = free_port(), free_port()
    ports = ("--instance", instance, "--port", str(ui), "--core-port", str(core))
    up = ("up", "embedded", "--launcher", "compose", *ports)
    assert both(cf, *up) == ["write project", "create volume", "start", "check"]
    assert both(cf, *up) == []
    cf.ok("down", instance)
    assert both(cf, *up) == ["start", "check"]

    cf.environment["CF_MAX_DETECT_SIZE"] = "700"
    assert both(cf, *up) == ["write project", *BESIDE, "reconcile", "check"]
    cf.environment["CF_API_JAVA_OPTIONS"] = "-Xmx3g"
    assert both(cf, *up) == ["write project", "make anew", "check"]
    cf.environment["CF_PLUGINS"] = "facenet.LandmarksDetector"  # an image of its own
    docker("image", "rm", "--force", image_name(cf))  # of an earlier run of this test
    assert both(cf, *up) == ["write project", "build image", *BESIDE, "reconcile", "check"]
    engine = docker("ps", "--quiet", f"--filter=name=cf-{instance}-compreface-core")
    assert both(cf, *up, "--build") == ["build image", *BESIDE, "reconcile", "check"]
    still = docker("ps", "--quiet", f"--filter=name=cf-{instance}-compreface-core")
    assert still == engine, "of the same image"

    cf.environment["CF_MAX_DETECT_SIZE"] = "600"
    code, _ = cf.interrupted(*up, when=lambda line: "starts beside" in line, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    verbs = ["put right", "write project", *BESIDE, "reconcile", "check"]
    assert both(cf, *up) == verbs

    other = ("up", own_model(cf.here), "--launcher", "compose", *ports)
    del cf.environment["CF_PLUGINS"]
    assert both(cf, *other) == [  # nobody has stored a face yet
        "make environment",
        "prepare model",
        "write project",
        "build image",
        *BESIDE,
        "make anew",
        "check",
    ]
    key = sign_up(f"http://127.0.0.1:{ui}")["RECOGNITION"]
    faces = f"http://127.0.0.1:{ui}/api/v1/recognition/faces?subject=Grace"
    assert post_photograph(faces, PORTRAITS / "grace_hopper.jpg", key=key)[0] == 201
    for way in ((), ("--dry-run",)):
        assert cf.run(*up, *way).returncode == 5


def test_what_a_dry_run_lists_is_what_becomes_of_an_engine_alone(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    port = free_port()
    up = up_core(instance, port)
    code, _ = cf.interrupted(*up, when=lambda line: "core started" in line, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert both(cf, *up) == ["put right", "start", "check"]

    name = docker.own_name("dry-run")
    docker("tag", embedded["id"], name)
    cf.environment["CF_IMAGE"] = name
    assert both(cf, *up) == ["write project", "try", "replace", "check"]
    process = tuple("process" if word == "compose" else word for word in up)
    del cf.environment["CF_IMAGE"]
    assert both(cf, *process) == ["make environment", "try", "replace", "check"]
    assert both(cf, *process) == []
    assert both(cf, *up) == ["write project", "try", "replace", "check"]


def test_an_image_of_other_files_is_replaced_though_no_build_had_started_it(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    cf.environment["CF_PLUGINS"] = "facenet.PoseEstimator"  # an image of its own
    up = up_core(instance, free_port())
    cf.ok(*up)
    name = image_name(cf)
    context = cf.here / "older"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {name}\nLABEL compreface-cli.render=older\n")
    docker("build", "--quiet", f"--tag={name}", str(context))
    cf.ok(*up, "--no-build")
    assert both(cf, *up, "--no-build") == []
    assert both(cf, *up) == ["build image", "try", "replace", "check"]
    assert both(cf, *up) == []
