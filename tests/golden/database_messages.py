"""What is said about a database that lives elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.checks import database_elsewhere
from compreface_cli.checks.base import Finding, OtherInstance, OwnedResources
from compreface_cli.config import settings
from compreface_cli.config.settings import Settings, Value
from compreface_cli.deploy import database_elsewhere as of_instance
from compreface_cli.deploy import rotation, running
from compreface_cli.facts import database_elsewhere as of_facts
from compreface_cli.facts import places
from compreface_cli.facts.database import Collection, DatabaseFacts, Lock
from compreface_cli.facts.database_elsewhere import Elsewhere, Failure, Step, Target
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import database_elsewhere as on_start
from compreface_cli.plan.plan import DATABASE
from compreface_cli.project import writer
from compreface_cli.project.rendered import RenderedProject
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import facts, plan

Case = Callable[[Path], object]

ELSEWHERE = {
    "postgres_host": "db.example.org",
    "postgres_port": "5432",
    "postgres_user": "faces",
    "postgres_db": "frs",
    "postgres_sslmode": "verify-full",
    "postgres_sslrootcert": "/etc/authority.pem",
}


TARGET = Target(
    "db.example.org", 5432, "faces", "frs", "verify-full", "/etc/authority.pem", "secret"
)
EMPTY = DatabaseFacts(login="", collections=(), sessions=0)


def _settings(environ: Mapping[str, str], **flags: Any) -> Case:
    """The settings with these variables and flags, from no file but those that the case writes."""

    def case(folder: Path) -> Settings:
        (folder / "url").write_text("postgresql://faces:pw@db.example.org/frs\n")
        found = settings.resolve(flags, environ=environ, user_file=folder / "none")
        return found

    return case


def _url(text: str) -> Case:
    return _settings({"CF_DATABASE_URL": text})


def _with_notes(_: Path) -> str:
    url = "postgresql://faces:pw@db.example.org/frs"
    return "\n".join(settings.resolve({"database_url": url}, environ={}).notes)


def _alone(_: Path) -> object:
    given = {"database_url": Value("postgresql://...", "flag", "flag --database")}
    return of_instance.on_database(plan(services="core"), Settings(given), Output())


def _own_volume(_: Path) -> object:
    data = {"volume": "cf-embedded_postgres-data", "database": {"user": "postgres", "name": "frs"}}
    record = Record(
        name="embedded",
        build="embedded",
        calculator="embedded.Calculator@mobilefacenet192",
        services="full",
        phase="running",
        created=now(),
        deployment={"data": data},
        plan={"services": "full", "stack": {"postgres_host": DATABASE}},
    )
    running.instances().save(record)
    return of_instance.on_database(plan(stack=ELSEWHERE), Settings(), Output())


def _seen(
    own: OwnedResources = OwnedResources(),  # noqa: B008
    allow: bool = False,
    **seen: Any,
) -> Case:
    """What the check says of a database of which this is known."""

    def case(_: Path) -> list[Finding]:
        known = {"tls": True, "version": 150004, "contents": EMPTY, **seen}
        gathered = replace(facts(), elsewhere=Elsewhere(TARGET, **known))
        wanted = plan(stack=ELSEWHERE, allow_several_apis=allow)
        return list(database_elsewhere.check(wanted, gathered, own))

    return case


def _failed(step: Step, reason: str, state: str = "") -> Case:
    return _seen(failure=Failure(step, reason, state))


def _one_of_its_own(_: Path) -> list[Finding]:
    return list(database_elsewhere.check(plan(), facts(), OwnedResources()))


def _start(**seen: Any) -> Case:
    """The start of the services on a database of which this is known."""

    def case(folder: Path) -> None:
        data = {
            "folder": str(folder),
            "elsewhere": {"host": "db.example.org", "port": 5432, "user": "faces", "name": "frs"},
            "calculator": ["embedded.Calculator@mobilefacenet192"],
        }
        known = Deployment("compose", "mine", Endpoint("127.0.0.1", 3000), data=data)
        answer = Elsewhere(TARGET, **{"contents": EMPTY, **seen})
        with (
            mock.patch.object(of_facts, "contents", return_value=answer),
            mock.patch.object(of_facts, "free_lock", return_value="permission denied"),
            mock.patch.object(on_start, "_LOCK_WAIT_S", -1),
        ):
            on_start.ready(known, lambda line: None)

    return case


def _rotated(_: Path) -> None:
    record = Record(
        name="mine",
        build="embedded",
        calculator="embedded.Calculator@mobilefacenet192",
        services="full",
        phase="running",
        created=now(),
        plan={"services": "full", "stack": ELSEWHERE, "build": "embedded"},
    )
    rotation._refuse_elsewhere(record)


def _data(_: Path) -> object:
    data = {
        "elsewhere": {
            "host": "2001:db8::1",
            "port": 5432,
            "user": "me@here",
            "name": "frs",
            "sslmode": "verify-full",
        }
    }
    return places.of_record(
        Record("mine", "embedded", "c", "full", "running", now(), deployment={"data": data})
    )


HELD = Lock("a1b2c3d4e5f6 (172.18.0.3)", "2026-11-30T10:00:00.000")
CASES: Final[Mapping[str, Case]] = {
    "another scheme": _url("mysql://faces:pw@db.example.org/frs"),
    "a fragment": _url("postgresql://faces:p#w@db.example.org/frs"),
    "an at in the password": _url("postgresql://faces:p@w@db.example.org/frs"),
    "no user": _url("postgresql://db.example.org/frs"),
    "no name": _url("postgresql://faces:pw@db.example.org"),
    "a slash in the name": _url("postgresql://faces:pw@db.example.org/frs/more"),
    "several hosts": _url("postgresql://faces:pw@one,two/frs"),
    "no IPv6 address": _url("postgresql://faces:pw@[::x]/frs"),
    "an IPv6 address without brackets": _url("postgresql://faces:pw@2001:db8::1/frs"),
    "a socket": _url("postgresql://faces:pw@%2Fvar%2Frun/frs"),
    "a host that is none": _url("postgresql://faces:pw@db!example/frs"),
    "this machine": _url("postgresql://faces:pw@localhost/frs"),
    "no port": _url("postgresql://faces:pw@db.example.org:65536/frs"),
    "an option of another name": _url(
        "postgresql://faces:pw@db.example.org/frs?application_name=x"
    ),
    "a client certificate": _url("postgresql://faces:pw@db.example.org/frs?sslcert=x"),
    "an option without a value": _url("postgresql://faces:pw@db.example.org/frs?sslmode="),
    "an option twice": _url("postgresql://f:pw@db.example.org/frs?sslmode=require&sslmode=require"),
    "another mode": _url("postgresql://faces:pw@db.example.org/frs?sslmode=allow"),
    "a long name": _url(f"postgresql://faces:pw@db.example.org/{'f' * 64}"),
    "a percent sign": _url("postgresql://faces:p%w@db.example.org/frs"),
    "no UTF-8": _url("postgresql://faces:%FF@db.example.org/frs"),
    "a control character": _url("postgresql://faces:p%0Aw@db.example.org/frs"),
    "verify-full without an authority": _url(
        "postgresql://f:pw@db.example.org/frs?sslmode=verify-full"
    ),
    "an authority without verification": _url(
        "postgresql://f:pw@db.example.org/frs?sslmode=require&sslrootcert=/etc/authority.pem"
    ),
    "another host of its own": _settings({"CF_POSTGRES_HOST": "127.0.0.1"}),
    "the address and its file": _settings(
        {"CF_DATABASE_URL": "postgresql://f:pw@db/frs", "CF_DATABASE_URL_FILE": "url"}
    ),
    "the address and a part of it": _settings(
        {"CF_DATABASE_URL_FILE": "url", "CF_POSTGRES_PASSWORD": "other"}
    ),
    "a password in a flag": _with_notes,
    "a database for an engine alone": _alone,
    "a database for an instance with a volume": _own_volume,
    "a name that nobody knows": _failed("name", "Name or service not known"),
    "a server that does not answer": _failed("connection", "Connection refused"),
    "no authority": _failed("authority", "No such file or directory"),
    "a server without TLS": _failed("no-tls", "the server has no TLS"),
    "a certificate of another authority": _failed("trust", "self-signed certificate"),
    "a certificate for another host": _failed("host", "Hostname mismatch"),
    "an expired certificate": _failed("time", "certificate has expired"),
    "no TLS in common": _failed("tls", "NO_PROTOCOLS_AVAILABLE"),
    "a wrong password": _failed(
        "login", 'password authentication failed for user "faces"', "28P01"
    ),
    "no entry in pg_hba.conf": _failed("login", "no pg_hba.conf entry for host", "28000"),
    "no such database": _failed("login", 'database "frs" does not exist', "3D000"),
    "no connection left": _failed("login", "sorry, too many clients already", "53300"),
    "no answer to a question": _failed("question", "canceling statement", "57014"),
    "all is well": _seen(),
    "an own database": _one_of_its_own,
    "nothing known of its content": _seen(contents=None),
    "not from a container": _seen(inside="Connection refused"),
    "an old server": _seen(version=90624),
    "a newer server": _seen(version=180001),
    "a standby": _seen(read_only=True),
    "another encoding": _seen(encoding="LATIN1"),
    "no uuid-ossp": _seen(uuid="permission denied to create extension"),
    "no table": _seen(table="permission denied for schema public"),
    "tables of another user": _seen(others_tables=("app",)),
    "more tables of another user": _seen(others_tables=("app", "model", "subject")),
    "another schema": _seen(schema="faces"),
    "no schema": _seen(schema=""),
    "few connections": _seen(room=3),
    "services of another install": _seen(clients=("192.0.2.7", "192.0.2.8")),
    "services of another install, insisted": _seen(clients=("192.0.2.7",), allow=True),
    "its own services": _seen(OwnedResources(database=TARGET.address), clients=("192.0.2.7",)),
    "another instance": _seen(
        OwnedResources(others=(OtherInstance("other", frozenset(), database=TARGET.address),))
    ),
    "faces of another calculator": _seen(
        contents=replace(EMPTY, collections=(Collection("P", 7, "Door", "facenet.Calculator", 2),))
    ),
    "an unread content": _seen(contents=DatabaseFacts(error="canceling statement")),
    "an unchecked certificate": lambda folder: list(
        database_elsewhere._unverified(Elsewhere(replace(TARGET, sslmode="require"), tls=True))
    ),
    "no TLS at all": lambda folder: list(
        database_elsewhere._unverified(Elsewhere(replace(TARGET, sslmode="prefer")))
    ),
    "data that is elsewhere": _data,
    "a password that is elsewhere": _rotated,
    "a start without an answer": _start(failure=Failure("connection", "Connection refused")),
    "a start with a wrong password": _start(failure=Failure("login", "no", "28P01")),
    "a start on another calculator's faces": _start(
        contents=replace(EMPTY, collections=(Collection("P", 7, "Door", "facenet.Calculator", 2),))
    ),
    "a lock that is not freed": _start(contents=replace(EMPTY, lock=HELD, sessions=0)),
    "a lock that is held": _start(contents=replace(EMPTY, lock=HELD, sessions=1)),
    "no password": lambda folder: writer.write(
        RenderedProject("embedded", {}, own_database=False), folder / "project"
    ),
}
