"""The contract on the default build, which needs no files outside the checkout."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.goldens import check_json_bytes, cosine_of
from tests.contract.process import Engine
from tests.shared import ROOT

pytestmark = pytest.mark.slow

PORTRAITS = ROOT / "compreface_cli" / "portraits"
CACHE = "max-age=0, no-cache, no-store, must-revalidate, proxy-revalidate"
ALL = "face_plugins=landmarks,pose,calculator"


def photograph(name: str) -> bytes:
    return (PORTRAITS / name).read_bytes()


def two_people() -> bytes:
    """Both portraits side by side, the second at half its size."""
    left = Image.open(io.BytesIO(photograph("astronaut.png"))).convert("RGB")
    right = Image.open(io.BytesIO(photograph("grace_hopper.jpg"))).convert("RGB")
    right = right.resize((right.width // 2, right.height // 2))
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    out = io.BytesIO()
    both.save(out, "PNG")
    return out.getvalue()


def faces(engine: Engine, data: bytes, query: str = ALL) -> list[dict[str, Any]]:
    reply = engine.find(data, query)
    assert reply.status == 200
    check_json_bytes(reply.body)
    faces: list[dict[str, Any]] = reply.json()["result"]
    return faces


def test_status_names_the_build(embedded: Engine) -> None:
    reply = embedded.request("GET", "/status")
    check_json_bytes(reply.body)
    status = reply.json()
    runtimes = status.pop("runtimes")
    assert {slug: (runs["runtime"], runs["device"]) for slug, runs in runtimes.items()} == {
        "calculator": ("onnxruntime", "cpu"),
        "detector": ("onnxruntime", "cpu"),
        "age": ("onnxruntime", "cpu"),
        "gender": ("onnxruntime", "cpu"),
    }
    assert status == {
        "available_plugins": {
            "calculator": "embedded.Calculator@mobilefacenet192",
            "detector": "embedded.FaceDetector@mtcnn",
            "landmarks": "facenet.LandmarksDetector",
            "pose": "facenet.PoseEstimator",
            "age": "embedded.AgeDetector",
            "gender": "embedded.GenderDetector",
        },
        "build_version": "1.2.0",
        "calculator_version": "embedded.Calculator@mobilefacenet192",
        "similarity_coefficients": [1.1, 6.0],
        "status": "OK",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/status", 200),
        ("HEAD", "/healthcheck", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/find_faces", 405),
        ("OPTIONS", "/scan_faces", 200),
        ("POST", "/find_faces", 400),
        ("GET", "/apidocs", 200),
        ("GET", "/apidocs/index.html", 302),
        ("GET", "/frs-core-api.json", 200),
    ],
)
def test_no_answer_may_be_cached_or_names_the_server(
    embedded: Engine, method: str, path: str, status: int
) -> None:
    reply = embedded.request(method, path)
    assert reply.status == status
    assert reply.headers["cache-control"] == CACHE
    assert not {"server", "date"} & reply.headers.keys()


def test_a_face_has_an_age_and_a_gender_where_they_are_requested(embedded: Engine) -> None:
    (face,) = faces(embedded, photograph("grace_hopper.jpg"), "face_plugins=landmarks,gender,age")
    assert list(face) == ["age", "box", "execution_time", "gender", "landmarks"]
    assert list(face["age"]) == ["high", "low", "probability"]
    assert {type(face["age"][end]) for end in ("low", "high")} == {int}
    assert 0 <= face["age"]["low"] <= face["age"]["high"]
    assert list(face["gender"]) == ["probability", "value"]
    assert face["gender"]["value"] in ("male", "female")
    assert list(face["execution_time"]) == ["age", "detector", "gender", "landmarks"]


def test_a_face_has_the_keys_and_types_of_the_contract(embedded: Engine) -> None:
    (face,) = faces(embedded, photograph("grace_hopper.jpg"))
    assert list(face) == ["box", "embedding", "execution_time", "landmarks", "pose"]
    assert list(face["box"]) == ["probability", "x_max", "x_min", "y_max", "y_min"]
    assert isinstance(face["box"]["probability"], float)
    assert all(type(face["box"][edge]) is int for edge in ("x_min", "x_max", "y_min", "y_max"))
    assert list(face["execution_time"]) == ["calculator", "detector", "landmarks", "pose"]
    assert all(type(ms) is int for ms in face["execution_time"].values())
    assert [len(point) for point in face["landmarks"]] == [2] * 5
    assert all(type(place) is int for point in face["landmarks"] for place in point)
    assert list(face["pose"]) == ["pitch", "roll", "yaw"]
    numbers = np.array(face["embedding"])
    assert np.array_equal(numbers, numbers.astype(np.float32).astype(np.float64))


def test_faces_come_largest_first_and_limit_keeps_the_first(embedded: Engine) -> None:
    data = two_people()
    both = faces(embedded, data)
    assert len(both) == 2
    areas = [
        (face["box"]["x_max"] - face["box"]["x_min"])
        * (face["box"]["y_max"] - face["box"]["y_min"])
        for face in both
    ]
    assert areas == sorted(areas, reverse=True)
    (first,) = faces(embedded, data, f"{ALL}&limit=1")
    assert first["box"] == both[0]["box"]


def test_similarity_tells_the_same_person_from_another(embedded: Engine) -> None:
    (astronaut,) = faces(embedded, photograph("astronaut.png"))
    (other,) = faces(embedded, photograph("grace_hopper.jpg"))
    again = faces(embedded, two_people())
    assert max(cosine_of(face["embedding"], astronaut["embedding"]) for face in again) > 0.9
    assert cosine_of(astronaut["embedding"], other["embedding"]) < 0.4


def test_scan_and_base64_give_the_same_face(embedded: Engine) -> None:
    data = photograph("astronaut.png")
    (want,) = faces(embedded, data)
    body = json.dumps({"file": base64.b64encode(data).decode()}).encode()
    headers = {"Content-Type": "application/json"}
    reply = embedded.request("POST", f"/find_faces_base64?{ALL}", body, headers)
    check_json_bytes(reply.body)
    (face,) = reply.json()["result"]
    assert face["box"] == want["box"]
    assert face["embedding"] == want["embedding"]


def test_without_detection_the_whole_picture_is_the_face(embedded: Engine) -> None:
    (face,) = faces(embedded, photograph("astronaut.png"), f"{ALL}&detect_faces=false")
    assert face["box"] == {
        "probability": 1.0, "x_min": 0, "y_min": 0, "x_max": 512, "y_max": 512,
    }  # fmt: skip
    assert face["landmarks"] == [[], [], [], [], []]
    assert "pose" not in face
    (next_one,) = faces(embedded, photograph("astronaut.png"))
    assert next_one["box"]["x_max"] < 512
