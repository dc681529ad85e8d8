"""A collection moves to another build and back: nobody is lost, mixed or unrecognised meanwhile."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.local_cf import shared_environment
from tests.cli.names import assert_named
from tests.cli.prepared_models import prepared
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    flipped,
    free_port,
    get,
    post_photograph,
    restart,
    sign_up,
    sql,
)
from tests.shared import needs_shared, shared

pytestmark = [pytest.mark.slow, needs_shared]

FORMER, OTHER = "embedded.Calculator@mobilefacenet192", "custom.Calculator@mobilefacenet128"
BUILD = f"""
schema: 1
name: other
summary: MTCNN and MobileFaceNet-128
detector: embedded.FaceDetector@mtcnn
calculator: {OTHER}
plugins: [facenet.LandmarksDetector, facenet.PoseEstimator]
"""
PEOPLE = {
    "A": ("001_A", "002_A", "003_A", "004_A", "005_A", "006_A"),
    "B": ("007_B", "008_B"),
    "C": ("009_C",),
}
FACES = "from public.embedding e where calculator <> 'Facenet2018'"
KEEP = ("--no-face", "keep-out", "--several", "largest", "--without-image", "keep-out")
# The bytes of all faces: their ids, subjects, images, calculators and numbers.
DIGEST = (
    "select coalesce(string_agg(id::text || subject_id || coalesce(img_id::text, '') || calculator"
    " || (select string_agg(encode(float8send(x), 'hex'), '') from unnest(embedding) x), ','"
    " order by id), '') "
)


@dataclass
class Stack:
    """An instance with faces, and a user of its api."""

    cf: Cf
    docker: Docker
    instance: str
    api: str
    key: str
    other: str  # path of the build

    def add(self, subject: str, photograph: Path) -> str:
        url = f"{self.api}/faces?subject={urllib.parse.quote(subject)}"
        status, answer = post_photograph(url, photograph, key=self.key)
        assert status == 201, answer
        return str(answer["image_id"])

    def recognised(self, photograph: Path) -> tuple[int, str]:
        status, answer = post_photograph(f"{self.api}/recognize", photograph, key=self.key)
        if status != 200:
            return status, str(answer)
        return status, answer["result"][0]["subjects"][0]["subject"]

    def sql(self, text: str) -> str:
        return sql(self.instance, text)

    def digest(self, but: str = "false") -> str:
        return self.sql(f"{DIGEST} {FACES} and not ({but})")

    def calculators(self) -> dict[str, int]:
        rows = self.sql(f"select calculator, count(*) {FACES} group by 1").splitlines()
        return {name: int(count) for name, _, count in (row.partition("\t") for row in rows)}

    def tables(self) -> bool:
        return self.sql("select to_regclass('cf_migration.run') is not null") == "t"

    def migrate(self, *more: str, code: int = 0) -> dict[str, Any]:
        words = ("data", "migrate", self.instance, *more, "--json")
        done = self.cf.run(*words, timeout_s=400)
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        answer = json.loads(done.stdout)
        told: dict[str, Any] = answer.get("error", answer)
        return told

    def state(self) -> tuple[int, str, str]:
        done = self.cf.run("status", self.instance, "--json")
        (row,) = json.loads(done.stdout)["instances"]
        return done.returncode, row["state"], str(row)

    def killed(self, when: str, *more: str) -> None:
        """A run that is killed once it has said so."""
        words = ("data", "migrate", self.instance, *more)
        code, _ = self.cf.interrupted(*words, when=lambda line: when in line, number=signal.SIGKILL)
        assert code == -signal.SIGKILL


def photograph(name: str) -> Path:
    return shared("faces", "compreface-samples", f"{name}.jpg")


@pytest.fixture
def filled(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]
) -> Stack:
    """Nine faces of three people."""
    cf.environment |= stack
    environment = shared_environment()
    homes = cf.data / "engine-env"
    homes.mkdir(parents=True)
    (homes / environment.key).symlink_to(environment.folder)
    build = cf.here / "other.yaml"
    build.write_text(BUILD)
    prepared(str(build), cf.data / "models", environment)
    port = free_port()
    ports = ("--port", str(port), "--core-port", str(free_port()))
    cf.ok("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    ui = f"http://127.0.0.1:{port}"
    made = Stack(cf, docker, instance, f"{ui}/api/v1/recognition", "", str(build))
    made.key = sign_up(ui)["RECOGNITION"]
    for subject, names in PEOPLE.items():
        for name in names:
            made.add(subject, photograph(name))
    return made


def store(stack: Stack, subject: str, image: bytes | None) -> str:
    """A face of that subject with another image, or none, and the embedding of its first face."""
    one, content = str(uuid.uuid4()), str(uuid.uuid4())
    if image is not None:
        stack.sql(f"insert into public.img values ('{content}', '\\x{image.hex()}')")
    img = f"'{content}'" if image is not None else "null"
    stack.sql(
        "insert into public.embedding (id, subject_id, embedding, calculator, img_id)"
        f" select '{one}', s.id, e.embedding, e.calculator, {img} from public.subject s"
        " join public.embedding e on e.subject_id = s.id"
        f" where s.subject_name = '{subject}' and s.api_key = '{stack.key}' limit 1"
    )
    return one


@contextmanager
def recognising(stack: Stack, picture: Path) -> Iterator[list[tuple[float, int, str]]]:
    """Somebody who asks all the time: when, and what came of it."""
    ended, seen = threading.Event(), []

    def ask() -> None:
        while not ended.wait(0.2):
            try:
                seen.append((time.monotonic(), *stack.recognised(picture)))
            except (OSError, ValueError) as error:  # nginx's own page while api is stopped
                seen.append((time.monotonic(), 0, repr(error)))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_a_collection_moves_to_another_build_and_back(filled: Stack) -> None:
    stack = filled
    no_image = store(stack, "B", None)
    no_face = store(stack, "B", photograph("017_0").read_bytes())
    several = store(stack, "A", photograph("000_5").read_bytes())
    restart(stack.docker, stack.instance, "compreface-api")
    before = stack.digest()
    to = ("--to", stack.other)

    # The plan names what cannot be migrated, and changes nothing.
    refused = stack.migrate(*to, "--max-failures", "5%", "--dry-run", code=5)
    assert refused["plan"]["by_outcome"] == {"no image": 1, "pending": 11}
    assert [row["subject"] for row in refused["plan"]["without_image"]] == ["B"]
    plan = stack.migrate(*to, "--without-image", "keep-out", "--dry-run")["plan"]
    assert plan["sample"]["images"] == 11
    assert plan["seconds"] > 0
    assert plan["disk"]["needed"].keys() == plan["disk"]["free"].keys() == {"database", "backup"}
    assert plan["out_of_service"]["services"] == ["api", "admin"]
    assert plan["refused"] == []
    assert not stack.tables()

    # Too many without a rule: refused before the switch; what was computed stays.
    with recognising(stack, photograph("002_A")) as seen:
        error = stack.migrate(*to, "--without-image", "keep-out", code=5)
        assert error["details"]["by_outcome"]["no face"] == 1
        report = Path(error["details"]["report"]).read_text()
        assert report.count(no_face) == report.count(no_image) == report.count(several) == 1
        assert error["details"]["subjects"][0]["subject"] == "A"
        stored = stack.sql("select count(*), min(xmin::text) from cf_migration.vector")
        assert stored.startswith("11\t")
        assert stack.digest() == before
        assert_named(stack.cf.run("status", stack.instance).stdout, f"migrate {stack.instance}")

        # Killed while it computes; a face that is added then is migrated with the others.
        added = stack.add("C", PORTRAITS / "grace_hopper.jpg")
        stack.killed("Computing embeddings", *to, *KEEP)
        assert stack.state()[:2] == (0, "running")
    assert {(status, who) for _, status, who in seen} == {(200, "A")}
    assert stack.digest(f"id = '{added}'") == before

    # Killed when the api has just been stopped, and when the faces have just been switched.
    stack.killed("Stopping api")
    code, state, row = stack.state()
    assert code == 8 or state == "running"
    assert_named(row, f"cf data migrate {stack.instance}")
    assert stack.digest(f"id = '{added}'") == before
    assert (
        stack.sql(
            "select count(*), min(xmin::text) from cf_migration.vector where embedding_id"
            f" <> '{added}'"
        )
        == stored
    )  # nothing was computed twice
    stack.killed("the new engine starts")
    code, state, row = stack.state()
    assert (code, state) == (8, "interrupted")
    assert_named(row, f"cf data migrate {stack.instance}")
    assert stack.calculators() == {OTHER: 11}
    done = stack.migrate()
    assert done["change"] == "completed"
    assert stack.state()[:2] == (0, "running")
    assert stack.calculators() == {OTHER: 11}
    kept_out = "select string_agg(id::text, ' ' order by id) from cf_migration.kept_out"
    assert stack.sql(kept_out).split() == sorted([no_image, no_face])
    for name, who in (("003_A", "A"), ("008_B", "B"), ("009_C", "C")):
        assert stack.recognised(photograph(name)) == (200, who)
    assert stack.recognised(PORTRAITS / "grace_hopper.jpg") == (200, "C")

    # As the api stores them: at unit length, and equal to what it stores for that photograph.
    again = stack.add("A", photograph("004_A"))
    rows = stack.sql(f"select e.embedding::text {FACES}").splitlines()
    for row in rows:
        values = [float(value) for value in row[1:-1].split(",")]
        assert math.hypot(*values) == pytest.approx(1, abs=1e-12)
    same = stack.sql(
        f"select count(*) {FACES} and embedding = (select embedding from public.embedding"
        f" where id = '{again}') and img_id is not null"
    )
    assert same == "2"

    # Back, byte for byte; who was added since is there too.
    done = stack.migrate("--back")
    assert done["change"] == "returned"
    since = f"id in ('{added}', '{again}')"
    assert stack.digest(since) == before
    assert stack.calculators() == {FORMER: 14}
    assert stack.sql("select count(*) from cf_migration.kept_out") == "0"
    for name, who in (("004_A", "A"), ("007_B", "B")):
        assert stack.recognised(photograph(name)) == (200, who)
    assert stack.recognised(PORTRAITS / "grace_hopper.jpg") == (200, "C")
    assert stack.migrate("--back", code=3)["type"] == "ConfigurationError"

    # Forth again, from what is saved, and finished: only then nothing is left to return to.
    done = stack.migrate(*to, *KEEP)
    assert (done["plan"]["pending"], done["migrated"], done["kept_out"]) == (0, 12, 2)
    (quality,) = done["quality"]
    assert (quality["photographs"], quality["tested"]) == (12, 12)
    assert quality["recognised_after"] >= max(10, quality["recognised_before"])
    assert stack.migrate("--to", "embedded", code=4)["type"] == "ConflictError"
    assert stack.migrate("--finish", code=2)["type"] == "UsageError"
    assert stack.tables()
    done = stack.migrate("--finish", "--confirm", stack.instance)
    assert (done["stored"], done["kept_out"]) == (12, 2)
    assert Path(done["backup"]).stat().st_size > 100_000
    assert not stack.tables()
    assert stack.calculators() == {OTHER: 12}
    assert stack.recognised(photograph("002_A")) == (200, "A")
    demo = "select count(*) from public.embedding where calculator = 'Facenet2018'"
    assert stack.sql(demo) == "20"


def test_an_engine_that_fails_changes_nothing_or_gives_way_by_itself(
    filled: Stack, embedded: dict[str, Any], tmp_path: Path
) -> None:
    stack, docker = filled, filled.docker
    stack.migrate("--to", stack.other)
    stack.migrate("--finish", "--confirm", stack.instance)
    before = stack.digest()
    # An engine that answers wrongly is refused beside the running one.
    image = embedded["image"]
    stack.cf.environment["CF_IMAGE"] = flipped(docker, image, tmp_path / "wrong")
    error = stack.migrate("--to", "embedded", code=8)
    assert_named(error["message"], "wrong answer")
    assert (stack.tables(), stack.digest()) == (False, before)
    # One that answers wrongly in its own place only: the faces have been switched by then.
    only = flipped(docker, image, tmp_path / "later", only_beside="compreface-postgres-db")
    stack.cf.environment["CF_IMAGE"] = only
    assert stack.migrate("--to", "embedded", code=8)["type"] == "UnhealthyError"
    assert stack.digest() == before
    assert stack.sql("select phase from cf_migration.run") == "computing"
    assert stack.state()[:2] == (0, "running")
    assert stack.recognised(photograph("005_A")) == (200, "A")
    status, answer = get(f"{stack.api}/faces", key=stack.key)
    assert (status, answer["total_elements"]) == (200, 9)
    # The right one takes what was computed.
    del stack.cf.environment["CF_IMAGE"]
    done = stack.migrate("--to", "embedded")
    assert (done["plan"]["pending"], stack.calculators()) == (0, {FORMER: 9})
    assert stack.recognised(photograph("005_A")) == (200, "A")
