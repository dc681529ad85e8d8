"""`cf upgrade`: other versions of the stack and the present engine, or all as before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli.checks import schema
from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.config import settings
from compreface_cli.config.settings import Settings
from compreface_cli.config.settings_table import BY_KEY
from compreface_cli.data import api_check, put_back
from compreface_cli.data.api_check import Recognised
from compreface_cli.data.backup import backup
from compreface_cli.deploy import running, same_settings, unfinished, up, versions
from compreface_cli.deploy.run_record import RunRecord
from compreface_cli.docker import belongings, cli, image, postgres_new
from compreface_cli.docker.postgres import Session
from compreface_cli.errors import (
    CfError,
    ConfigurationError,
    DataRefusedError,
    UnhealthyError,
)
from compreface_cli.facts import places
from compreface_cli.facts.places import Place
from compreface_cli.instance import history
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output

NEWEST = str(BY_KEY["admin_version"].default)  # of CompreFace, that this cf knows
_OF_VERSION = ("admin", "api", "fe")  # `--to` leaves the database's image alone


@dataclass(frozen=True, slots=True)
class Step:
    """One service that gets another image."""

    service: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What was changed, or would be."""

    instance: str
    change: str  # "nothing", "dry run", "upgraded", "rolled back"
    steps: tuple[Step, ...] = ()
    result: up.Result | None = None
    backup: str = ""
    recognised: Recognised | None = None  # None: no stored photograph to try
    put_back: put_back.PutBack | None = None


@dataclass
class Change:
    """What an upgrade adds to a start: a backup before, a check after, the database back."""

    command: str
    record: Record
    images: Mapping[str, str]
    out: Output
    limit_s: float
    replaces_data: bool = False
    backup: str = ""
    schema: tuple[str, ...] = ()
    recognised: Recognised | None = None

    @property
    def place(self) -> Place:
        """The database, as it is reached now."""
        return places.of_record(self.record)

    def begin(self, record: RunRecord, undo: CleanUp) -> None:
        """Back the database up; the undo restores it if the new admin has changed its schema."""
        with self.place.opened() as server:
            self.schema = put_back.change_sets(server)
            self.backup = str(backup(self.place, self.out, server=server).path)
        record.backed_up(self.backup, schema=list(self.schema), command=self.command)
        undo.push("the database", self._data_back)
        keep_engine(self.record)

    def check(self, new: Deployment) -> None:
        """Have the api recognise a stored face."""
        self.recognised = recognise(self.place, new, self.record.calculator, self.limit_s, self.out)

    def _data_back(self) -> None:
        restore_if_changed(self.record, self.schema, self.backup, self.out)


def upgrade(
    name: str,
    out: Output,
    *,
    to: str | None = None,
    dry_run: bool = False,
    timeout_s: float | None = None,
) -> Upgraded:
    """Give the instance other versions of its stack and the engine as this cf makes it.

    `to`: the version of admin, api and UI; without it those that are set, else the newest that
    this cf knows. Backs up before, has the api recognise a stored face after, and goes back by
    itself if that fails. Raises DataRefusedError for another major version of PostgreSQL.
    """
    command = f"cf upgrade {name}" + (f" --to {to}" if to else "")
    with interruptible(), running.instances().lock(name, command):
        record = ready(name, out, dry_run=dry_run)
        plan, images = _wanted(record, to, out)
        steps = _steps(record, images)
        options = Options(dry_run=dry_run, timeout_s=timeout_s)
        limit_s = timeout_s or api_check.LIMIT_S
        change = Change(command, record, {**record.images, **_named(steps)}, out, limit_s)
        if dry_run:
            return foreseen(name, steps, up.dry_run(plan, options, out, change))
        known = running.deployment(record)
        _refuse_other_postgres(record, plan, out)
        before = recognise(places.of_record(record), known, record.calculator, limit_s, out)
        if before is None:
            out.note("No photograph is stored to try the api with: only the engine is checked")
        record = _with_present(record, known)
        change.record = record
        with said_if_back(name):
            result = up.under_lock(plan, options, out, change=change)
        if result.change == "already running":
            return Upgraded(name, "nothing", steps, result, recognised=before)
        forget_engines(name)
        return Upgraded(name, "upgraded", steps, result, change.backup, change.recognised)


