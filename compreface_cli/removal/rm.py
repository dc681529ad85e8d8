"""`cf rm`: forget an instance, or a build of the user's own and its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from compreface_cli.builds import builds
from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.deploy import running
from compreface_cli.deploy.down import Stopped, down, living
from compreface_cli.docker import belongings, containers
from compreface_cli.errors import ConfigurationError, ConflictError, DockerError, UsageError
from compreface_cli.instance.records import Record
from compreface_cli.removal import consent
from compreface_cli.removal.consent import Thing
from compreface_cli.terminal.output import Output

Kind = Literal["instance", "build"]
_ENV = ".env"  # of a project: has the database's password


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes and what stays of one instance or build."""

    kind: Kind
    name: str
    gone: tuple[Thing, ...]
    kept: tuple[Thing, ...] = ()
    notes: tuple[str, ...] = ()


def rm(
    names: Sequence[str],
    out: Output,
    *,
    instances: Sequence[str] = (),
    named_builds: Sequence[str] = (),
    volumes: bool = False,
    confirmed: Sequence[str] = (),
    dry_run: bool = False,
) -> tuple[Removal, ...]:
    """Remove what is named: `names` are of either kind.

    An instance loses its record, project and passwords, and its data with `volumes` only; a build
    the file that its user wrote, and the images that nothing uses. Nothing goes before all was
    looked at and each name was said once more.
    """
    wanted = [_kind_of(name) for name in names]
    wanted += [("instance", name) for name in instances]
    wanted += [("build", name) for name in named_builds]
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        raise UsageError("no name was given", hint="cf rm NAME; `cf status` lists the instances.")
    store = running.instances()
    with interruptible(), ExitStack() as locks:
        if not dry_run:
            for kind, name in wanted:
                if kind == "instance":
                    locks.enter_context(store.lock(name, f"cf rm {name}"))
        with out.waiting("Looking what there is"):
            found = tuple(
                _instance(name, volumes) if kind == "instance" else _build(name)
                for kind, name in wanted
            )
        if dry_run:
            return found
        for one in found:
            for line in (f"To be removed of the {one.kind} '{one.name}':", *_said(one)):
                out.note(line)
        empty = [one.name for one in found if not one.gone]
        asked = [one.name for one in found if one.gone]
        consent.consent(asked, [one for one in confirmed if one not in empty], out)
        for one in found:
            consent.remove(one.gone, out)
    return found


def _said(one: Removal) -> list[str]:
    return [*(consent.lines(one.gone) or ["  nothing"]), *(f"  {note}" for note in one.notes)]


def down_with_volumes(
    name: str | None,
    out: Output,
    *,
    timeout_s: float,
    volumes: bool = True,
    confirmed: Sequence[str] = (),
    dry_run: bool = False,
) -> tuple[str, Stopped | None, tuple[Thing, ...]]:
    """`cf down` that takes the data too: the instance's name, what was stopped, what has gone.

    The name is asked for before anything stops. Cut short it is called again, by that name.
    """
    name = running.pick(name, only_running=True, command="cf down").name
    with out.waiting("Looking what there is"):
        data = tuple(_volumes(name)) if volumes and _is_docker(_record(name)) else ()
    if dry_run:
        return name, None, data
    if data:
        for line in (f"To be removed with '{name}':", *consent.lines(data)):
            out.note(line)
        consent.consent([name], confirmed, out)
    stopped = down(name, out, timeout_s=timeout_s)
    store = running.instances()
    with interruptible(), store.lock(name, f"cf down {name} --volumes"):
        consent.remove(data, out)
        store.remove(name)
    kept = {what: where for what, where in stopped.kept.items() if what != "volume"}
    return name, replace(stopped, kept=kept), data


def _kind_of(name: str) -> tuple[Kind, str]:
    """What the name is the name of; UsageError when of both, ConfigurationError when of neither."""
    instance = _is_instance(name)
    build = name in builds.names()
    if instance and build:
        raise UsageError(
            f"'{name}' is an instance and a build",
            hint=f"Say which: cf rm --instance {name}, or cf rm --build {name}",
        )
    if not instance and not build:
        if belongings.answers() and belongings.images(name):
            return "build", name
        raise ConfigurationError(
            f"there is no instance and no build '{name}'",
            hint="`cf status` lists the instances, `cf list-builds` the builds.",
        )
    return ("instance" if instance else "build"), name


def _is_instance(name: str) -> bool:
    """Whether anything of such an instance is here: its record, its project, its volume."""
    try:
        if running.instances().home(name).is_dir() or paths.project_dir(name).is_dir():
            return True
    except ConfigurationError:  # a name that no instance can have
        return False
    return belongings.answers() and bool(belongings.sized(name))


