"""`cf up --data`: a build on another instance's volume, and each refusal before a start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compreface_cli.project.writer import read_env
from tests.cli.names import assert_named
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph, sign_up, sql

PORTRAIT = PORTRAITS / "grace_hopper.jpg"
FINGERPRINT = (
    "select string_agg(concat(e.id, e.calculator, s.subject_name, md5(e.embedding::text),"
    " md5(i.content)), ',' order by e.id) from embedding e join subject s on s.id = e.subject_id"
    " left join img i on i.id = e.img_id"
)


def ports() -> tuple[str, ...]:
    return ("--port", str(free_port()), "--core-port", str(free_port()))


def refused(cf: Cf, code: int, *arguments: str) -> str:
    """Run it, with and without a dry run; what it says, once it refuses with that exit code."""
    for more in (("--dry-run",), ()):
        done = cf.run("up", *arguments, *more, "--json")
        assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return f"{document['error']['message']}\n{document['error']['hint'] or ''}"


def copied(docker: Docker, volume: str, name: str, then: str = "true") -> str:
    """A volume with that one's files, as upstream's Compose project leaves it."""
    docker("volume", "create", "--label=com.docker.compose.volume=postgres-data", name)
    mounts = (f"--volume={volume}:/from:ro", f"--volume={name}:/to")
    script = f"cp -a /from/. /to/ && cd /to && {then}"
    docker("run", "--rm", *mounts, "python:3.11-slim-bookworm", "sh", "-c", script)
    return name


@pytest.mark.timeout(900)
def test_a_build_runs_on_the_data_of_another_instance(
    cf: Cf, docker: Docker, stack: dict[str, str], embedded: dict[str, Any], instance: str
) -> None:
    cf.environment = dict(stack)
    other = f"{instance}-two"
    cf.instances.append(other)
    volume = f"cf-{instance}_postgres-data"
    port = free_port()
    cf.ok("up", "embedded", "--instance", instance, "--port", str(port), *ports()[2:])
    key = sign_up(f"http://127.0.0.1:{port}")["RECOGNITION"]
    faces = f"http://127.0.0.1:{port}/api/v1/recognition/faces?subject=Grace"
    status, _ = post_photograph(faces, PORTRAIT, key=key)
    assert status == 201
    before = sql(instance, FINGERPRINT)

    on_it = ("embedded", "--instance", other, "--data", instance, *ports())
    assert_named(refused(cf, 4, *on_it), volume, f"cf-{instance}-compreface-postgres-db-1")
    cf.ok("down", instance)
    said = refused(cf, 5, "mnet25-mobilefacenet", "--instance", other, "--data", instance)
    ways = [f"cf up embedded --data {instance}", f"cf data migrate {instance} --to mnet25"]
    assert_named(said, volume, "embedded.Calculator@mobilefacenet192", "1 embedding", *ways)
    cf.environment["CF_POSTGRES_PASSWORD"] = "wrong"
    assert_named(refused(cf, 4, *on_it), volume, "CF_POSTGRES_PASSWORD")
    del cf.environment["CF_POSTGRES_PASSWORD"]
    assert_named(refused(cf, 3, "embedded", "--data", "nothing-of-that-name"), "cf data list")
    assert docker.things_of(f"cf-{other}") == []

    # A volume of no instance: its PostgreSQL is not known, its password is upstream's.
    bare = copied(docker, volume, f"cf-{instance}-bare_postgres-data")
    on_bare = ("embedded", "--instance", other, "--data", bare, *ports())
    assert_named(refused(cf, 4, *on_bare), bare, "CF_POSTGRES_PASSWORD")
    password = read_env(cf.project(instance) / ".env")["POSTGRES_PASSWORD"]
    cf.environment["CF_POSTGRES_PASSWORD"] = password
    cf.ok("up", *on_bare, "--dry-run")
    del cf.environment["CF_POSTGRES_PASSWORD"]
    old = copied(docker, volume, f"cf-{instance}-old_postgres-data", "echo 11 > PG_VERSION")
    said = refused(cf, 5, "embedded", "--instance", other, "--data", old, *ports())
    assert_named(said, old, "PostgreSQL 11", "PostgreSQL 15", "cf data restore")
    assert docker.things_of(f"cf-{other}") == []

    cf.ok("up", *on_it)
    assert sql(other, FINGERPRINT) == before
    status, answer = post_photograph(
        f"http://127.0.0.1:{on_it[on_it.index('--port') + 1]}/api/v1/recognition/recognize",
        PORTRAIT,
        key=key,
    )
    assert status == 200
    assert answer["result"][0]["subjects"][0]["subject"] == "Grace"
    # Nobody's clean-up removes it, and the next start goes on with it.
    docker("compose", f"--project-directory={cf.project(other)}", "down", "--volumes")
    assert volume in docker.things_of(volume)
    cf.ok("up", "embedded", "--instance", other)
    assert sql(other, FINGERPRINT) == before
    done = cf.run("rm", "--instance", instance, "--volumes", "--confirm", instance)
    assert done.returncode == 4
    assert_named(done.stderr, other, volume)
    kept = json.loads(cf.ok("down", other, "--volumes", "--confirm", other, "--json"))
    assert kept["kept"]["volume"] == volume
    assert volume in docker.things_of(volume)
    cf.ok("up", "embedded", "--instance", other, "--data", instance)
    assert sql(other, FINGERPRINT) == before
    cf.ok("down", other)
    cf.ok("rm", "--instance", other, "--confirm", other)
    assert volume in docker.things_of(volume)
    cf.ok("up", "embedded", "--instance", instance)
    assert sql(instance, FINGERPRINT) == before

    listed(cf, instance, bare, old)
    file = cf.here / "bare.cfbackup"
    cf.ok("data", "backup", bare, "-o", str(file))
    assert cf.run("data", "backup", old, "-o", str(cf.here / "no")).returncode == 3


def listed(cf: Cf, instance: str, bare: str, old: str) -> None:
    """`cf data list` while the instance runs, with a copy of its volume and an unreadable one."""
    rows = {row["name"]: row for row in json.loads(cf.ok("data", "list", "--json"))["data"]}
    running, copy, unread = rows[instance], rows[bare], rows[old]
    assert (running["state"], copy["state"], unread["state"]) == ("running", "stopped", "stopped")
    assert running["volume"] == f"cf-{instance}_postgres-data"
    for row in (running, copy):
        held = row["held"]
        (faces,) = held["faces"]
        assert faces["calculator"] == "embedded.Calculator@mobilefacenet192"
        assert {"embedded", "yunet-embedded"} <= set(faces["fits"])
        counted = (faces["embeddings"], faces["values"], held["subjects"], held["images"])
        assert counted == (1, 192, 1, 1)
        assert (held["postgres"], held["without_image"], held["orphans"]) == ("15", 0, 0)
        assert row["size"] is None or row["size"] > 1e6
    assert unread["held"] is None
    assert unread["reason"]
    text = cf.ok("data", "list")
    assert_named(text, instance, bare, old, "1 embeddings of embedded", unread["reason"])
