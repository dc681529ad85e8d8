"""The facts and findings about a database elsewhere, on Debian's PostgreSQL over TLS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.checks import database, schema
from compreface_cli.checks import database_elsewhere as checks
from compreface_cli.checks.base import OwnedResources
from compreface_cli.facts import database_elsewhere as facts
from compreface_cli.facts.database import Lock
from compreface_cli.facts.database_elsewhere import Elsewhere, Target
from compreface_cli.topics import Topic
from tests.cli.fake_facts import facts as of_host
from tests.cli.fake_facts import plan
from tests.debian_postgres import NAME, PASSWORD, USER, Server, serving

STACK = {"postgres_host": "elsewhere", "postgres_port": "5432", "postgres_db": NAME}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as started:
        yield started


@pytest.fixture
def database_(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the user's for one test, and its role as it was."""
    name = "of_a_test"
    server.sql(f"create database {name} owner {USER}", "postgres")
    yield name
    server.sql(f"drop database {name} with (force)", "postgres")


def topics(seen: Elsewhere, **changes: object) -> list[Topic]:
    """The topics of what the check fails for."""
    gathered = replace(of_host(), elsewhere=seen)
    wanted = plan(stack=STACK, **changes)
    rows = checks.check(wanted, gathered, OwnedResources())
    return [row.topic for row in rows if row.level == "fail" and row.topic]


def test_an_empty_database_of_the_users_own_fits(server: Server) -> None:
    seen = facts.look(server.target())
    assert topics(seen) == []
    assert (seen.tls, seen.version // 10000, seen.schema, seen.room) == (True, 15, "public", 37)
    assert server.sql("select count(*) from pg_class where relname like 'compreface_cli%'") == "0"
    assert server.sql("select count(*) from pg_extension where extname = 'uuid-ossp'") == "0"


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"password": "another"}, checks.LOGIN),
        ({"password": ""}, checks.LOGIN),
        ({"user": "nobody_here"}, checks.LOGIN),
        ({"sslmode": "disable"}, checks.LOGIN),  # pg_hba.conf accepts TLS only
        ({"name": "nothing_here"}, checks.NO_DATABASE),
        ({"host": "nowhere.invalid"}, checks.UNREACHABLE),
        ({"port": 1}, checks.UNREACHABLE),
        ({"sslrootcert": "/nowhere/authority.pem"}, checks.TLS),
        ({"sslrootcert": __file__}, checks.TLS),
        ({"host": "127.0.0.1"}, checks.TLS),  # not in the certificate
    ],
)
def test_what_cannot_be_reached_is_named(
    server: Server, changes: dict[str, object], topic: Topic
) -> None:
    assert topics(facts.look(server.target(**changes))) == [topic]


def test_the_other_modes_of_tls_connect(server: Server) -> None:
    for mode in ("prefer", "require"):
        assert facts.look(server.target(sslmode=mode, sslrootcert="")).tls
    # with the authority, for any host
    assert facts.look(server.target(sslmode="verify-ca", host="127.0.0.1")).failure is None


def test_a_certificate_is_refused_for_what_is_wrong_with_it(server: Server, tmp_path: Path) -> None:
    names = f"IP:{server.host}"
    other = tmp_path / "other.pem"
    from tests.cli.certificates import pair

    other.write_bytes(pair(tmp_path, "other").cert.read_bytes())
    assert _step(server.target(sslrootcert=str(other))) == "trust"
    try:
        server.certificate("DNS:another.example.org")
        assert _step(server.target()) == "host"
        server.certificate(names, expired=True)
        assert _step(server.target()) == "time"
    finally:
        server.certificate(f"{names},DNS:db.example.org")
    assert facts.look(server.target()).failure is None


def test_a_server_without_tls_is_refused_unless_that_is_allowed(server: Server) -> None:
    server.sql("alter system set ssl = off", "postgres")
    server.sql("select pg_reload_conf()", "postgres")
    try:
        assert _step(server.target()) == "no-tls"
        assert _step(server.target(sslmode="prefer", sslrootcert="")) == "login"
    finally:
        server.sql("alter system reset ssl", "postgres")
        server.sql("select pg_reload_conf()", "postgres")


def _step(target: Target) -> str:
    failure = facts.look(target).failure
    return failure.step if failure else ""


def test_missing_rights_are_named(server: Server, database_: str) -> None:
    server.sql(f"alter database {database_} owner to postgres", "postgres")
    seen = facts.look(server.target(name=database_))
    assert topics(seen) == [checks.UUID, checks.RIGHTS]  # a trusted extension needs CREATE there
    server.sql('create extension "uuid-ossp" schema public', database_)
    assert topics(facts.look(server.target(name=database_))) == [checks.RIGHTS]
    server.sql(f"grant create on schema public to {USER}", database_)
    assert topics(facts.look(server.target(name=database_))) == []


def test_tables_of_another_user_and_another_schema_are_named(
    server: Server, database_: str
) -> None:
    server.sql("create table public.databasechangelog (filename text, id text)", database_)
    server.sql("alter table databasechangelog add orderexecuted int", database_)
    server.sql(f"grant select on databasechangelog to {USER}", database_)
    seen = facts.look(server.target(name=database_))
    assert (topics(seen), seen.others_tables) == ([checks.RIGHTS], ("databasechangelog",))
    server.sql(f"alter table databasechangelog owner to {USER}", database_)
    server.sql(f"create schema {USER} authorization {USER}", database_)
    seen = facts.look(server.target(name=database_))
    assert (topics(seen), seen.schema) == ([checks.RIGHTS], USER)


