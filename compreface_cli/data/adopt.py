"""`cf adopt`: makes an instance of an install of upstream's, on its own volume."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from compreface_cli import locks
from compreface_cli.checks import Finding
from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.config import paths, settings
from compreface_cli.config.settings_table import BY_KEY
from compreface_cli.data import api_check, recognise, stored_faces
from compreface_cli.data.stored_faces import Agreement, Stored
from compreface_cli.deploy import aside, beside, fetching, preflight, running, up
from compreface_cli.deploy.run_record import RunRecord
from compreface_cli.docker import containers, image, postgres, pulls
from compreface_cli.docker.postgres import Server
from compreface_cli.errors import ConflictError, DataRefusedError, FetchError, UsageError
from compreface_cli.facts import upstream
from compreface_cli.facts.upstream import DATABASE, Install
from compreface_cli.instance import adopted as kept
from compreface_cli.instance.adopted import Adopted, Aside
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment
from compreface_cli.plan import data
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import Plan
from compreface_cli.plugin_table import same_calculator
from compreface_cli.terminal.output import Output

_AWAY = "about 1 to 2 minutes"  # admin and api start in 12 to 47 s each, side by side, on two cores


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks for; `unchecked` accepts that no stored face can be compared."""

    instance: str | None = None
    build: str | None = None
    yes: bool = False
    unchecked: bool = False
    accept_licence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What was recognised of an install, and the plan of the instance that it becomes."""

    install: Install
    plan: Plan
    cause: str  # what says that it is this build
    settings: Mapping[str, Any]
    stored: Stored
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Adoption:
    """The adopted instance; a dry run has only what was recognised."""

    found: Found
    result: up.Result | None = None
    agreement: Agreement | None = None


def adopt(what: str, wanted: Wanted, options: Options, out: Output) -> Adoption:
    """Adopt the install of that folder or Compose project; raises a CfError with all as it was.

    An adoption that was cut off is undone first, and then begun anew.
    """
    command = f"cf adopt {what}"
    state = paths.state_dir()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with interruptible(), locks.hold(state / "adopt.lock", "cf adopt", command=command):
        with out.waiting("Looking for the install"):
            install = upstream.find(what)
        install = _settled(install, what, options, out)
        name = _name(wanted, install)
        with running.instances().lock(name, command):
            _refuse_taken(name)
            found = _recognised(install, name, wanted, options, out)
            _judge(found, wanted, out)
            found = _checked(found, options, out)
            if options.dry_run:
                return Adoption(found)
            for line in shown(found):
                out.note(line)
            _confirm(found, wanted, out)
            return _adopted(found, options, out)


def shown(found: Found) -> list[str]:
    """The lines that tell the user what was recognised, and what happens now."""
    install, plan, stored = found.install, found.plan, found.stored
    runs = [member.name for member in install.members.values() if member.runs]
    faces = ", ".join(f"{count} of {name}" for name, count in stored.faces.items())
    differs = {
        key: value
        for key, value in found.settings.items()
        if value != BY_KEY[key].default and key not in _ELSEWHERE
    }
    lines = [
        f"Install: {install.from_words} (Compose project {install.project})",
        f"  build     {plan.build}: {found.cause}",
        f"  volume    {install.volume}, used in place; faces: {faces or 'none'}; "
        f"{len(stored.sample)} of them are compared",
        f"  address   {plan.bind}:{plan.port}",
        *([f"  settings  {', '.join(f'{k}={v}' for k, v in differs.items())}"] if differs else []),
        f"  runs now  {', '.join(runs) or 'nothing'}",
    ]
    lines += [f"  note      {note}" for note in found.notes]
    if runs:
        lines.append(f"  away      UI and API for {_AWAY}, once the new engine has proved itself")
    lines.append(
        f"It becomes the instance '{plan.instance}'. Its containers are stopped, not removed, and "
        f"`cf release {plan.instance}` starts them again."
    )
    return lines


_ELSEWHERE = ("bind", "port", "core_port", "services", "launcher")


def _settled(install: Install, what: str, options: Options, out: Output) -> Install:
    """The install, once an adoption of it that was cut off is undone."""
    for record in running.instances().all()[0]:
        adopted = kept.of(record)
        if adopted is None or adopted.volume != install.volume:
            continue
        if not adopted.half:
            raise ConflictError(
                f"{install.from_words} is adopted already: it is the instance '{record.name}'",
                hint=f"`cf status {record.name}` shows it, `cf release {record.name}` gives it "
                "back.",
                details={"instance": record.name},
            )
        if options.dry_run:
            raise ConflictError(f"{kept.cut_off_words(record)}", details={"instance": record.name})
        with running.instances().lock(record.name, f"cf adopt {what}"):
            out.note(f"An earlier `{record.command or 'cf adopt'}` was cut off; undoing it first")
            aside.give_back(record.name, record, adopted, out)
            forget(record.name, out)
        return upstream.find(what)
    return install


def forget(name: str, out: Output) -> None:
    """Remove the project and the record of an instance whose install has been given back."""
    from compreface_cli.project.writer import OVERRIDE

    folder = paths.project_dir(name)
    if (folder / OVERRIDE).is_file():
        out.note(f"{folder} is kept for your {OVERRIDE} in it")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    running.instances().remove(name)


def _name(wanted: Wanted, install: Install) -> str:
    if wanted.instance:
        return str(BY_KEY["instance"].parse(wanted.instance))
    name = re.sub(r"[^a-z0-9]+", "-", install.project.lower()).strip("-")[:40].strip("-")
    return name or "compreface"


def _refuse_taken(name: str) -> None:
    record = running.record_of(name)
    if record is not None:
        raise ConflictError(
            f"there is an instance '{name}' already",
            hint="Give another name: --instance NAME",
            details={"instance": name},
        )


@contextmanager
def _database(install: Install, options: Options, out: Output) -> Iterator[Server]:
    """The install's database: the one that runs, or a temporary one on its volume."""
    member = install.members.get(DATABASE)
    if member is not None and member.state == "running":
        yield postgres.of_container(member.container)
        return
    values, _, _ = recognise.settings_of(install)
    chosen = settings.resolve({}).under(values, "upstream")
    name = str(chosen.get("postgres_image") or "")
    if not name:
        name = f"{chosen.get('registry')}compreface-postgres-db:{chosen.get('postgres_version')}"
    if image.find(name) is None:
        if options.dry_run:
            raise FetchError(
                f"the image {name} is not here, and without it the volume {install.volume} cannot "
                "be read",
                hint=f"docker pull {name}, or name another: CF_POSTGRES_IMAGE=...",
            )
        pulls.obtain_all([name], report=out.note, waiting=out.waiting, pull=False)
    user, database = str(chosen.get("postgres_user")), str(chosen.get("postgres_db"))
    with postgres.at_rest(install.volume, name, user=user, database=database) as server:
        yield server


