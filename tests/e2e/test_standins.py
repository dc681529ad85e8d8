"""The stand-ins have the faults of the real services, as `contract/stack.md` saw them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.load import load
from tests.e2e.machine import (
    PORTRAITS,
    REGISTRY,
    TAG,
    Cf,
    Docker,
    free_port,
    get,
    post_photograph,
    restart,
    restore,
    sign_up,
    sql,
    wait_until,
)
from tests.shared import shared

KEY = "595faf45-6242-4789-ba8e-5c5787196a12"  # of the recorded database's recognition service
DEMO_KEY = "00000000-0000-0000-0000-000000000002"
WRONG = {"message": "Something went wrong, please try again", "code": 0}
VARIABLES = ("CLIENT_MAX_BODY_SIZE=10M", "PROXY_READ_TIMEOUT=60s", "PROXY_CONNECT_TIMEOUT=10s")
NAMES = ("compreface-admin", "compreface-api", "compreface-core")
ADDRESSES = [f"--add-host={name}:127.0.0.1" for name in NAMES]
ASTRONAUT = PORTRAITS / "astronaut.png"


@dataclass(frozen=True)
class Stack:
    """An instance of the embedded build with every service."""

    instance: str
    ui: str

    @property
    def recognition(self) -> str:
        return f"{self.ui}/api/v1/recognition"

    def recognized(self, key: str, photograph: Path = ASTRONAUT) -> tuple[int, Any]:
        return post_photograph(f"{self.recognition}/recognize", photograph, key=key)

    def added(self, key: str, photograph: Path = ASTRONAUT) -> tuple[int, Any]:
        return post_photograph(f"{self.recognition}/faces?subject=New", photograph, key=key)

    def stored(self) -> tuple[int, int]:
        """How many faces and images."""
        faces = sql(self.instance, "select count(*) from public.embedding")
        images = sql(self.instance, "select count(*) from public.img")
        return int(faces), int(images)


@pytest.fixture(scope="module")
def running(
    docker: Docker,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    cf = Cf(tmp_path_factory.mktemp("standins"))
    cf.environment |= {**stack, "CF_OPEN_ROUTES": "true"}  # as upstream's own nginx
    instance, port = f"e2e-{uuid.uuid4().hex[:8]}", free_port()
    ports = ("--port", str(port), "--core-port", str(free_port()))
    try:
        cf.ok("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
        yield Stack(instance, f"http://127.0.0.1:{port}")
    finally:
        docker.sweep(f"cf-{instance}")


def test_a_new_install_is_as_the_real_admin_leaves_it(running: Stack) -> None:
    listed = sql(running.instance, "select count(*) from public.databasechangelog")
    assert listed == "45"
    assert running.stored() == (20, 0)
    assert sql(running.instance, "select count(*) from public.subject") == "20"
    calculators = sql(running.instance, "select distinct calculator from public.embedding")
    assert calculators == "Facenet2018"
    lock = "select locked, lockedby is null from public.databasechangeloglock"
    assert sql(running.instance, lock) == "f\tt"
    keys = sign_up(running.ui)
    assert get(f"{running.recognition}/subjects", key=keys["RECOGNITION"])[1] == {"subjects": []}


def test_the_api_asks_for_the_key_of_the_right_service(
    docker: Docker, running: Stack, recorded: None
) -> None:
    subjects = f"{running.recognition}/subjects"
    assert get(subjects) == (400, {"message": "Missing header: x-api-key", "code": 20})
    said = {"message": "Service API key should be UUID", "code": 26}
    assert get(subjects, key="x" * 36) == (400, said)
    unknown = str(uuid.uuid4())
    message = f"Recognition service with API Key {unknown} not found"
    assert get(subjects, key=unknown) == (404, {"message": message, "code": 10})
    detection = "7672ee7c-2409-4e8d-a1b8-0f7eb31a49cf"
    assert get(subjects, key=detection)[0] == 404
    status, found = post_photograph(f"{running.ui}/api/v1/detection/detect", ASTRONAUT, key=KEY)
    assert status == 404
    status, found = post_photograph(
        f"{running.ui}/api/v1/detection/detect", ASTRONAUT, key=detection
    )
    assert status == 200
    assert found["result"][0]["box"]["x_max"] > 0
    assert "embedding" not in found["result"][0]
    assert "plugins_versions" not in found


@pytest.fixture
def recorded(docker: Docker, running: Stack) -> None:
    """The recorded database: faces of a calculator of 512 values, where ours has 192."""
    restore(docker, running.instance, shared("contract", "stack", "frs-1.2.0.sql.xz"))


def test_a_face_of_another_length_is_refused_and_stored(
    docker: Docker, running: Stack, recorded: None
) -> None:
    assert sorted(get(f"{running.recognition}/subjects", key=KEY)[1]["subjects"]) == list("ABC")
    said = get(f"{running.ui}/api/v1/consistence/status")[1]
    assert said == {
        "dbIsInconsistent": True,
        "demoFaceCollectionIsInconsistent": False,
        "saveImagesToDB": True,
        "status": "OK",
    }
    assert running.recognized(KEY) == (400, WRONG)
    assert running.recognized(DEMO_KEY) == (400, WRONG)
    faces, images = running.stored()
    assert running.added(KEY) == (400, WRONG)
    assert running.stored() == (faces + 1, images + 1)

    restart(docker, running.instance, "compreface-api")
    assert running.recognized(KEY) == (400, WRONG)
    assert running.added(KEY)[0] == 201
    assert running.stored() == (faces + 2, images + 2)


def test_what_the_engine_refuses_is_no_face_and_what_it_lacks_is_an_error(
    docker: Docker, running: Stack, recorded: None, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    no_face = (400, {"message": "No face is found in the given image", "code": 28})
    assert running.recognized(KEY, broken) == no_face
    assert running.recognized(KEY, shared("faces", "compreface-samples", "017_0.jpg")) == no_face
    two = shared("faces", "compreface-samples", "010_2.jpg")
    said = {"message": "More than one face in the source image", "code": 31}
    assert running.added(KEY, two) == (400, said)
    other = tmp_path / "a.txt"
    other.write_bytes(b"text")
    said = {"message": "File [a.txt] has an unavailable extension", "code": 21}
    assert running.recognized(KEY, other) == (400, said)

    core = f"cf-{running.instance}-compreface-core-1"
    docker("stop", core)
    try:
        status, said = running.recognized(KEY)
        assert (status, said["code"]) == (500, 41)
        assert said["message"].startswith("Error during synchronization between servers: ")
        # What the api remembers of the engine it goes on saying.
        assert get(f"{running.ui}/api/v1/consistence/status")[0] == 200
    finally:
        docker("start", core)
        wait_until(lambda: docker.inspect(core)["State"]["Health"]["Status"] == "healthy")


def test_admin_waits_for_a_lock_that_was_left(
    docker: Docker, running: Stack, recorded: None
) -> None:
    sql(running.instance, "update public.databasechangeloglock set locked = true")
    admin = f"cf-{running.instance}-compreface-admin-1"
    docker("restart", admin)
    wait_until(lambda: "Waiting for changelog lock...." in docker("logs", "--tail=3", admin))
    assert docker.inspect(admin)["State"]["Health"]["Status"] != "healthy"
    cure = "update public.databasechangeloglock set locked = false, lockedby = null"
    sql(running.instance, cure)
    wait_until(lambda: docker.inspect(admin)["State"]["Health"]["Status"] == "healthy")


def test_a_load_says_what_became_of_each_request(
    docker: Docker, running: Stack, recorded: None
) -> None:
    detect = f"{running.ui}/api/v1/detection/detect"
    key = {"x-api-key": "7672ee7c-2409-4e8d-a1b8-0f7eb31a49cf"}
    photograph = PORTRAITS / "grace_hopper.jpg"
    good = load(detect, photograph, connections=4, count=40, header=key)
    assert (good.sent, good.by_status[200], good.failed) == (40, 40, 0), str(good)
    assert 0 < good.slowest_s < good.lasted_s
    bad = load(detect, photograph, connections=4, seconds=1.0)
    assert bad.failed == bad.sent == bad.by_status[400] > 4
    assert "Missing header" in bad.failures[0].body


def test_nginx_ends_where_a_name_or_a_variable_is_missing(docker: Docker, stack: Any) -> None:
    image = f"{REGISTRY}compreface-fe:{TAG}"
    variables = [f"--env={one}" for one in VARIABLES]
    said = docker("run", "--rm", *variables, image, check=False)
    assert "host not found in upstream" in said
    for absent in variables:
        kept = [one for one in variables if one != absent]
        said = docker("run", "--rm", *ADDRESSES, *kept, image, check=False)
        name = absent.removeprefix("--env=").partition("=")[0]
        assert "[emerg]" in said, name
        assert name.lower() in said.lower(), name


def test_nginx_answers_a_missing_file_with_the_page_and_takes_another_template(
    docker: Docker, stack: Any, tmp_path: Path
) -> None:
    variables = [f"--env={one}" for one in VARIABLES]
    image = f"{REGISTRY}compreface-fe:{TAG}"
    template = tmp_path / "nginx.conf.template"
    template.write_text(
        "server { listen 80; location / { return 200 '$uri ${CLIENT_MAX_BODY_SIZE}'; } }\n"
    )
    mounted = f"--volume={template}:/etc/nginx/templates/nginx.conf.template:ro"
    asked = ("curl", "--silent", "--max-time", "5", "--include", "http://127.0.0.1")
    for more, path, expected in (
        ((), "/assets/nosuch.js", ("200 OK", "CompreFace stand-in")),
        ((), "/core/status", ("502 Bad Gateway", "Access-Control-Allow-Origin: *")),
        ((mounted,), "/any", ("200 OK", "/any 10M")),
    ):
        name = f"cf-e2e-fe-{uuid.uuid4().hex[:8]}"
        docker("run", "--detach", f"--name={name}", *ADDRESSES, *variables, *more, image)
        try:
            for _ in range(50):
                said = docker("exec", name, *asked[:-1], f"{asked[-1]}{path}", check=False)
                if said:
                    break
                time.sleep(0.1)
            assert all(text in said for text in expected), said
        finally:
            docker("rm", "--force", name)