def test_an_extension_in_a_schema_that_is_not_searched_is_named(
    server: Server, database_: str
) -> None:
    server.sql('create schema apart; create extension "uuid-ossp" schema apart', database_)
    assert topics(facts.look(server.target(name=database_))) == [checks.UUID]


def test_a_database_that_accepts_no_changes_is_named(server: Server, database_: str) -> None:
    server.sql(f"alter database {database_} set default_transaction_read_only = on", "postgres")
    assert topics(facts.look(server.target(name=database_))) == [checks.READ_ONLY]


def test_another_encoding_is_named(server: Server) -> None:
    server.sql(
        f"create database latin owner {USER} encoding 'LATIN1' locale 'C' template template0",
        "postgres",
    )
    assert topics(facts.look(server.target(name="latin"))) == [checks.ENCODING]


def test_too_few_connections_are_named(server: Server, database_: str) -> None:
    server.sql(f"alter role {USER} connection limit 5", "postgres")
    try:
        seen = facts.look(server.target(name=database_))
        assert (topics(seen), seen.room) == ([checks.ROOM], 5)
        server.sql(f"alter role {USER} connection limit 0", "postgres")
        assert topics(facts.look(server.target(name=database_))) == [checks.ROOM]
    finally:
        server.sql(f"alter role {USER} connection limit -1", "postgres")
    server.sql(f"alter database {database_} connection limit 7", "postgres")
    assert facts.look(server.target(name=database_)).room == 7


def test_services_that_work_on_it_are_named(server: Server, database_: str) -> None:
    from pg8000.native import Connection

    with Connection(
        USER,
        host=server.host,
        port=server.port,
        database=database_,
        password=PASSWORD,
        application_name="PostgreSQL JDBC Driver",
    ):
        seen = facts.look(server.target(name=database_))
        assert seen.clients == (server.host,)
        assert topics(seen) == [checks.IN_USE]
        assert topics(seen, allow_several_apis=True) == []
    with Connection(
        USER, host=server.host, port=server.port, database=database_, password=PASSWORD
    ) as second:  # the api's driver for notifications has no name
        second.run("LISTEN face_collection_update_msg")
        assert topics(facts.look(server.target(name=database_))) == [checks.IN_USE]


SCHEMA = """
create table databasechangelog (id text, filename text, orderexecuted int);
insert into databasechangelog values ('add-x', 'db/changelog/db.changelog-0.2.7.yaml', 1),
 ('later', 'db/changelog/db.changelog-1.3.0.yaml', 2);
create table databasechangeloglock (id int, locked boolean, lockgranted timestamp, lockedby text);
insert into databasechangeloglock values (1, true, now(), 'a''b (172.18.0.3)');
create table app (id int, name text); insert into app values (1, 'Front door');
create table model (id int, name text, api_key text, app_id int);
insert into model values (1, 'People', 'key', 1);
create table subject (id int, api_key text); insert into subject values (1, 'key');
create table embedding (id int, subject_id int, calculator text);
insert into embedding values (1, 1, 'facenet.Calculator'), (2, 1, 'facenet.Calculator');
"""


def test_what_it_holds_is_read_and_its_lock_freed(server: Server, database_: str) -> None:
    server.sql(f"set role {USER}; {SCHEMA}", database_)
    target = server.target(name=database_)
    seen = facts.look(target)
    assert topics(seen) == [database.OTHER_CALCULATOR]
    assert topics(seen, calculator="facenet.Calculator") == []
    contents = seen.contents
    assert contents is not None
    assert contents.changes == ("0.2.7 add-x", "1.3.0 later")
    newer = schema.judge("mine", "exadel/compreface-admin:1.2.0", contents.changes, None)
    assert newer is not None
    assert newer.topic is schema.NEWER
    assert contents.lock is not None
    assert (contents.lock.holder, contents.sessions) == ("a'b (172.18.0.3)", 0)
    assert facts.free_lock(target, Lock("another", "")) == ""
    assert facts.contents(target).contents != replace(contents, lock=None)
    assert facts.free_lock(target, contents.lock) == ""
    assert facts.contents(target).contents == replace(contents, lock=None)
    assert facts.free_lock(server.target(name="nothing"), contents.lock) != ""


def test_unreadable_tables_are_named(server: Server, database_: str) -> None:
    server.sql("create table public.embedding (id int)", database_)
    assert topics(facts.look(server.target(name=database_))) == [database.UNREAD]


@contextmanager
def answering(*pieces: bytes) -> Iterator[int]:
    """The port of a server that sends these to each client, and then says nothing."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                held.append(client)
                for piece in pieces:
                    client.sendall(piece)
                if not pieces:
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for client in held:
        client.close()


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (b"N", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        (b"N", b"R\x00\x00\x00\x08\x00\x00\x00\x00" * 3),
        (b"N",),
        (b"S",),
        (b"S", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        (b"N", b"E\x00\x00\x00\x09boom\x00"),
    ],
)
def test_what_is_no_postgresql_is_named_in_time(
    monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(facts, "LIMIT_S", 1.0)
    with answering(*pieces) as port:
        target = Target("127.0.0.1", port, "me", "frs", password=PASSWORD)
        found = topics(facts.look(target))
        assert found in ([checks.UNREACHABLE], [checks.TLS], [checks.LOGIN])