def _recognised(
    install: Install, name: str, wanted: Wanted, options: Options, out: Output
) -> Found:
    """The install's build, settings and stored faces."""
    values, secrets, notes = recognise.settings_of(install)
    where = f"instance, adopted from {install.from_words}"
    with _database(install, options, out) as server:
        build, cause = (wanted.build, "--build says so") if wanted.build else ("", "")
        if not build:
            with out.waiting("Reading the database"):
                faces = stored_faces.stored(server, "").faces
            build, cause = recognise.build_of(install, faces)
        flags = {
            "build": build,
            "instance": name,
            "accept_licence": wanted.accept_licence or None,
        }
        plan = up.resolved(settings.resolve(flags).under(values, where), out, options)
        with out.waiting("Reading the database"):
            stored = stored_faces.stored(server, plan.calculator)
    image_of = str(values.get("postgres_image", ""))
    on = data.Data(install.volume, image_of, server.user, server.database)
    plan = data.on(plan, on, secrets.get("postgres_password", ""))
    plan = replace(plan, secrets={**secrets, **plan.secrets})
    return Found(install, plan, cause, values, stored, tuple(notes))


def _checked(found: Found, options: Options, out: Output) -> Found:
    """The same with ports decided; raises PreflightError where the instance could not start."""
    giving_way = frozenset(member.container for member in found.install.members.values())
    look = preflight.inspect(found.plan, None, options, out, giving_way=giving_way)
    return replace(found, plan=look.plan, findings=look.warnings)


def _judge(found: Found, wanted: Wanted, out: Output) -> None:
    """Refuse a build that cannot compare the faces, and an install that cannot be checked."""
    plan, stored = found.plan, found.stored
    foreign = {
        name: count
        for name, count in stored.faces.items()
        if not same_calculator(name, plan.calculator)
    }
    if foreign:
        words = ", ".join(f"{count} faces of {name}" for name, count in foreign.items())
        if len(foreign) == len(stored.faces):
            fitting = [each for name in foreign if (each := recognise.fitting(name))]
            raise DataRefusedError(
                f"the volume {found.install.volume} holds {words}; the build {plan.build} computes "
                f"{plan.calculator}, which cannot be compared with them",
                hint=f"Name the build that does: --build {fitting[0] if fitting else 'BUILD'}",
                details={"calculators": dict(stored.faces), "calculator": plan.calculator},
            )
        out.warning(
            f"the volume holds {words} beside those of {plan.calculator}: such a collection "
            "answers 400 once the api starts anew, upstream's or ours. `cf data repair` heals it."
        )
    if stored.count and not stored.sample and not wanted.unchecked:
        said = (
            f"no picture is stored of the {stored.count} faces (save_images_to_db), so that the "
            "new engine cannot be compared with them"
        )
        if not wanted.yes and out.ask(f"{said}. Go on without? [y/N] ") in ("y", "yes"):
            return
        raise UsageError(
            said,
            hint="Add --unchecked to go on; the engine is still checked with a known face.",
            details={"faces": stored.count},
        )


