"""What is said about a database that lives elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from compreface_cli.config import settings
from compreface_cli.config.settings import Settings, Value
from compreface_cli.deploy import database_elsewhere, running
from compreface_cli.instance.records import Record, now
from compreface_cli.plan.plan import DATABASE
from compreface_cli.project import writer
from compreface_cli.project.rendered import RenderedProject
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import plan

Case = Callable[[Path], object]

ELSEWHERE = {
    "postgres_host": "db.example.org",
    "postgres_port": "5432",
    "postgres_user": "faces",
    "postgres_db": "frs",
    "postgres_sslmode": "verify-full",
    "postgres_sslrootcert": "/etc/authority.pem",
}


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
    return database_elsewhere.on_database(plan(services="core"), Settings(given), Output())


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
    return database_elsewhere.on_database(plan(stack=ELSEWHERE), Settings(), Output())


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
    "no password": lambda folder: writer.write(
        RenderedProject("embedded", {}, own_database=False), folder / "project"
    ),
}
