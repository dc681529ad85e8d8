"""The database of both Java services: three connections, and the schema that admin makes."""

from __future__ import annotations

import lzma
import os
import queue
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import psycopg

CONNECTIONS = 3
LOCK_WAIT_S = 300  # after that Liquibase gives up, and admin with it
DUMP = Path("/app/frs-1.2.0.sql.xz")
DEMO_KEYS = tuple(f"00000000-0000-0000-0000-00000000000{number}" for number in (2, 3, 4))
NOBODY = "$2a$10$standinstandinstandinOnobodysignsinwiththispasswordatall"
# Change sets of versions that upstream never released, each with what it does to the schema.
LATER = {
    "1.3.0": ("add-note-to-subject", "alter table public.subject add column note varchar(64)"),
}
LOCK = """
create table if not exists public.databasechangeloglock (
  id integer not null constraint databasechangeloglock_pkey primary key,
  locked boolean not null, lockgranted timestamp, lockedby varchar(255));
insert into public.databasechangeloglock (id, locked) values (1, false) on conflict do nothing
"""


class Database:
    """At most three connections at once; who asks for a fourth waits."""

    def __init__(self) -> None:
        self._free: queue.LifoQueue[tuple[float, psycopg.Connection[Any]] | None] = (
            queue.LifoQueue()
        )
        for _ in range(CONNECTIONS):
            self._free.put(None)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection whose changes hold from the end on; raises psycopg.Error."""
        try:
            kept = self._free.get(timeout=30)
        except queue.Empty:
            raise psycopg.OperationalError("Connection is not available") from None
        connection = None
        try:
            connection = _usable(kept) or connect()
            with connection.transaction():
                yield connection
        finally:
            good = connection is not None and not connection.broken
            self._free.put((time.monotonic(), connection) if good and connection else None)

    def is_reachable(self) -> bool:
        try:
            with self.transaction() as connection:
                connection.execute("select 1")
        except psycopg.Error:
            return False
        return True


def _usable(kept: tuple[float, psycopg.Connection[Any]] | None) -> psycopg.Connection[Any] | None:
    """The kept connection, looked at if it has rested for longer than half a second."""
    if kept is None:
        return None
    since, connection = kept
    if time.monotonic() - since > 0.5:
        try:
            connection.execute("select 1")
        except psycopg.Error:
            connection.close()
            return None
    return connection


def connect(variables: Mapping[str, str] = os.environ) -> psycopg.Connection[Any]:
    """Connect as the services' variables say; every statement holds at once."""
    address = variables["POSTGRES_URL"].removeprefix("jdbc:")
    match = re.fullmatch(r"postgresql://([^:/]+)(?::(\d+))?/([\w%.-]+)(?:\?(.*))?", address)
    if match is None:
        raise SystemExit(f"POSTGRES_URL is not understood: {address}")
    options = dict(parse_qsl(match[4] or ""))
    return psycopg.connect(
        host=match[1],
        port=int(match[2] or 5432),
        dbname=unquote(match[3]),
        user=variables.get("POSTGRES_USER", "postgres"),
        password=_property("POSTGRES_PASSWORD", variables) or "postgres",
        connect_timeout=3,
        application_name="PostgreSQL JDBC Driver",
        sslmode=options.get("sslmode", "disable"),
        **({"sslrootcert": options["sslrootcert"]} if "sslrootcert" in options else {}),
        autocommit=True,
    )


def _property(name: str, variables: Mapping[str, str]) -> str:
    """A variable; else, as Spring reads a config tree, the file of that name."""
    found = variables.get(name, "")
    place = variables.get("SPRING_CONFIG_IMPORT", "").partition("configtree:")[2]
    if not found and place:
        file = Path(place, name)
        found = file.read_text("utf-8").strip("\n") if file.is_file() else ""
    return found


def migrate(version: str = "1.2.0") -> None:
    """What admin does at its start: take Liquibase's lock, make the schema, give the lock back.

    `version` decides which change sets there are; those that the database has are left out.
    """
    with connect() as connection:
        connection.execute(LOCK)
        _lock(connection)
        try:
            made = connection.execute("select to_regclass('public.embedding')").fetchone()
            if made == (None,):
                fresh_install(connection, lzma.decompress(DUMP.read_bytes()).decode())
            for since, (change, statement) in LATER.items():
                if _number(since) <= _number(version):
                    _change(connection, change, since, statement)
        finally:
            connection.execute(
                "update public.databasechangeloglock"
                " set locked = false, lockgranted = null, lockedby = null"
            )


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _change(connection: psycopg.Connection[Any], change: str, since: str, sql: str) -> None:
    """Run one change set, in one transaction with its row, unless it was run before."""
    with connection.transaction():
        known = "select from public.databasechangelog where id = %s"
        if connection.execute(known, (change,)).fetchone() is not None:
            return
        connection.execute(sql)
        connection.execute(
            "insert into public.databasechangelog (id, author, filename, dateexecuted,"
            " orderexecuted, exectype) select %s, 'standin', %s, now(), max(orderexecuted) + 1,"
            " 'EXECUTED' from public.databasechangelog",
            (change, f"db/changelog/db.changelog-{since}.yaml"),
        )


