"""A running stack takes an engine with more plugins; its faces and their embeddings stay."""

from __future__ import annotations

import json

from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, get, post_photograph, sign_up

_BEFORE = "facenet.LandmarksDetector,facenet.PoseEstimator"


def test_a_stack_takes_age_and_gender_with_its_data_untouched(
    docker: Docker, cf: Cf, instance: str, stack: dict[str, str]
) -> None:
    """As the instance of a cf whose builds had neither does, at its next `cf up`."""
    cf.environment |= stack
    ui, engine = free_port(), free_port()
    doors = ("--port", str(ui), "--core-port", str(engine))
    up = ("up", "embedded", "--launcher", "compose", "--build", "--instance", instance, *doors)
    cf.environment |= {"CF_PLUGINS": _BEFORE, "CF_IMAGE": docker.own_name("bare")}
    first = cf.run(*up, "--json", timeout_s=400)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("will show no faces: it reads age and gender of each") == 1
    subject = f"http://127.0.0.1:{ui}/api/v1/recognition"
    key = sign_up(f"http://127.0.0.1:{ui}")["RECOGNITION"]
    added = f"{subject}/faces?subject=Grace"
    stored = post_photograph(added, PORTRAITS / "grace_hopper.jpg", key=key)
    assert stored[0] == 201, stored
    volume = f"cf-{instance}_postgres-data"
    made = json.loads(docker("volume", "inspect", volume))[0]["CreatedAt"]

    del cf.environment["CF_PLUGINS"]
    cf.environment["CF_IMAGE"] = docker.own_name("whole")
    second = cf.run(*up, "--json", timeout_s=400)
    assert second.returncode == 0, second.stderr
    assert "warning: " not in second.stderr
    assert json.loads(second.stdout)["change"] == "replaced"
    assert get(f"{subject}/subjects", key=key) == (200, {"subjects": ["Grace"]})
    assert json.loads(docker("volume", "inspect", volume))[0]["CreatedAt"] == made
    asked = f"http://127.0.0.1:{engine}/find_faces?face_plugins=landmarks,gender,age,pose"
    status, answer = post_photograph(asked, PORTRAITS / "astronaut.png")
    assert status == 200
    (face,) = answer["result"]
    assert face["gender"]["value"] == "female"
    assert face["age"]["low"] <= face["age"]["high"]
    assert {"landmarks", "pose"} <= face.keys()
