"""The mnet25-mobilefacenet build in a container: models in the image, every plugin answers."""

from __future__ import annotations

import json

import pytest

from tests.cli.local_cf import shared_environment
from tests.cli.prepared_models import prepared
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph
from tests.shared import needs_shared


@needs_shared
@pytest.mark.slow
def test_mnet25_mobilefacenet_says_gender_age_landmarks_and_pose(
    docker: Docker, cf: Cf, instance: str
) -> None:
    prepared("mnet25-mobilefacenet", cf.data / "models", shared_environment())
    port = free_port()
    flags = ("--instance", instance, "--port", str(port), "--services", "core")
    started = json.loads(
        cf.ok(
            "up", "mnet25-mobilefacenet", "--launcher", "compose", *flags, "--json", timeout_s=400
        )
    )
    assert started["proof"]["cosine"] > 0.9999
    container = docker.inspect(started["services"][0]["container"])
    try:
        status, found = post_photograph(
            f"http://127.0.0.1:{port}/find_faces?face_plugins=gender,age,landmarks,pose",
            PORTRAITS / "grace_hopper.jpg",
        )
        assert status == 200
        (face,) = found["result"]
        assert face["gender"]["value"] in ("male", "female")
        assert face["age"]["low"] == face["age"]["high"]
        assert len(face["landmarks"]) == 5
        assert set(face["pose"]) == {"pitch", "roll", "yaw"}

        labels = container["Config"]["Labels"]
        assert labels["compreface-cli.runtime"] == "onnxruntime auto"
        for name in ("mnet25_retrained", "arcface_mobilefacenet_rgb", "genderage_v1_rgb"):
            assert f"{name}=" in labels["compreface-cli.models"]
        runtimes = json.loads(cf.ok("status", instance, "--json"))["instances"][0]["runtimes"]
        assert runtimes["calculator"]["runtime"] == "onnxruntime"
    finally:
        cf.ok("down", instance)
        docker("image", "rm", "--force", container["Config"]["Image"], check=False)
