"""`cf data clean` on a stack of stand-ins: only images that no face names are removed."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.e2e.machine import PORTRAITS, Cf, free_port, post_photograph, sign_up, sql


@pytest.fixture
def up(cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str]) -> str:
    """A running stack; its UI's URL."""
    cf.environment |= stack
    port = str(free_port())
    ports = ("--port", port, "--core-port", str(free_port()))
    cf.ok("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    return f"http://127.0.0.1:{port}"


ORPHANS = (
    "insert into public.img select gen_random_uuid(), '\\xffd8ffe0'::bytea || repeat('x',"
    " 1000)::bytea from generate_series(1, 200); insert into public.img select"
    " gen_random_uuid(), 'no picture'"
)


def test_orphans_are_shown_then_removed_beside_a_running_api(
    cf: Cf, instance: str, up: str
) -> None:
    key = sign_up(up)["RECOGNITION"]
    faces = f"{up}/api/v1/recognition/faces?subject"
    photograph = PORTRAITS / "grace_hopper.jpg"
    assert post_photograph(f"{faces}=Grace", photograph, key=key)[0] == 201
    sql(instance, ORPHANS)
    # An image that only a table of ours names is no orphan.
    sql(
        instance,
        "create schema cf_migration; create table cf_migration.kept_out (img_id uuid);"
        " with kept as (insert into public.img values (gen_random_uuid(), 'kept') returning id)"
        " insert into cf_migration.kept_out select id from kept",
    )
    shown = json.loads(cf.ok("data", "clean", instance, "--dry-run", "--json"))
    assert shown["change"] == "dry run"
    assert {row["format"]: row["count"] for row in shown["orphans"]} == {"JPEG": 200, "other": 1}
    assert (shown["images"], shown["removed"]) == (203, 0)
    asked = cf.run("data", "clean", instance)
    assert asked.returncode == 2, asked.stderr
    assert sql(instance, "select count(*) from public.img") == "203"

    added: list[int] = []

    def add() -> None:
        while not done.is_set():
            added.append(post_photograph(f"{faces}=More{len(added)}", photograph, key=key)[0])

    done = threading.Event()
    adding = threading.Thread(target=add)
    adding.start()
    try:
        removed = [json.loads(cf.ok("data", "clean", instance, "--yes", "--json"))]
        sql(instance, ORPHANS)
        removed.append(json.loads(cf.ok("data", "clean", instance, "--yes", "--json")))
    finally:
        done.set()
        adding.join()
    assert [each["removed"] for each in removed] == [201, 201]
    assert added
    assert set(added) == {201}
    kept = sql(instance, "select count(*), count(e.id) from public.img i"
               " left join public.embedding e on e.img_id = i.id")  # fmt: skip
    assert kept == f"{len(added) + 2}\t{len(added) + 1}"
    assert json.loads(cf.ok("data", "clean", instance, "--json"))["change"] == "nothing"
