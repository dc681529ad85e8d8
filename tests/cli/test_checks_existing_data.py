"""A plan on existing data: what is rendered, what is refused, and the ways on that are named."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli import checks
from compreface_cli.builds import fitting
from compreface_cli.checks import database, password, volume
from compreface_cli.checks.base import Finding, OwnedResources
from compreface_cli.facts.database import Collection, DatabaseFacts
from compreface_cli.facts.docker import Labelled
from compreface_cli.plan import data as existing
from compreface_cli.plan.data import Data
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.project.targets import compose as target
from tests.cli.fake_facts import FOLDER, container, docker, facts, of_project, plan
from tests.cli.names import assert_named

VOLUME = "compreface_postgres-data"
IMAGE = "exadel/compreface-postgres-db:1.2.0"
OURS, THEIRS = "embedded.Calculator@mobilefacenet192", "facenet.Calculator"
DATA = Data(VOLUME, IMAGE, "postgres", "frs")
SECRET = "s3cret'$"
DEMO = Collection("Demo", 0, "Demo app", "Facenet2018", 20, demo=True)
ROLES = {"postgres": "md5" + hashlib.md5(f"{SECRET}postgres".encode()).hexdigest()}  # noqa: S324
READ = DatabaseFacts(collections=(DEMO,), roles=ROLES, written_by="11", server="11")
BUILDS = {"facenet": "facenet.Calculator@20180402-114759", "mine": THEIRS, "embedded": OURS}


def faces(calculator: str, number: int = 3) -> Collection:
    return Collection("People", 7, "Front door", calculator, number)


def on_data(data: Data = DATA, secret: str = SECRET, **changes: Any) -> Plan:
    return existing.on(plan(**changes), data, secret)


def judged(
    seen: DatabaseFacts | None,
    wanted: Plan | None = None,
    own: OwnedResources | None = None,
    **engine: Any,
) -> list[Finding]:
    here = {"volumes": (Labelled(VOLUME),), **engine}
    gathered = replace(facts(docker=docker(**here)), database=seen, calculators=BUILDS)
    rows = checks.preflight(wanted or on_data(), gathered, own)
    return [row for row in rows if row.check in ("volume", "database")]


def refused(code: int, *named: str, of: list[Finding]) -> Finding:
    (row,) = of
    assert (row.level, row.code) == ("fail", code), row
    assert_named(row.message, *named)
    return row


def test_the_project_declares_the_volume_as_external() -> None:
    build = existing.on(plan_of("embedded"), DATA)
    text = str(target.render(build, with_models=False).files[target.COMPOSE_FILE])
    document = yaml.safe_load(text)
    assert document["volumes"] == {"postgres-data": {"name": VOLUME, "external": True}}
    assert document["services"]["compreface-postgres-db"]["image"] == IMAGE
    assert build.volume == VOLUME
    assert target.render(build, with_models=False).volume == VOLUME
    own = yaml.safe_load(
        str(target.render(plan_of("embedded"), with_models=False).files[target.COMPOSE_FILE])
    )
    assert "external" not in own["volumes"]["postgres-data"]


def test_a_plan_takes_what_the_data_was_written_with_unless_a_setting_names_another() -> None:
    data = Data(VOLUME, "postgres:11.5", "admin", "faces", "old")
    taken = on_data(data)
    keys = ("postgres_image", "postgres_user", "postgres_db")
    assert [taken.stack[key] for key in keys] == ["postgres:11.5", "admin", "faces"]
    assert taken.secrets == {"postgres_password": SECRET}
    stack = {**plan().stack, "postgres_user": "me", "postgres_db": "frs"}
    origins = {"postgres_user": "flag", "postgres_version": "environment CF_POSTGRES_VERSION"}
    kept = on_data(data, stack=stack, origins=origins, secrets={"postgres_password": "mine"})
    assert [kept.stack[key] for key in keys] == [IMAGE, "me", "faces"]
    assert kept.secrets == {"postgres_password": "mine"}
    assert existing.of_record(kept.as_dict()) == data
    assert existing.of_record(plan().as_dict()) is None
    assert on_data(secret="").secrets == {}


def test_existing_data_is_always_read() -> None:
    seen = facts(docker=docker(volumes=(Labelled(VOLUME),)))
    assert volume.in_doubt(on_data(), seen, OwnedResources(calculator=OURS))
    assert not volume.in_doubt(on_data(), facts(docker=docker()), OwnedResources())
    labels = {
        "com.docker.compose.project": "cf-embedded",
        "compreface-cli.calculator": OURS,
    }
    seen = facts(docker=docker(volumes=(Labelled("cf-embedded_postgres-data", labels),)))
    assert not volume.in_doubt(plan(), seen, OwnedResources(postgres_image=IMAGE))
    assert volume.in_doubt(plan(), seen, OwnedResources(postgres_image="postgres:11.5"))


@pytest.mark.parametrize("stored", [(), (DEMO,), (DEMO, faces(OURS))], ids=["none", "demo", "ours"])
def test_data_that_fits_is_taken(stored: tuple[Collection, ...]) -> None:
    (row,) = judged(replace(READ, collections=stored))
    assert (row.level, row.code) == ("ok", 0)
    assert_named(row.message, VOLUME)


def test_two_notations_of_one_model_fit() -> None:
    wanted = on_data(calculator="facenet.Calculator@20180402-114759")
    (row,) = judged(replace(READ, collections=(faces(THEIRS),)), wanted)
    assert row.level == "ok"


@pytest.mark.parametrize("owner", ["", "old"], ids=["upstreams", "an-instances"])
def test_another_calculator_is_refused_with_three_ways_on(owner: str) -> None:
    seen = replace(READ, collections=(DEMO, faces(THEIRS, 88000), faces(OURS)))
    wanted = on_data(replace(DATA, instance=owner))
    row = refused(5, VOLUME, OURS, THEIRS, "88000 embeddings", of=judged(seen, wanted))
    named = owner or VOLUME
    ways = [f"cf up facenet --data {named}", "--to embedded", "--instance NEW", "mine"]
    assert_named(row.hint, *ways, f"cf data migrate {owner or 'NAME'}")
    row = refused(
        5, THEIRS, of=judged(seen, replace(wanted, calculator="custom.Calculator@nobodys"))
    )


def test_a_calculator_that_no_build_has_is_named_in_the_way_on() -> None:
    row = refused(5, "x.Y@z", of=judged(replace(READ, collections=(faces("x.Y@z", 1),))))
    assert_named(row.hint, "x.Y@z", "cf list-builds")
    assert_named(row.message, "1 embedding ")


def test_a_container_on_the_volume_is_refused_by_its_name() -> None:
    user = container("compreface-postgres-db", volumes=(VOLUME,))
    row = refused(4, VOLUME, "compreface-postgres-db", of=judged(None, containers=(user,)))
    assert_named(row.hint, "docker stop compreface-postgres-db")
    mine = of_project("cf-embedded", FOLDER, volumes=(VOLUME,))
    own = OwnedResources(folder=FOLDER)
    (row,) = judged(replace(READ, login="", roles=None), own=own, containers=(mine,))
    assert row.level == "ok"


def test_a_volume_that_is_gone_is_refused() -> None:
    row = refused(3, VOLUME, "embedded", of=judged(None, volumes=()))
    assert_named(row.hint, "cf data list")


def test_data_that_was_not_read_is_a_warning() -> None:
    rows = judged(None)
    assert [row.level for row in rows] == ["warn", "ok"]
    assert_named(rows[0].message, VOLUME, IMAGE)


@pytest.mark.parametrize("wanted", [on_data(), on_data(replace(DATA, instance="old"))])
def test_another_postgresql_is_refused_with_two_ways_on(wanted: Plan) -> None:
    seen = DatabaseFacts("PostgreSQL 11 wrote it", written_by="11", server="15")
    row = refused(5, VOLUME, "11", "15", IMAGE, of=judged(seen, wanted))
    place = wanted.data.instance or VOLUME if wanted.data else ""
    assert_named(row.hint, "CF_POSTGRES_IMAGE", f"cf data backup {place}", "cf data restore")


def test_another_postgresql_is_refused_for_a_volume_of_the_instances_own_too() -> None:
    labels = {
        "com.docker.compose.project": "cf-embedded",
        "compreface-cli.calculator": OURS,
    }
    own_volume = (Labelled("cf-embedded_postgres-data", labels),)
    own = OwnedResources(folder=FOLDER, postgres_image="postgres:11.5")
    seen = DatabaseFacts("PostgreSQL 11 wrote it", written_by="11", server="15")
    refused(5, "11", "15", of=judged(seen, plan(), own, volumes=own_volume))
    (row,) = judged(replace(READ, server="11"), plan(), own, volumes=own_volume)
    assert row.level == "ok"


@pytest.mark.parametrize(
    ("seen", "code", "named", "way"),
    [
        (replace(READ, roles={"postgres": "md5other"}), 4, VOLUME, "CF_POSTGRES_PASSWORD"),
        (replace(READ, roles={"postgres": ""}), 4, VOLUME, "CF_POSTGRES_PASSWORD"),
        (replace(READ, roles={"admin": ""}), 4, "postgres", "CF_POSTGRES_USER"),
        (
            DatabaseFacts('database "frs" does not exist', written_by="11", server="11"),
            4,
            '"frs"',
            "CF_POSTGRES_DB",
        ),
        (DatabaseFacts("no answer within 90 s", written_by="11"), 4, "90 s", "CF_POSTGRES_DB"),
        (DatabaseFacts(collections=()), 4, VOLUME, "cf data list"),
        (replace(READ, old=True), 5, VOLUME, "CompreFace 1.2.0"),
    ],
    ids=["password", "no-password", "user", "database", "unread", "empty", "before-0.6"],
)
def test_data_that_cannot_be_used_is_refused(
    seen: DatabaseFacts, code: int, named: str, way: str
) -> None:
    wanted = on_data()
    wanted = replace(wanted, stack={**wanted.stack, "postgres_user": "postgres"})
    row = refused(code, named, of=judged(seen, wanted))
    assert_named(row.hint, way)
    assert SECRET not in row.message + row.hint


def test_a_password_is_proven_by_the_stored_digest() -> None:
    salt, rounds = b"0123456789abcdef", 4096
    salted = hashlib.pbkdf2_hmac("sha256", SECRET.encode(), salt, rounds)
    key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    parts = [base64.b64encode(each).decode() for each in (salt, key, key)]
    digest = f"SCRAM-SHA-256${rounds}:{parts[0]}${parts[1]}:{parts[2]}"
    assert password.fits(digest, "postgres", SECRET) is True
    assert password.fits(digest, "postgres", SECRET + "x") is False
    assert password.fits(ROLES["postgres"], "postgres", SECRET) is True
    assert password.fits(ROLES["postgres"], "other", SECRET) is False
    assert password.fits("", "postgres", "") is False


@pytest.mark.parametrize(
    "digest",
    ["SCRAM-SHA-512$1:a$b:c", "SCRAM-SHA-256$0:YQ==$YQ==:YQ==", "SCRAM-SHA-256$9:a$YQ==:c"],
)
def test_a_digest_of_another_kind_proves_nothing(digest: str) -> None:
    assert password.fits(digest, "postgres", SECRET) is None
    assert not database.login_at_rest(DatabaseFacts(roles={"u": digest}), "u", SECRET)


def test_the_builds_that_fit_are_known_by_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "builds").mkdir()
    (tmp_path / "builds" / "mine.yaml").write_text("name: mine\ncalculator: facenet.Calculator\n")
    (tmp_path / "builds" / "broken.yaml").write_text("name: [\n")
    (tmp_path / "builds" / "odd.yaml").write_text("name: odd\ncalculator: 7\n")
    monkeypatch.chdir(tmp_path)
    known = fitting.calculators()
    assert known["embedded"] == OURS
    assert known["mine"] == "facenet.Calculator"
    assert not {"broken", "odd"} & set(known)
    assert set(fitting.fitting("Facenet2018", known)) == {"facenet", "mine"}
