"""Changes the database password of an instance, in an order that a kill at any point leaves whole.

Both passwords are in a file of mode 0600 before the database gets the new one, and until every
service has it. What PostgreSQL itself stores decides which of them is valid.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths, settings
from compreface_cli.deploy import adoption, database_elsewhere, running, unfinished
from compreface_cli.engine import known_answer
from compreface_cli.errors import CfError, ConfigurationError, ConflictError, UnhealthyError
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.plan.operations import Away
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.docker.postgres import Server
    from compreface_cli.facts.places import Place

PENDING = ".rotation.json"
PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - the name of a variable
_USERS = ("api", "admin", "postgres")  # services that are started with the password


@dataclass(frozen=True, slots=True)
class Pending:
    """A change of the password that has begun."""

    old: str = field(repr=False)
    new: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rotated:
    """What was changed, or would be in a dry run."""

    record: Record
    user: str
    file: Path  # that has the password
    restarted: tuple[str, ...]
    away: tuple[Away, ...]
    healed: bool = False  # an earlier run had been cut off, and was brought to its end first


def rotate(
    name: str | None, out: Output, *, dry_run: bool = False, timeout_s: float | None = None
) -> Rotated:
    """Give the database of an instance a new password, and restart what logs in with it.

    Raises ConfigurationError for an instance without a database of its own, and for a password that
    a setting names.
    """
    store = running.instances()
    name = running.pick(name, only_running=False, command="cf secrets rotate").name
    command = f"cf secrets rotate {name} --database"
    with interruptible(), store.lock(name, command):
        record = running.pick(name, only_running=False)
        running.refuse_swarm(record, command)
        adoption.refuse_half(record)
        _refuse_elsewhere(record)
        _refuse_setting()
        folder = paths.project_dir(name)
        place = _place(record)
        away = _away(record)
        if dry_run:
            restarted = tuple(each.service for each in away)
            return Rotated(record, place.user, folder / ENV_FILE, restarted, away)
        healed = pending(folder) is not None
        record = unfinished.settle(name, record, out) or record
        place = _place(record)
        known = running.deployment(record)
        old = _password(folder, record)
        runs = record.phase == "running"
        services = [each.name for each in running.launcher(known.launcher).services(known)]
        users = tuple(each for each in _USERS if runs and each in services)
        store.save(replace(unfinished.begun(record, command), touched=list(users)))
        with out.waiting("Changing the password"):
            _change(place, folder, Pending(old, secrets.token_urlsafe(24)), record)
        if runs:
            try:
                with out.waiting("Restarting what uses the database"):
                    _stop(known)
                    running.launcher(known.launcher).start(known, out.note)
                _prove(known, record, timeout_s or running.TIMEOUT_S[known.launcher], out)
            except UnhealthyError as error:
                _forget(folder)
                store.save(record)
                raise running.explain(error, known) from error
        _forget(folder)
        store.save(record)
        return Rotated(record, place.user, folder / ENV_FILE, users, away, healed)


def heal(record: Record, out: Output) -> None:
    """End a change of the password that was cut off; nothing without one.

    To be called with the instance's lock held. Services that run with the other password are
    stopped; the caller starts what should run.
    """
    folder = paths.project_dir(record.name)
    begun = pending(folder)
    if begun is None:
        return
    with _place(record).opened() as server:
        valid = _valid(server, begun)
    which = "new" if valid == begun.new else "previous"
    out.note(f"A change of the database's password was cut off; the {which} one is valid")
    writer.set_env(folder, PASSWORD, valid)
    _stop(running.deployment(record), but=valid)
    _forget(folder)


def pending(folder: Path) -> Pending | None:
    """The change that has begun in this project folder, if one has."""
    try:
        document = json.loads((folder / PENDING).read_text("utf-8"))
        return Pending(str(document["old"]), str(document["new"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{folder / PENDING} cannot be read: {error}",
            hint="A change of the password was cut off. Move the file away: `.env` beside it has "
            "the previous password or the new one.",
        ) from error


def _change(place: Place, folder: Path, change: Pending, record: Record) -> None:
    """Change it in the database and in `.env`; a failure restores both, and the record."""
    from compreface_cli.facts import passwords

    writer.write_whole(
        folder / PENDING, json.dumps({"old": change.old, "new": change.new}), mode=0o600
    )
    try:
        with place.opened() as server:
            _valid(server, change)
            _alter(server, passwords.stored(change.new))
        writer.set_env(folder, PASSWORD, change.new)
    except BaseException:
        with suppress(CfError, OSError):
            with place.opened() as server:
                if _valid(server, change) == change.new:
                    _alter(server, passwords.stored(change.old))
            writer.set_env(folder, PASSWORD, change.old)
            _forget(folder)
            running.instances().save(record)
        raise


def _password(folder: Path, record: Record) -> str:
    """The password in the project's `.env`; raises ConfigurationError without one."""
    password = writer.read_env(folder / ENV_FILE).get(PASSWORD)
    if not password:
        raise ConfigurationError(
            f"the password of the database of '{record.name}' is not known: {folder / ENV_FILE} "
            "has none",
            hint=f"State it once: CF_POSTGRES_PASSWORD=... {running.start_command(record)}",
        )
    return password