def _confirm(found: Found, wanted: Wanted, out: Output) -> None:
    if wanted.yes:
        return
    answer = out.ask("Adopt it? [y/N] ")
    if answer is None:
        raise UsageError(
            f"adopting {found.install.from_words} needs a confirmation",
            hint="Add --yes. To see what would be done: --dry-run",
        )
    if answer.lower() not in ("y", "yes"):
        raise UsageError("nothing was adopted", hint="Nothing was changed.")


def _proven(found: Found, options: Options, out: Output) -> tuple[Found, Agreement]:
    """The agreement of the new engine, beside whatever runs; fetches all that the switch needs."""
    plan, _ = fetching.fetched(found.plan, out, options.accept_hash)
    missing = [name for name in plan.stack_images.values() if image.find(name) is None]
    if missing:
        pulls.obtain_all(missing, report=out.note, waiting=out.waiting, pull=False)
    with beside.engine_beside(plan, out, options) as endpoint:
        with _database(found.install, options, out) as server:
            with out.waiting("Comparing stored faces"):
                agreement = stored_faces.agreement(server, endpoint, found.stored.sample)
    if agreement.compared:
        out.note(f"The new engine: {agreement.words}")
    if not agreement.holds:
        raise DataRefusedError(
            f"the engine of {plan.build} does not agree with the stored faces: {agreement.words} "
            f"(needed: {agreement.share:.0%} with a cosine of {agreement.limit}, and a median of "
            f"{stored_faces.MIN_MEDIAN})",
            hint="Nothing was switched. Another build may be the right one: --build BUILD",
            details=agreement.as_dict(),
        )
    return replace(found, plan=plan), agreement


def _adopted(found: Found, options: Options, out: Output) -> Adoption:
    """Compare the new engine with the stored faces, then switch; a failure undoes everything."""
    name, store = found.plan.instance, running.instances()
    adopted = _of(found)
    with CleanUp(out.note, out.waiting) as undo:
        undo.left = "upstream's containers are as they were"
        undo.push("upstream's containers", lambda: _put_back(name, adopted, out))
        # Before anything is started, so that whatever a `kill -9` leaves has a name.
        store.save(_record(found, adopted))
        found, agreement = _proven(found, options, out)
        adopted = replace(adopted, state="switching")
        store.save(_record(found, adopted))
        result = _switch(found, adopted, options, out)
        undo.commit(f"'{name}' runs")
    return Adoption(found, result, agreement)


def _switch(found: Found, adopted: Adopted, options: Options, out: Output) -> up.Result:
    """Stop upstream's containers and start ours."""
    store, name = running.instances(), found.plan.instance
    adopted = aside.stand_aside(adopted, lambda each: store.save(_record(found, each)), out)
    command = _record(found, adopted).command
    result = up.under_lock(found.plan, options, out, change=_Check(command))
    record = store.load(name)
    assert record is not None  # noqa: S101 - it has just been started
    done = replace(adopted, state="adopted", stopping=False)
    store.save(replace(record, adopted=done.as_dict()))
    return result


def _of(found: Found) -> Adopted:
    """What the record keeps of the install."""
    install, plan = found.install, found.plan
    return Adopted(
        project=install.project,
        folder=install.folder,
        moved_to=install.moved_to,
        volume=install.volume,
        build=plan.build,
        calculator=plan.calculator,
        state="comparing",
        services=tuple(_asides(install)),
        settings={**found.settings, "core_port": plan.core_port, "port": plan.port},
    )


def _record(found: Found, adopted: Adopted) -> Record:
    """The record until the instance starts."""
    return Record(
        name=found.plan.instance,
        build=found.plan.build,
        calculator=found.plan.calculator,
        services="full",
        phase="stopped",
        created=now(),
        command=f"cf adopt {adopted.argument}",
        adopted=adopted.as_dict(),
    )


def _put_back(name: str, adopted: Adopted, out: Output) -> None:
    record = running.instances().load(name)
    if record is None:
        return  # nothing was touched yet
    aside.give_back(name, record, kept.of(record) or adopted, out)
    forget(name, out)


@dataclass
class _Check:
    """What is checked of the new instance beyond a known face: a stored one, through the api."""

    command: str
    images: Mapping[str, str] = field(default_factory=dict)
    replaces_data: bool = False

    def begin(self, record: RunRecord, undo: CleanUp) -> None:
        pass

    def check(self, new: Deployment) -> None:
        """Raise UnhealthyError if the api does not recognise a face that it has stored."""
        container = next(
            item
            for item in containers.of_project(str(new.data["project"]))
            if item.service == DATABASE
        )
        assert new.ui is not None  # noqa: S101 - the full stack
        calculator = str(new.data["calculator"][0])
        api_check.check(postgres.of_container(container.id), new.ui, calculator)


def _asides(install: Install) -> Sequence[Aside]:
    return [
        Aside(member.service, member.container, member.name, member.policy, member.runs)
        for member in install.members.values()
        if member.container
    ]
