"""Sessions, programs and servers at rest, on the PostgreSQL of a real volume."""

from __future__ import annotations

import lzma
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compreface_cli.docker import client, postgres
from compreface_cli.docker.labels import LABEL_AT_REST
from compreface_cli.docker.postgres import QueryError, Session, at_rest, fed, literal, program
from compreface_cli.errors import CfError, ConflictError
from compreface_cli.facts import contents
from tests.e2e.machine import ROOT, Docker
from tests.shared import shared

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def image(stack: dict[str, str]) -> str:
    return f"{stack['CF_REGISTRY']}compreface-postgres-db:{stack['CF_POSTGRES_VERSION']}"


@pytest.fixture(scope="module")
def volume(docker: Docker, image: str) -> Iterator[str]:
    """A volume with an empty database `frs`; its server has been stopped."""
    name = f"e2e-rest-{uuid.uuid4().hex[:8]}"
    with running(docker, image, name):
        pass
    yield name
    docker("volume", "rm", "--force", name)


@contextmanager
def running(docker: Docker, image: str, volume: str) -> Iterator[str]:
    environment = ("--env=POSTGRES_PASSWORD=secret", "--env=POSTGRES_DB=frs")
    mount = f"--volume={volume}:{postgres.DATA}"
    container = docker("run", "-d", "--name", f"{volume}-db", *environment, mount, image)
    try:
        ready = ("exec", container, "pg_isready", "-h", "127.0.0.1", "-d", "frs")
        for _ in range(300):
            if "accepting" in docker(*ready, check=False):
                break
            time.sleep(0.2)
        yield container
    finally:
        docker("rm", "--force", container)


def processes(docker: Docker, container: str) -> str:
    return docker("top", container, "-eo", "pid,args")


def test_a_session_reads_and_writes(docker: Docker, image: str, volume: str) -> None:
    with at_rest(volume, image) as server, Session(server) as session:
        session.execute("create table public.t (id int, text text)")
        rows = [(1, "a\tb\nc\\d"), (2, None), (3, "it's é")]
        with session.transaction():
            session.copy_in("public.t (id, text)", rows)
        read = [(row["id"], row["text"]) for row in session.rows("select * from t order by id")]
        assert read == rows
        assert session.value("select count(*) from t where text = " + literal("it's é")) == 1
        assert session.row("select * from t where false") is None
        lines = list(session.copy_out("select id from t order by id"))
        assert lines == [b"1", b"2", b"3"]
        many = session.rows("select n from generate_series(1, 100000) n")
        assert next(many)["n"] == 1
        many.close()
        assert session.value("select 7") == 7


def half_a_change(session: Session) -> None:
    with session.transaction():
        session.execute("insert into public.u values (1)")
        session.execute("insert into public.nowhere values (1)")


def test_an_error_has_its_sqlstate_and_rolls_back(docker: Docker, image: str, volume: str) -> None:
    with at_rest(volume, image) as server:
        with Session(server) as session:
            session.execute("create table public.u (id int)")
            with pytest.raises(QueryError) as refused:
                half_a_change(session)
        assert refused.value.state == "42P01"
        with Session(server) as session:
            assert session.value("select count(*) from public.u") == 0
        with Session(server) as session, pytest.raises(QueryError) as late:
            session.execute("select pg_sleep(5)", timeout_s=0.5)
        assert late.value.state == "57014"


def test_a_server_at_rest_is_gone_afterwards(docker: Docker, image: str, volume: str) -> None:
    with at_rest(volume, image) as server:
        assert server.container in docker("ps", "--format={{.Names}}")
    assert server.container not in docker("ps", "--all", "--format={{.Names}}")
    with running(docker, image, volume) as container:
        assert "not properly shut down" not in docker("logs", container)


def test_a_volume_in_use_is_refused_by_name(docker: Docker, image: str, volume: str) -> None:
    with (
        running(docker, image, volume),
        pytest.raises(ConflictError) as refused,
        at_rest(volume, image),
    ):
        pass
    assert refused.value.details["container"] == f"{volume}-db"
    with at_rest(volume, image), pytest.raises(ConflictError), at_rest(volume, image):
        pass
    label = f"label={LABEL_AT_REST}={volume}"
    assert not docker("ps", "--all", "--quiet", f"--filter={label}")


def test_a_path_is_the_name_of_nothing(docker: Docker) -> None:
    assert client.find("volumes", "/nowhere") is None
    assert client.find("containers", "a/b", "json") is None


def test_a_volume_without_a_database_is_not_initialised(docker: Docker, image: str) -> None:
    name = f"e2e-rest-{uuid.uuid4().hex[:8]}"
    try:
        with pytest.raises(CfError), at_rest(name, image):
            pass
        looked = ("run", "--rm", f"--volume={name}:/v", "--entrypoint=ls", image, "-A", "/v")
        assert docker(*looked) == ""
    finally:
        docker("volume", "rm", "--force", name)