def _lock(connection: psycopg.Connection[Any]) -> None:
    holder = f"{socket.gethostname()} ({socket.gethostbyname(socket.gethostname())})"
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        taken = connection.execute(
            "update public.databasechangeloglock"
            " set locked = true, lockgranted = now(), lockedby = %s where not locked",
            (holder,),
        )
        if taken.rowcount:
            return
        if time.monotonic() > deadline:
            raise SystemExit("Could not acquire change log lock.")
        print("Waiting for changelog lock....", flush=True)
        time.sleep(10)


class _Rows(NamedTuple):
    """The rows of one COPY of a dump, as text."""

    table: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def fresh_install(connection: psycopg.Connection[Any], dump: str) -> None:
    """The schema of a dump, and of its rows those that each new install begins with."""
    with connection.transaction():
        for step in _steps(dump):
            if isinstance(step, str):
                connection.execute(re.sub(r"setval\('(\w+\.\w+)', \d+, \w+\)", _reset, step))
                continue
            rows = _fresh(step)
            with connection.cursor().copy(
                f"copy {step.table} ({', '.join(step.columns)}) from stdin"
            ) as copied:
                for row in rows:
                    copied.write("\t".join(row) + "\n")
        # The dump's session looks for tables in no schema; what comes next does.
        connection.execute("reset all")


def _reset(found: re.Match[str]) -> str:
    return f"setval('{found[1]}', 1, false)"


def _steps(dump: str) -> Iterator[str | _Rows]:
    """The dump in its order: SQL, and the rows of each COPY. Rows of the lock are left out."""
    block = re.compile(r"^COPY ([\w.\"]+) \(([^)]*)\) FROM stdin;\n(.*?)^\\\.\n", re.M | re.S)
    at = 0
    for found in block.finditer(dump):
        yield _sql(dump[at : found.start()])
        rows = [tuple(line.split("\t")) for line in found[3].splitlines()]
        if not found[1].endswith(".databasechangeloglock"):
            yield _Rows(found[1], tuple(found[2].split(", ")), rows)
        at = found.end()
    yield _sql(dump[at:])


def _sql(text: str) -> str:
    """Without the commands of psql, and without the lock's table, which is there by now."""
    text = re.sub(r"^\\(un)?restrict.*\n", "", text, flags=re.M)
    for statement in (
        r"CREATE TABLE public\.databasechangeloglock \(.*?\);",
        r"ALTER TABLE ONLY public\.databasechangeloglock\s.*?;",
        r"ALTER \w+ [^;]*? OWNER TO [^;]*;",  # it is whoever makes the schema
    ):
        text = re.sub(statement, "", text, flags=re.S)
    return text


def _fresh(rows: _Rows) -> list[tuple[str, ...]]:
    """The rows of a new install: the demo, its user who is nobody yet, and the service's own."""
    if rows.table in _KEPT_WHOLE:
        return rows.rows
    keeps = _KEPT.get(rows.table)
    if keeps is None:
        return []
    kept = [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]
    kept = [keeps_row for keeps_row in kept if keeps(keeps_row)]
    for row in kept:
        if rows.table == 'public."user"':
            row |= {
                "email": "demo@demo.com",
                "password": NOBODY,
                "first_name": "Demo",
                "last_name": "User",
                "guid": "00000000-0000-0000-0000-000000000001",
            }
        if rows.table == "public.install_info":
            row["install_guid"] = str(uuid.uuid4())
    return [tuple(row[column] for column in rows.columns) for row in kept]


_KEPT_WHOLE = (
    "public.databasechangelog",
    "public.oauth_client_details",
    "public.table_lock",
)
_KEPT: Mapping[str, Callable[[dict[str, str]], bool]] = {
    "public.app": lambda row: row["id"] == "0",
    "public.model": lambda row: row["api_key"] in DEMO_KEYS,
    "public.subject": lambda row: row["api_key"] in DEMO_KEYS,
    "public.embedding": lambda row: row["calculator"] == "Facenet2018",
    'public."user"': lambda row: row["id"] == "0",
    "public.user_app_role": lambda row: row["app_id"] == "0",
    "public.install_info": lambda row: True,
}