def _alter(server: Server, value: str) -> None:
    from compreface_cli.docker.postgres import Session, literal

    with Session(server) as session:
        user = session.value("select quote_ident(current_user)")
        session.execute(f"alter user {user} password {literal(value)}")


def _valid(server: Server, change: Pending) -> str:
    """Which of the two passwords the database has; raises ConflictError if neither."""
    from compreface_cli.docker.postgres import Session

    with Session(server) as session:
        row = session.row(
            "select rolname as name, coalesce(rolpassword, '') as value from pg_authid"
            " where rolname = current_user"
        )
    return _of_row(row, change)


def _of_row(row: Mapping[str, str] | None, change: Pending) -> str:
    """The password that fits a row of `pg_authid`; raises ConflictError if neither does."""
    from compreface_cli.facts import passwords

    for password in (change.new, change.old):
        if row and passwords.fits(password, row["value"], user=row["name"]):
            return password
    raise ConflictError(
        f"the database has another password than {ENV_FILE} of the project folder",
        hint=f"Somebody changed it. Put the one that it has into {ENV_FILE}, and run this again.",
    )


def _stop(known: Deployment, *, but: str | None = None) -> None:
    """Stop the services that were started with a password other than `but`; all of them for None.

    The services first that use the database, then the database.
    """
    from compreface_cli.docker import cli, client, containers

    present = {
        containers.short(item.service): item
        for item in containers.of_project(str(known.data["project"]), str(known.data["folder"]))
    }
    ending = []
    for service in _USERS:
        if (item := present.get(service)) is None:
            continue
        row = client.find("containers", item.id, "json") or {}
        environment = row.get("Config", {}).get("Env") or ()
        if but is None or f"{PASSWORD}={but}" not in environment:
            ending.append(item.id)
    if ending:
        cli.run("stop", *ending, doing="stop what uses the database", timeout_s=None)


def _place(record: Record) -> Place:
    from compreface_cli.facts import places

    return places.of_record(record)


def _refuse_elsewhere(record: Record) -> None:
    """Raise ConfigurationError for a database elsewhere, whose roles `cf` never changes."""
    if address := database_elsewhere.of_record(record):
        raise ConfigurationError(
            f"'{record.name}' logs in to the database {address}, whose password cf never changes",
            hint="Change it there: alter role USER password '...'. Then give the new one: "
            f"CF_POSTGRES_PASSWORD=... {running.start_command(record)}",
        )


def _refuse_setting() -> None:
    given = settings.resolve().given("postgres_password")
    if given is not None:
        raise ConfigurationError(
            f"the database's password is set by {given.where}, which a rotation cannot change",
            hint="Leave the setting out: `cf` keeps the password in the project folder.",
        )


def _away(record: Record) -> tuple[Away, ...]:
    if record.phase != "running":
        return ()
    cause = "it gets the new password"
    return tuple(Away(name, record.start_s.get(name), cause) for name in reversed(_USERS))


def _prove(known: Deployment, record: Record, limit_s: float, out: Output) -> None:
    answer = known_answer.KnownAnswer.from_dict(record.answer)
    with out.waiting("Waiting for the services"):
        running.prove(known, answer, limit_s)


def _forget(folder: Path) -> None:
    (folder / PENDING).unlink(missing_ok=True)
