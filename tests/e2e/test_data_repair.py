"""`cf data repair` and `cf data delete` on a stack of stand-ins."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    free_port,
    post_photograph,
    restart,
    sign_up,
    sql,
)

OURS = "embedded.Calculator@mobilefacenet192"
# Of a face in the database: the same photograph under two other calculators, one of them with
# vectors of the same length and without an image.
FOREIGN = f"""
with image as (insert into public.img select gen_random_uuid(), content from public.img limit 1
 returning id) insert into public.embedding (id, subject_id, embedding, calculator, img_id)
 select gen_random_uuid(), e.subject_id, array_fill(0.04::float8, array[512]),
 'facenet.Calculator', image.id from public.embedding e, image where e.calculator = '{OURS}';
insert into public.embedding (id, subject_id, embedding, calculator)
 select gen_random_uuid(), subject_id, array_fill(0.07::float8, array[192]), 'other.Calculator'
 from public.embedding where calculator = '{OURS}'
"""
COUNTS = (
    "select calculator, count(*) from public.embedding where calculator <> 'Facenet2018' group by 1"
)


@pytest.fixture
def up(cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]) -> str:
    """A running stack; its UI's URL."""
    cf.environment |= stack
    port = str(free_port())
    ports = ("--port", port, "--core-port", str(free_port()))
    cf.ok("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    return f"http://127.0.0.1:{port}"


def test_a_dead_collection_is_healed_and_an_instance_is_deleted(
    docker: Docker, cf: Cf, instance: str, up: str
) -> None:
    key = sign_up(up)["RECOGNITION"]
    api, photograph = f"{up}/api/v1/recognition", PORTRAITS / "grace_hopper.jpg"
    assert post_photograph(f"{api}/faces?subject=Grace", photograph, key=key)[0] == 201
    sql(instance, FOREIGN)
    restart(docker, instance, "compreface-api")
    assert post_photograph(f"{api}/recognize", photograph, key=key)[0] == 400
    status = cf.run("status", instance)
    assert status.returncode == 8
    assert_named(status.stdout, f"cf data repair {instance}")

    shown = json.loads(cf.ok("data", "repair", instance, "--dry-run", "--json"))
    assert [(row["calculator"], row["without_image"]) for row in shown["foreign"]] == [
        ("facenet.Calculator", 0),
        ("other.Calculator", 1),
    ]
    assert cf.run("data", "repair", instance).returncode == 2
    refused = cf.run("data", "repair", instance, "--recompute", "--yes", "--json")
    assert refused.returncode == 5, refused.stdout
    assert sql(instance, COUNTS).count("\n") == 2, "nothing has changed"

    code, said = cf.interrupted(
        *("data", "repair", instance, "--yes"),
        when=lambda line: "Stopping the api" in line,
        number=signal.SIGKILL,
    )
    assert code == -signal.SIGKILL, said
    status = cf.run("status", instance)
    assert status.returncode == 8
    assert_named(status.stdout, f"cf data repair {instance}")
    repaired = json.loads(cf.ok("data", "repair", instance, "--yes", "--json"))
    assert (repaired["recomputed"], len(repaired["moved_out"])) == (1, 1)
    assert repaired["checked"]["RECOGNITION"]["subject"] == "Grace"
    assert Path(repaired["backup"]).is_file()
    assert sql(instance, COUNTS) == f"{OURS}\t2"
    moved = "select id, subject, service, calculator, archive from cf_migration.moved_out"
    assert sql(instance, moved).split("\t") == [
        repaired["moved_out"][0]["id"],
        "Grace",
        "RECOGNITION",
        "other.Calculator",
        repaired["backup"],
    ]
    recognised = post_photograph(f"{api}/recognize", photograph, key=key)
    assert recognised[0] == 200
    assert recognised[1]["result"][0]["subjects"][0]["similarity"] > 0.99
    assert cf.run("status", instance).returncode == 0
    assert json.loads(cf.ok("data", "repair", instance, "--json"))["change"] == "nothing"

    deleted(docker, cf, instance)


def deleted(docker: Docker, cf: Cf, instance: str) -> None:
    command = ("data", "delete", instance)
    shown = json.loads(cf.ok(*command, "--dry-run", "--json"))
    assert (shown["held"]["subjects"], shown["held"]["embeddings"]) == (1, 2)
    assert cf.run(*command).returncode == 2
    assert cf.run(*command, "--confirm", "another").returncode == 2
    wrong = cf.run(*command, "--confirm", instance, "--volume", "another")
    assert wrong.returncode == 2, wrong.stderr
    assert cf.run("status", instance).returncode == 0
    code, said = cf.interrupted(
        *(*command, "--confirm", instance),
        when=lambda line: "Stopping" in line,
        number=signal.SIGKILL,
    )
    assert code == -signal.SIGKILL, said
    assert_named(cf.run("status", instance).stdout, " ".join(("cf", *command)))
    done = json.loads(cf.ok(*command, "--confirm", instance, "--json"))
    assert Path(done["backup"]).is_file()
    assert len(list(Path(done["backup"]).parent.glob("*.cfbackup"))) == 3, "two by the repairs"
    assert docker.things_of(f"cf-{instance}") == []
    assert not cf.project(instance).exists()
    assert cf.run("status", instance).returncode == 3