def foreseen(name: str, steps: tuple[Step, ...], result: up.Result) -> Upgraded:
    """What a dry run returns."""
    same = result.change == "already running"
    return Upgraded(name, "nothing" if same else "dry run", steps, result)


@contextmanager
def said_if_back(name: str) -> Iterator[None]:
    """Adds to an error that the instance is what it was before."""
    try:
        yield
    except CfError as error:
        record = running.instances().load(name)
        if record is not None and record.phase == "running":
            back = f"'{name}' runs the versions of before again, with its data."
            error.hint = "\n".join(filter(None, (back, error.hint)))
            error.details["back"] = True
        raise


def ready(name: str, out: Output, *, dry_run: bool) -> Record:
    """The record of the running instance, after what an earlier run has left is put right."""
    record = running.pick(name, only_running=False)
    if dry_run:
        record = unfinished.foresee(record) or record
    else:
        recovered(record, out)
        record = running.pick(name, only_running=False)
        record = unfinished.settle(name, record, out, must_run=True) or record
    refuse_others(record)
    return record


def recovered(record: Record, out: Output) -> None:
    """Put back the database of an upgrade that was cut off after its schema had changed.

    A rollback that was cut off needs nothing: its newer version may start on either schema.
    """
    task = record.task
    if "schema" not in task:
        return
    out.note(f"An earlier upgrade of '{record.name}' was cut off")
    before = record.previous or record
    restore_if_changed(before, tuple(task["schema"]), str(task["backup"]), out)
    running.instances().save(replace(record, task={}))


def refuse_others(record: Record) -> None:
    """Raise ConfigurationError unless the instance is a full stack that runs."""
    running.refuse_swarm(record, f"cf upgrade {record.name}")
    if record.services != "full" or (record.deployment.get("launcher") != "compose"):
        raise ConfigurationError(
            f"instance '{record.name}' is an engine alone, without versions to choose",
            hint=f"`{running.start_command(record)}` gives it the engine of this cf.",
        )
    if record.phase != "running":
        raise ConfigurationError(
            f"instance '{record.name}' is not running, and another version is tried while it runs",
            hint=f"Start it with `{running.start_command(record)}`.",
        )


def recognise(
    place: Place, known: Deployment, calculator: str, limit_s: float, out: Output
) -> Recognised | None:
    """Have the api recognise a stored face; UnhealthyError with the way out where it does not."""
    assert known.ui is not None  # noqa: S101 - it is a full stack
    with out.waiting("Waiting until the api recognises a stored face"), place.opened() as server:
        try:
            return api_check.check(server, known.ui, calculator, limit_s=limit_s)
        except UnhealthyError as error:
            raise UnhealthyError(
                error.message,
                hint=f"cf logs {place.instance} --service api. Embeddings of several calculators: "
                f"cf data repair {place.instance}",
                details=error.details,
            ) from error


def restore_if_changed(
    record: Record, before: tuple[str, ...], archive: str, out: Output
) -> put_back.PutBack | None:
    """Put the backup back if the schema has change sets beyond those of before."""
    place = places.of_record(record)
    with place.opened() as server:
        beyond = [each for each in put_back.change_sets(server) if each not in before]
        if not beyond:
            return None
        out.note(f"The newer version has changed the database's schema ({', '.join(beyond)})")
        put_back.stop_services(running.deployment(record), out)
        return put_back.put_back(server, Path(archive), out)


def keep_engine(record: Record) -> None:
    """Give the engine's present image a name, so that nothing removes it as superseded."""
    present = str((record.deployment.get("data") or {}).get("image") or "")
    if present:
        tag = belongings.kept_engine(record.name, present)
        cli.run("tag", present, tag, doing="keep the engine's image")


