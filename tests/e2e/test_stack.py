"""All five services with a real PostgreSQL: data outlive the run, and are never mixed."""

from __future__ import annotations

import json
import shutil
import signal
from typing import Any

import pytest

from compreface_cli.project.writer import read_env
from tests.cli.names import assert_named
from tests.e2e.conftest import misbehaving
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    free_port,
    get,
    post_photograph,
    restart,
    sign_up,
    sql,
    wait_until,
)


@pytest.fixture
def up(cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]) -> tuple[str, ...]:
    cf.environment |= stack
    ports = ("--port", str(free_port()), "--core-port", str(free_port()))
    return ("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)


def test_rows_survive_down_and_up(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    assert "first account" in cf.ok(*up)
    ui = f"http://127.0.0.1:{up[up.index('--port') + 1]}"
    api = f"{ui}/api/v1/recognition"
    key = sign_up(ui)["RECOGNITION"]
    for subject, photograph in (("Grace", "grace_hopper.jpg"), ("Eileen", "astronaut.png")):
        added = post_photograph(f"{api}/faces?subject={subject}", PORTRAITS / photograph, key=key)
        assert added[0] == 201, added
    assert get(f"{ui}/core/status")[0] == 200
    assert get(f"http://127.0.0.1:{up[up.index('--core-port') + 1]}/status")[0] == 200

    stopped = cf.ok("down", instance)
    assert f"cf-{instance}_postgres-data" in stopped
    assert docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]

    cf.ok(*up)
    status, listed = get(f"{api}/subjects", key=key)
    assert (status, sorted(listed["subjects"])) == (200, ["Eileen", "Grace"])
    assert get(f"{ui}/api/v1/consistence/status")[1]["dbIsInconsistent"] is False
    found = post_photograph(f"{api}/recognize", PORTRAITS / "astronaut.png", key=key)
    (face,) = found[1]["result"]
    assert face["subjects"][0]["subject"] == "Eileen"
    assert face["subjects"][0]["similarity"] > 0.99


def test_the_database_decides_which_calculator_may_work_on_it(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    """The label of the volume is only what it was made with: an empty one takes any calculator."""
    volume = labelled(docker, instance, "facenet.Calculator")
    cf.ok(*up)
    ui = f"http://127.0.0.1:{up[up.index('--port') + 1]}"
    api = f"{ui}/api/v1/recognition"
    key = sign_up(ui)["RECOGNITION"]
    other = ("up", "facenet", *up[2:])
    allowed = cf.run(*other, "--dry-run")
    assert allowed.returncode != 5, "it holds no face yet, the demo's aside"
    added = post_photograph(f"{api}/faces?subject=Grace", PORTRAITS / "grace_hopper.jpg", key=key)
    assert added[0] == 201, added
    face = "1 face of embedded.Calculator@mobilefacenet192"
    assert_named(refused(cf, other), face, "RECOGNITION", "Front door")
    assert cf.run("status", instance).returncode == 0

    # One face under another calculator: with it the collection is dead once the api starts anew.
    sql(
        instance,
        "insert into public.embedding (id, subject_id, embedding, calculator) select"
        " gen_random_uuid(), subject_id, array_fill(0.04::float8, array[512]),"
        " 'facenet.Calculator' from public.embedding where calculator like 'embedded%'",
    )
    restart(docker, instance, "compreface-api")
    photograph = PORTRAITS / "grace_hopper.jpg"
    assert post_photograph(f"{api}/recognize", photograph, key=key)[0] == 400
    sick = cf.run("status", instance, "--json")
    assert sick.returncode == 8
    (told,) = json.loads(sick.stdout)["instances"][0]["database"]
    assert_named(told["message"], "RECOGNITION", "Front door", face, "1 face of facenet.Calculator")
    again = cf.run(*up)
    assert again.returncode == 0, again.stderr
    assert told["message"] in again.stderr
    diagnosed = cf.run("doctor", "--json")
    rows = json.loads(diagnosed.stdout)["rows"]
    assert [row["message"] for row in rows if row["check"] == "database"] == [told["message"]]
    assert_named(told["hint"], f"cf data repair {instance}")
    cf.ok("data", "repair", instance, "--move-out", "--yes")
    wait_until(lambda: cf.run("status", instance).returncode == 0)
    status, found = post_photograph(f"{api}/recognize", photograph, key=key)
    assert (status, found["result"][0]["subjects"][0]["subject"]) == (200, "Grace")

    render = ("render", "facenet", "--no-models", "-o", str(cf.here / "rendered"))
    assert "1 face of embedded" in refused(cf, (*render, "--instance", instance))
    assert not (cf.here / "rendered").exists()
    rendered = cf.run("render", "embedded", "-o", "rendered", "--instance", instance)
    assert rendered.returncode == 0, rendered.stderr
    assert_named(rendered.stderr, cf.project(instance) / ".env")

    cf.ok("down", instance)
    before = docker.inspect(volume)
    assert "embedded.Calculator@mobilefacenet192" in refused(cf, other)
    assert "facenet.Calculator" in refused(cf, (*other, "--dry-run"))
    assert docker.inspect(volume) == before
    assert docker.things_of(f"cf-{instance}") == [volume]
    # Without its record only the label is left to be believed, and the database is asked.
    password = read_env(cf.project(instance) / ".env")["POSTGRES_PASSWORD"]
    shutil.rmtree(cf.home)
    cf.home.mkdir()
    cf.environment["CF_POSTGRES_PASSWORD"] = password
    cf.ok(*up, "--dry-run")


def refused(cf: Cf, command: tuple[str, ...]) -> str:
    done = cf.run(*command)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("do not compare") + done.stderr.count("cannot be compared") == 1
    return done.stderr


def labelled(docker: Docker, instance: str, calculator: str) -> str:
    """An empty volume, as an earlier `up` of this instance would have made it."""
    labels = {
        "com.docker.compose.project": f"cf-{instance}",
        "com.docker.compose.volume": "postgres-data",
        "compreface-cli.instance": instance,
        "compreface-cli.calculator": calculator,
    }
    volume = f"cf-{instance}_postgres-data"
    docker("volume", "create", *(f"--label={key}={value}" for key, value in labels.items()), volume)
    return volume


def test_another_password_is_found_before_the_services_start(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    cf.ok(*up)
    cf.ok("down", instance)
    volume = docker.inspect(f"cf-{instance}_postgres-data")
    password = read_env(cf.project(instance) / ".env")["POSTGRES_PASSWORD"]
    shutil.rmtree(cf.home)  # as another user, or after the settings were removed
    cf.home.mkdir()
    warned = cf.run(*up, "--dry-run").stderr
    assert_named(warned, "CF_POSTGRES_PASSWORD")
    failed = cf.run(*up)
    assert failed.returncode == 4, failed.stderr
    assert_named(failed.stderr, "CF_POSTGRES_PASSWORD")
    assert "admin started" not in failed.stderr
    assert docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]
    assert docker.inspect(f"cf-{instance}_postgres-data") == volume
    cf.environment["CF_POSTGRES_PASSWORD"] = password
    cf.ok(*up)


def test_a_start_killed_while_the_database_is_made_and_a_lock_left_behind_are_healed(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    code, said = cf.interrupted(
        *up, when=lambda line: "postgres started" in line, number=signal.SIGKILL
    )
    assert code == -signal.SIGKILL, said
    cf.ok(*up)
    sql(
        instance,
        "update public.databasechangeloglock set locked = true, lockgranted = now(),"
        " lockedby = '0123456789ab (172.18.0.9)'",
    )
    cf.ok("down", instance)
    again = cf.run(*up)
    assert again.returncode == 0, again.stderr
    assert_named(again.stderr, "0123456789ab (172.18.0.9)")


def test_a_failed_first_start_leaves_no_volume(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    cf.environment["CF_IMAGE"] = misbehaving(docker, "crash")
    failed = cf.run(*up, "--no-build")
    assert failed.returncode == 8, failed.stderr
    assert "the weights are not what they should be" in failed.stderr
    assert docker.things_of(f"cf-{instance}") == []


def test_a_failed_later_start_keeps_the_volume_and_its_rows(
    docker: Docker, cf: Cf, instance: str, up: tuple[str, ...]
) -> None:
    cf.ok(*up)
    ui = f"http://127.0.0.1:{up[up.index('--port') + 1]}"
    api = f"{ui}/api/v1/recognition"
    key = sign_up(ui)["RECOGNITION"]
    added = post_photograph(f"{api}/faces?subject=Grace", PORTRAITS / "grace_hopper.jpg", key=key)
    assert added[0] == 201, added
    cf.ok("down", instance)
    cf.environment["CF_IMAGE"] = misbehaving(docker, "crash")
    assert cf.run(*up, "--no-build").returncode == 8
    assert docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]
    del cf.environment["CF_IMAGE"]
    cf.ok(*up)
    assert get(f"{api}/subjects", key=key) == (200, {"subjects": ["Grace"]})
