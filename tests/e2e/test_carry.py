"""What was added since a backup is carried over to the restored database, or not at all."""

from __future__ import annotations

import lzma
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from compreface_cli.data import carry, databases
from compreface_cli.docker import postgres
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.errors import CfError
from tests.e2e.machine import Docker
from tests.shared import shared


@pytest.fixture(scope="module")
def running(docker: Docker, stack: dict[str, str]) -> Iterator[Server]:
    """A server with the database of the real services."""
    image = f"{stack['CF_REGISTRY']}compreface-postgres-db:{stack['CF_POSTGRES_VERSION']}"
    environment = ("--env=POSTGRES_PASSWORD=secret", "--env=POSTGRES_DB=frs")
    name = f"e2e-carry-{uuid.uuid4().hex[:8]}"
    container = docker("run", "-d", f"--name={name}", *environment, image)
    try:
        ready = ("exec", container, "pg_isready", "-h", "127.0.0.1", "-d", "frs")
        for _ in range(600):
            if "accepting" in docker(*ready, check=False):
                break
            time.sleep(0.2)
        dump = lzma.decompress(shared("contract", "stack", "frs-1.2.0.sql.xz").read_bytes())
        text = re.sub(r"^\\(un)?restrict.*\n", "", dump.decode(), flags=re.M)
        psql = ("docker", "exec", "-i", container, "psql", "-qU", "postgres", "-d", "frs")
        loaded = subprocess.run([*psql, "-v", "ON_ERROR_STOP=1"], input=text, text=True, timeout=60)
        assert loaded.returncode == 0
        yield postgres.of_container(container)
    finally:
        docker("rm", "--force", "--volumes", container)


@pytest.fixture
def pair(running: Server) -> tuple[Server, Server]:
    """The newer database, and the one that a backup was restored to: the same at first."""
    with Session(replace(running, database="postgres")) as session:
        for name in ("newer", "restored"):
            session.execute(f"drop database if exists {name}")
            session.execute(f"create database {name} template frs")
    return replace(running, database="newer"), replace(running, database="restored")


def run(server: Server, sql: str) -> None:
    with Session(server) as session:
        session.execute(sql)


TABLES = ("app", "model", "subject", "img", "embedding", '"user"', "user_app_role")


def rows(server: Server, columns: str = "subject_name") -> dict[str, object]:
    """A digest of each table, of the subjects only these columns."""
    with Session(server) as session:
        return {
            table: session.value(
                f"select md5(string_agg({what}::text, ',' order by {what}::text))"
                f" from public.{table} t"
            )
            for table in TABLES
            for what in [f"({columns})" if table == "subject" else "t"]
        }


CHANGES = """
insert into public.model (id, name, guid, app_id, api_key, type) select nextval('model_id_seq'),
 'New', 'g', app_id, 'new-key', 'R' from public.model where type = 'R' limit 1;
insert into public.subject (id, api_key, subject_name) values
 ('00000000-0000-0000-0000-0000000000aa', 'new-key', 'Late');
insert into public.img values ('00000000-0000-0000-0000-0000000000bb', E'\\\\x00ff5c6e09');
insert into public.embedding values ('00000000-0000-0000-0000-0000000000cc',
 '00000000-0000-0000-0000-0000000000aa', '{0.1,1e-30,-0}', 'x\\y', null),
 ('00000000-0000-0000-0000-0000000000dd', '00000000-0000-0000-0000-0000000000aa', '{0.1}',
 'facenet.Calculator', '00000000-0000-0000-0000-0000000000bb');
update public.subject set subject_name = E'A\\tnew\\nname' where subject_name = 'A';
delete from public.embedding e using public.subject s where s.id = e.subject_id
 and s.subject_name = 'C';
delete from public.subject where subject_name = 'C';
update public.embedding e set subject_id = (select id from public.subject where subject_name
 like 'A%new%' limit 1) from public.subject s where s.id = e.subject_id and s.subject_name = 'B';
"""


def test_rows_that_were_added_changed_and_removed_are_carried_over(
    pair: tuple[Server, Server],
) -> None:
    newer, restored = pair
    run(newer, CHANGES + "alter table public.subject add column note varchar(9)")
    carried = carry.carry(newer, restored)
    assert carried.reason == ""
    # Two new ones; C's is gone; B's two have another subject, so they go and come.
    assert (carried.added, carried.removed) == (4, 3)
    assert rows(restored) == rows(newer)
    assert carry.carry(newer, restored) == carry.Carried()
    with Session(restored) as session:
        used = session.value("select nextval('model_id_seq')")
        assert session.value(f"select count(*) from public.model where id = {used}") == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("alter table public.embedding rename column calculator to model", "embedding"),
        ("alter table public.embedding alter column embedding type real[]", "embedding"),
        ("alter table public.embedding drop constraint if exists fk_img_id;"
         " alter table public.img rename to picture", "img"),
    ],
)  # fmt: skip
def test_nothing_is_carried_over_where_a_table_of_faces_has_changed(
    pair: tuple[Server, Server], change: str, named: str
) -> None:
    newer, restored = pair
    before = rows(restored)
    run(newer, CHANGES + change)
    carried = carry.carry(newer, restored)
    assert named in carried.reason
    assert (carried.added, carried.removed) == (0, 0)
    assert rows(restored) == before


def test_another_table_that_has_changed_keeps_what_the_backup_has(
    pair: tuple[Server, Server],
) -> None:
    newer, restored = pair
    run(newer, CHANGES + "drop table public.model_statistic")
    assert carry.carry(newer, restored).left == ("model_statistic",)


def test_a_row_that_names_a_missing_one_stops_all(pair: tuple[Server, Server]) -> None:
    newer, restored = pair
    before = rows(restored)
    run(
        newer,
        CHANGES + "set session_replication_role = replica; delete from public.img where id ="
        " '00000000-0000-0000-0000-0000000000bb'",
    )
    assert "embedding" in carry.carry(newer, restored).reason
    assert rows(restored) == before


def test_the_databases_change_names_in_one_step(pair: tuple[Server, Server]) -> None:
    newer, restored = pair
    run(newer, CHANGES)
    seen = rows(newer)
    fresh = databases.create_fresh(newer)
    assert databases.kept(newer) != {}
    with pytest.raises(CfError):
        databases.swap(newer, "there-is-none")
    assert rows(newer) == seen
    former = databases.swap(newer, restored.database)
    assert set(databases.kept(newer)) == {former, fresh.database}
    assert rows(replace(newer, database=former)) == seen
    assert rows(newer) != seen
    for name in databases.kept(newer):
        databases.drop(newer, name)
    assert databases.kept(newer) == {}