def test_a_program_ends_in_its_container_with_the_block(
    docker: Docker, image: str, volume: str
) -> None:
    with at_rest(volume, image) as server:
        with program(server, "pg_dump", "-Fc", doing="dump") as stream:
            assert stream.read(5) == b"PGDMP"
        with pytest.raises(CfError), program(server, "pg_dump", "-t", "none", doing="dump"):
            pass
        with pytest.raises(KeyError):
            cut_off(server)
        time.sleep(1)
        assert "987" not in processes(docker, server.container)


def test_a_program_leaves_nothing_that_the_database_takes_for_a_crash(
    docker: Docker, image: str, volume: str
) -> None:
    with running(docker, image, volume) as container:
        server = postgres.of_container(container)
        with Session(server) as session:
            with program(server, "pg_dump", "-Fc", doing="dump") as stream:
                stream.read()
            with pytest.raises(KeyError):
                cut_off(server)
            time.sleep(1)
            assert session.value("select 7") == 7
        assert "terminated by signal" not in docker("logs", container)


def test_what_a_failed_program_has_printed_does_not_look_whole(
    docker: Docker, image: str, volume: str
) -> None:
    with at_rest(volume, image) as server, pytest.raises(CfError):
        read_to_its_end(server)


def test_a_database_that_is_killed_under_a_program_is_named(
    docker: Docker, image: str, volume: str
) -> None:
    with running(docker, image, volume) as container:
        server = postgres.of_container(container)
        with pytest.raises(QueryError) as failed:
            killed(docker, server)
        assert failed.value.details["container"] == server.container
        docker("rm", "--force", container)


def killed(docker: Docker, server: postgres.Server) -> None:
    with program(server, "sh", "-c", "echo x; exec sleep 321", doing="dump") as stream:
        stream.read(1)
        docker("kill", server.container)
        while stream.read(3):
            pass


def read_to_its_end(server: postgres.Server) -> None:
    with program(server, "sh", "-c", "echo part; exit 3", doing="dump") as stream:
        while stream.read(3):
            pass
        pytest.fail("its end was read without an error")


def cut_off(server: postgres.Server) -> None:
    with program(server, "sh", "-c", "echo x; exec sleep 987", doing="wait") as stream:
        stream.read(1)
        raise KeyError


def test_the_contents_of_a_database_of_the_real_services(
    docker: Docker, image: str, volume: str
) -> None:
    dump = lzma.decompress(shared("contract", "stack", "frs-1.2.0.sql.xz").read_bytes())
    with at_rest(volume, image) as server:
        with Session(server) as session:
            assert contents.change_sets(session) == []
            assert not contents.has_faces(session)
        with fed(server, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", doing="load") as stream:
            stream.write(dump)
        with Session(server) as session:
            assert contents.has_faces(session)
            assert len(contents.change_sets(session)) == 45
            rows = contents.by_calculator(session)
            seen = {(row["service"], row["calculator"], row["faces"], row["demo"]) for row in rows}
            assert seen == {
                ("Demo", "Facenet2018", 20, True),
                ("Faces", "facenet.Calculator", 9, False),
            }
            assert {row["values"] for row in rows} == {512}
            faces = {row["subject"]: row["faces"] for row in contents.by_subject(session)}
            assert faces == {"A": 6, "B": 2, "C": 1}
            assert contents.subjects(session) == 3
            assert contents.images(session)["count"] == 9
            assert contents.images(session)["orphans"] == 0
            session.execute("delete from public.embedding where calculator <> 'Facenet2018'")
            assert contents.images(session)["orphans"] == 9


KILLED = """
import sys, time
from compreface_cli.docker.postgres import Session, at_rest, program
with at_rest(sys.argv[1], sys.argv[2]) as server, Session(server) as session:
    session.execute("begin; create table public.half (id int)")
    with program(server, "sh", "-c", "echo x; exec sleep 654", doing="wait") as stream:
        stream.read(1)
        print(server.container, flush=True)
        time.sleep(100)
"""


def test_everything_ends_when_cf_is_killed(docker: Docker, image: str, volume: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, volume, image], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    container = child.stdout.readline().strip()
    assert "654" in processes(docker, container)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    for _ in range(100):
        if container not in docker("ps", "--all", "--format={{.Names}}"):
            break
        time.sleep(0.1)
    assert container not in docker("ps", "--all", "--format={{.Names}}")
    with at_rest(volume, image) as server, Session(server) as session:
        assert session.value("select to_regclass('public.half') is null") is True