def forget_engines(name: str) -> None:
    """Remove the kept engines that no versions in the history name any more."""
    record = running.instances().load(name)
    known = history.of(record) if record is not None else ()
    belongings.forget_engines(name, but={each.ids.get("core", "") for each in known})


def _wanted(record: Record, to: str | None, out: Output) -> tuple[Plan, dict[str, str]]:
    """The plan, and the image of each of its services ("admin", ...)."""
    given = dict(record.plan)
    if str(given["image"]).startswith(belongings.KEPT):  # a rollback chose it
        given["origins"] = {**given["origins"], "image": "default"}
    plan = same_settings.as_it_was(replace(record, plan=given), out)
    now = {service: plan.stack[f"{service}_image"] for service in versions.SERVICES}
    images = chosen_images(now, settings.resolve({}), plan.stack["registry"], to)
    return versions.with_images(plan, images), images


def chosen_images(
    now: Mapping[str, str], given: Settings, registry: str, to: str | None
) -> dict[str, str]:
    """The images after the upgrade: `to`, else what is set, else the newest that is known.

    `now`: the present ones.
    """
    images = dict(now)
    for service, name in now.items():
        if given.given(f"{service}_image"):
            images[service] = str(given.get(f"{service}_image"))
        elif to is not None and service in _OF_VERSION:
            images[service] = _tagged(name, to)
        elif given.given(f"{service}_version"):
            prefix = str(given.get("registry")) if given.given("registry") else registry
            full = {"postgres": "postgres-db"}.get(service, service)
            images[service] = f"{prefix}compreface-{full}:{given.get(f'{service}_version')}"
        elif service in _OF_VERSION:
            present, newest = schema.number(name), schema.number(f"x:{NEWEST}")
            if present is not None and newest is not None and present < newest:
                images[service] = _tagged(name, NEWEST)
    return images


def _tagged(name: str, tag: str) -> str:
    present = schema.tag(name)
    bare = name.partition("@")[0]
    return f"{bare.removesuffix(f':{present}') if present else bare}:{tag}"


def _steps(record: Record, images: Mapping[str, str]) -> tuple[Step, ...]:
    stack = record.plan["stack"]
    return tuple(
        Step(service, str(stack[f"{service}_image"]), name)
        for service, name in images.items()
        if stack[f"{service}_image"] != name
    )


def _named(steps: tuple[Step, ...]) -> dict[str, str]:
    return {f"{step.service}_image": step.after for step in steps}


def _refuse_other_postgres(record: Record, plan: Plan, out: Output) -> None:
    before, after = record.plan["stack"]["postgres_image"], plan.stack["postgres_image"]
    if before == after:
        return
    image.obtain(after, report=out.note, waiting=out.waiting)
    with places.of_record(record).opened() as server, Session(server) as session:
        number = session.value("select current_setting('server_version_num')::int")
    refuse_major(record.name, int(number) // 10000, postgres_new.major_of(after), after)


def refuse_major(name: str, here: int, there: int, image_: str) -> None:
    """Raise DataRefusedError where the image has another major version of PostgreSQL."""
    if here != there:
        raise DataRefusedError(
            f"'{name}' has data of PostgreSQL {here}, and {image_} has {there}, which cannot read "
            "them",
            hint=f"The way up: cf data backup {name}, then CF_POSTGRES_IMAGE={image_} cf data "
            f"restore FILE --instance {name}-{there}",
            details={"here": here, "there": there},
        )


def _with_present(record: Record, known: Deployment) -> Record:
    """The record, saved, with the versions that run now."""
    present = versions.present(known, record.plan, record.build)
    if present is None:
        raise unknown_versions(record.name)
    before = history.of(record)
    record = history.with_present(record, replace(present, cf=before[-1].cf if before else ""))
    running.instances().save(record)
    return record


def unknown_versions(name: str) -> CfError:
    """The error where Docker does not say which images an instance runs."""
    return CfError(f"Docker does not say what '{name}' runs", hint=f"cf status {name}")
