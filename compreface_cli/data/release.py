"""`cf release`: gives an adopted install back to upstream's own containers, as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.data import stored_faces
from compreface_cli.data.adopt import forget
from compreface_cli.deploy import aside, running
from compreface_cli.deploy.aside import GivenBack
from compreface_cli.docker import client, containers, postgres
from compreface_cli.docker.postgres import Server, Session, literal
from compreface_cli.errors import (
    ConfigurationError,
    ConflictError,
    DataRefusedError,
    Interruption,
    UsageError,
)
from compreface_cli.facts.upstream import API, DATABASE, SERVICES
from compreface_cli.instance import adopted as kept
from compreface_cli.instance.adopted import Adopted
from compreface_cli.instance.records import Record
from compreface_cli.plugin_table import same_calculator
from compreface_cli.terminal.output import Output

_IMAGES = ("postgres_image", "admin_image", "api_image")


@dataclass(frozen=True, slots=True)
class Release:
    """The install that was given back; `commands` start what `cf` cannot start itself."""

    instance: str
    adopted: Adopted
    given_back: GivenBack
    commands: tuple[str, ...] = ()
    dry_run: bool = False


def release(name: str, out: Output, *, yes: bool = False, dry_run: bool = False) -> Release:
    """Stop the instance and start upstream's containers again; the volume stays, the record goes.

    Run again, it ends a release or an adoption that was cut off.
    """
    store = running.instances()
    with interruptible(), store.lock(name, f"cf release {name}"):
        record = store.load(name)
        adopted = kept.of(record)
        if record is None or adopted is None:
            raise ConfigurationError(
                f"there is no adopted instance '{name}'",
                hint="`cf status` lists the instances, and from where each was adopted.",
            )
        if not adopted.half:
            # Of a start that was cut off nothing has worked on the data yet.
            known = (record.previous if record.unfinished else None) or record
            with out.waiting("Reading the database"):
                _refuse_changed(known, adopted)
        if dry_run:
            return Release(name, adopted, _foreseen(adopted), _commands(adopted), True)
        _confirm(name, adopted, yes, out)
        if adopted.state == "adopted":
            adopted = replace(adopted, state="releasing")
            store.save(replace(record, adopted=adopted.as_dict()))
        try:
            if adopted.state == "releasing":
                _former_password(record, adopted, out)
            given = aside.give_back(name, record, adopted, out)
        except Interruption as signalled:
            signalled.outcome = f"'{name}' is half released: `cf release {name}` goes on"
            raise
        commands = _commands(adopted)
        forget(name, out)
        return Release(name, adopted, given, commands)


def _refuse_changed(record: Record, adopted: Adopted) -> None:
    """Raise where upstream's engine and services could not work on what the database has become."""
    back = f"cf data migrate {record.name} --back"
    if not same_calculator(record.calculator, adopted.calculator):
        raise DataRefusedError(
            f"'{record.name}' computes {record.calculator} by now, and upstream's engine "
            f"{adopted.calculator}",
            hint=f"Return to it first: {back}",
            details={"calculator": record.calculator, "upstream": adopted.calculator},
        )
    if (volume := _volume(record)) != adopted.volume:
        raise ConflictError(
            f"the data of '{record.name}' are in the volume {volume} by now, not in upstream's "
            f"{adopted.volume}",
            hint=f"Return to it first: cf rollback {record.name}",
            details={"volume": volume},
        )
    stack = record.plan.get("stack") or {}
    for key in _IMAGES:
        before, is_now = adopted.settings.get(key), stack.get(key)
        if before and is_now and before != is_now:
            raise ConflictError(
                f"'{record.name}' runs {is_now}, upstream's container {before}: what one has made "
                "of the database may be too new for the other",
                hint=f"Return to it first: cf rollback {record.name}",
                details={"setting": key, "now": is_now, "before": before},
            )
    with _opened(record, adopted) as server:
        faces = stored_faces.stored(server, adopted.calculator).faces
    foreign = {
        calculator: count
        for calculator, count in faces.items()
        if not same_calculator(calculator, adopted.calculator)
    }
    if foreign:
        words = ", ".join(f"{count} faces of {each}" for each, count in foreign.items())
        raise DataRefusedError(
            f"the volume {adopted.volume} holds {words}, which upstream's engine "
            f"({adopted.calculator}) cannot compare",
            hint=f"Return to its embeddings first: {back}",
            details={"calculators": dict(faces), "upstream": adopted.calculator},
        )


def _volume(record: Record) -> str:
    known = record.deployment.get("data", {}) if record.deployment else {}
    return str((record.plan.get("data") or {}).get("volume") or known.get("volume"))


@contextmanager
def _opened(record: Record, adopted: Adopted) -> Iterator[Server]:
    """The instance's database, running or at rest."""
    project = f"cf-{record.name}"
    for container in containers.of_project(project):
        if container.service == DATABASE and container.state == "running":
            yield postgres.of_container(container.id)
            return
    stack = record.plan.get("stack") or {}
    with postgres.at_rest(
        adopted.volume,
        str(stack.get("postgres_image")),
        user=str(stack.get("postgres_user")),
        database=str(stack.get("postgres_db")),
    ) as server:
        yield server


def _former_password(record: Record, adopted: Adopted, out: Output) -> None:
    """Give the database the password that upstream's containers have, if it was changed since."""
    from compreface_cli.project.writer import read_env

    present = read_env(paths.project_dir(record.name) / ".env").get("POSTGRES_PASSWORD")
    former = _variable(adopted, API, "POSTGRES_PASSWORD")
    if not former or not present or former == present:
        return
    out.note("The database gets the password back that upstream's containers have")
    with _opened(record, adopted) as server, Session(server) as session:
        name = '"' + server.user.replace('"', '""') + '"'
        session.execute(f"alter role {name} password {literal(former)}")


def _variable(adopted: Adopted, service: str, name: str) -> str:
    container = next((each.container for each in adopted.services if each.service == service), "")
    row: Any = client.find("containers", container, "json") if container else None
    pairs = (str(pair).partition("=") for pair in (row or {}).get("Config", {}).get("Env") or ())
    return next((value for key, _, value in pairs if key == name), "")


def _foreseen(adopted: Adopted) -> GivenBack:
    present = {item.id for item in containers.inspect(*(e.container for e in adopted.services))}
    here = [each for each in adopted.services if each.container in present]
    return GivenBack(
        started=tuple(each.name for each in here if each.ran),
        stopped=tuple(each.name for each in here if not each.ran),
        gone=tuple(each.service for each in adopted.services if each.container not in present),
    )


def _commands(adopted: Adopted) -> tuple[str, ...]:
    """What starts upstream's services whose containers are gone; () when all are there."""
    present = {item.id for item in containers.inspect(*(e.container for e in adopted.services))}
    there = {each.service for each in adopted.services if each.container in present}
    if there >= set(SERVICES):
        return ()
    folder = next(
        (each for each in (adopted.moved_to, adopted.folder) if each and Path(each).is_dir()), ""
    )
    compose = f"docker compose --project-name {adopted.project} up -d"
    return (f"cd {folder}", compose) if folder else (compose,)


def _confirm(name: str, adopted: Adopted, yes: bool, out: Output) -> None:
    if yes or adopted.half:
        return
    answer = out.ask(f"Stop '{name}' and start {adopted.from_words} as it was? [y/N] ")
    if answer is None:
        raise UsageError(
            f"releasing '{name}' needs a confirmation",
            hint="Add --yes. To see what would be done: --dry-run",
        )
    if answer.lower() not in ("y", "yes"):
        raise UsageError("nothing was released", hint="Nothing was changed.")