def _record(name: str) -> Record | None:
    """The record; None if there is none, or one that cannot be read and whose engine has ended."""
    try:
        return running.instances().load(name)
    except ConfigurationError:
        if living(name):
            raise
        return None


def _is_docker(record: Record | None) -> bool:
    if record is None or not record.deployment:
        return True
    return running.deployment(record).launcher == "compose"


def _volumes(name: str) -> list[Thing]:
    """The data of an instance."""
    return [
        Thing("volume", volume.name, volume.size, partial(belongings.remove_volume, volume.name))
        for volume in belongings.sized(name)
    ]


def _instance(name: str, with_data: bool) -> Removal:
    record = _record(name)
    if record is not None and record.phase != "stopped":
        raise ConflictError(f"instance '{name}' runs", hint=f"Stop it first: cf down {name}")
    folder, home = paths.project_dir(name), running.instances().home(name)
    data: list[Thing] = []
    if _is_docker(record) and (record is not None or folder.is_dir() or belongings.answers()):
        left = containers.of_project(f"cf-{name}")
        if left:
            where = left[0].folder or "somewhere else"
            raise ConflictError(
                f"containers of '{name}' are there, started from {where}: "
                f"{', '.join(one.name for one in left)}",
                hint=f"Remove them first: docker compose -p cf-{name} down",
            )
        data = _volumes(name)
    gone = list(data) if with_data else []
    kept = [] if with_data else data
    notes = []
    if folder.is_dir():
        if kept:
            rest = [path for path in sorted(folder.iterdir()) if path.name != _ENV]
            gone += [consent.path("project file", one) for one in rest]
            if (folder / _ENV).is_file():
                kept = [*kept, consent.path("password", folder / _ENV)]
        else:
            gone.append(consent.path("project folder", folder))
    before = folder.with_name(f".{folder.name}.before")
    if before.is_dir():
        gone.append(consent.path("former project folder", before))
    if home.is_dir():  # last: as long as it is there, what is left has a name
        gone.append(consent.path("record", home))
    if kept:
        notes.append(f"The data stay; `cf rm --instance {name} --volumes` removes them too.")
    if not gone and not kept:
        raise ConfigurationError(
            f"there is no instance '{name}'", hint="`cf status` lists the instances."
        )
    return Removal("instance", name, tuple(gone), tuple(kept), tuple(notes))


def _build(name: str) -> Removal:
    """The build's file where its user wrote it, and its images."""
    records, _ = running.instances().all()
    users = [record.name for record in records if record.build == name]
    notes: list[str] = []
    gone: list[Thing] = []
    kept: list[Thing] = []
    try:
        origin, file = builds.find(name)
    except ConfigurationError:
        origin, file = "bundled", Path()
        if not belongings.answers() or not belongings.images(name):
            raise
    else:
        if origin == "path":
            raise UsageError(f"{name} is a file", hint="Name the build, or remove the file itself.")
        if origin == "bundled":
            notes.append(f"The build '{name}' itself comes with cf and stays.")
    if origin != "bundled" and users:
        raise ConflictError(
            f"the build '{name}' is in use by {' and '.join(users)}",
            hint=f"Remove that first: cf down {users[0]}, then cf rm --instance {users[0]}",
        )
    try:
        removable, used = unused_images(belongings.images(name), records)
        gone += removable
        kept += used
    except DockerError as absent:
        notes.append(f"Its images were not looked for: {absent.message}")
    if origin != "bundled":
        gone.append(consent.path("build file", file))
    return Removal("build", name, tuple(gone), tuple(kept), tuple(notes))


def unused_images(
    images: Iterable[belongings.BuiltImage], records: Iterable[Record], *, why: str = ""
) -> tuple[list[Thing], list[Thing]]:
    """Those that can go, and those that stay: in use, or under a name that their user gave."""
    held = belongings.images_of_containers()
    of = {
        str(record.deployment.get("data", {}).get(key)): record.name
        for record in records
        for key in ("image", "tag")
        if record.deployment
    }
    gone, kept = [], []
    for image in images:
        users = [of[name] for name in (image.id, *image.tags) if name in of]
        if users:
            kept.append(_image(image, f"of instance {users[0]}"))
        elif image.id in held:
            kept.append(_image(image, "of a container"))
        elif image.others:
            kept.append(_image(image, f"has the name {image.others[0]} too"))
        else:
            gone.append(_image(image, why))
    return gone, kept


def _image(image: belongings.BuiltImage, why: str) -> Thing:
    return Thing("image", image.name, image.size, partial(belongings.remove_image, image), why)
