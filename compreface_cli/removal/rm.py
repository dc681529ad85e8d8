"""`cf rm`: removes an instance, or a user's build and its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.deploy import adoption, running
from compreface_cli.deploy.down import Stopped, down, living
from compreface_cli.docker import belongings, containers
from compreface_cli.docker import image as docker_image
from compreface_cli.docker.image import Image
from compreface_cli.errors import ConfigurationError, ConflictError, DockerError, UsageError
from compreface_cli.instance.records import Record
from compreface_cli.plan import data as existing
from compreface_cli.project import writer
from compreface_cli.removal import things
from compreface_cli.removal.things import Thing
from compreface_cli.terminal.output import Output

Kind = Literal["instance", "build"]
_ENV = ".env"  # of a project: has the database's password


@dataclass(frozen=True, slots=True)
class Removal:
    """What is removed and what is kept of an instance or a build."""

    kind: Kind
    name: str
    removed: tuple[Thing, ...]
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
    """Remove instances and builds; `names` may be of either kind.

    Of an instance the record, project and passwords are removed, and with `volumes` its data; of a
    build the file that its user wrote, and images that nothing uses. Nothing is removed before all
    names were checked and confirmed.
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
        with out.waiting("Looking for what belongs to it"):
            removals = tuple(
                _instance(name, volumes) if kind == "instance" else _build(name)
                for kind, name in wanted
            )
        if dry_run:
            return removals
        for removal in removals:
            out.note(f"To be removed of the {removal.kind} '{removal.name}':")
            notes = [f"  {note}" for note in removal.notes]
            for line in (*(things.lines(removal.removed) or ["  nothing"]), *notes):
                out.note(line)
        empty = [removal.name for removal in removals if not removal.removed]
        to_confirm = [removal.name for removal in removals if removal.removed]
        things.confirm(to_confirm, [name for name in confirmed if name not in empty], out)
        for removal in removals:
            things.remove(removal.removed, out)
    return removals


def down_with_volumes(
    name: str | None,
    out: Output,
    *,
    timeout_s: float,
    volumes: bool = True,
    confirmed: Sequence[str] = (),
    dry_run: bool = False,
) -> tuple[str, Stopped | None, tuple[Thing, ...]]:
    """`cf down --volumes`: the instance's name, what was stopped, and the data that were removed.

    The name must be confirmed before anything stops. Run again, it continues an interrupted run.
    """
    name = running.pick(name, only_running=True, command="cf down").name
    adoption.refuse_half(_record(name))
    if volumes:
        adoption.refuse_removal(_record(name))
    with out.waiting("Looking for what belongs to it"):
        data = tuple(_volumes(name)) if volumes and _is_docker(_record(name)) else ()
        _refuse_shared(name, data)
    if dry_run:
        return name, None, data
    if data:
        for line in (f"To be removed with '{name}':", *things.lines(data)):
            out.note(line)
        things.confirm([name], confirmed, out)
    stopped = down(name, out, timeout_s=timeout_s)
    store = running.instances()
    with interruptible(), store.lock(name, f"cf down {name} --volumes"):
        things.remove(data, out)
        store.remove(name)
    removed = {thing.name for thing in data}
    kept = {what: where for what, where in stopped.kept.items() if where not in removed}
    return name, replace(stopped, kept=kept), data


def _kind_of(name: str) -> tuple[Kind, str]:
    """Whether the name is of an instance or a build; raises UsageError when it is both."""
    instance = _is_instance(name)
    build = name in builds.names()
    if instance and build:
        raise UsageError(
            f"'{name}' is both an instance and a build",
            hint=f"Choose one: cf rm --instance {name}, or cf rm --build {name}",
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
    """Whether such an instance has a record, a project or a volume."""
    try:
        if running.instances().home(name).is_dir() or paths.project_dir(name).is_dir():
            return True
    except ConfigurationError:  # a name that no instance can have
        return False
    return belongings.answers() and bool(belongings.sized(name))


def _record(name: str) -> Record | None:
    """The record; None if there is none, or it cannot be read and its engine has ended."""
    try:
        return running.instances().load(name)
    except ConfigurationError:
        if living(name):
            raise
        return None


def _is_docker(record: Record | None) -> bool:
    if record is None or not record.deployment:
        return True
    return running.deployment(record).launcher != "process"


def _volumes(name: str) -> list[Thing]:
    """The data volumes of an instance."""
    return [
        Thing("volume", volume.name, volume.size, partial(belongings.remove_volume, volume.name))
        for volume in belongings.sized(name)
    ]


def _existing(name: str, record: Record | None) -> list[Thing]:
    """The volume with existing data that the instance runs on, which is not its own to remove."""
    data = existing.of_record(record.plan) if record else None
    volume = data.volume if data else writer.rendered_for(paths.project_dir(name)).volume
    why = "it was there before the instance"
    return [Thing("volume", volume, None, lambda: None, why)] if volume else []


def _refuse_shared(name: str, data: Sequence[Thing]) -> None:
    """Raise ConflictError if another instance runs on one of these volumes."""
    volumes = {thing.name for thing in data}
    for record in running.instances().all()[0]:
        other = existing.of_record(record.plan)
        if record.name != name and other is not None and other.volume in volumes:
            raise ConflictError(
                f"the instance '{record.name}' runs on the data of '{name}', in the volume "
                f"{other.volume}",
                hint=f"Remove that one first: cf rm --instance {record.name}",
                details={"instance": record.name, "volume": other.volume},
            )


def _instance(name: str, with_data: bool) -> Removal:
    record = _record(name)
    adoption.refuse_removal(record)
    if record is not None and record.phase != "stopped":
        raise ConflictError(f"instance '{name}' is running", hint=f"Stop it first: cf down {name}")
    folder, home = paths.project_dir(name), running.instances().home(name)
    data: list[Thing] = []
    if _is_docker(record) and (record is not None or folder.is_dir() or belongings.answers()):
        remaining = containers.of_project(f"cf-{name}")
        if remaining:
            where = remaining[0].folder or "another folder"
            raise ConflictError(
                f"'{name}' still has containers, started from {where}: "
                f"{', '.join(container.name for container in remaining)}",
                hint=f"Remove them first: docker compose -p cf-{name} down",
            )
        data = _volumes(name)
    if with_data:
        _refuse_shared(name, data)
    removed = list(data) if with_data else []
    kept = [] if with_data else data
    own = list(kept)
    kept = [*kept, *_existing(name, record)]
    notes = []
    if folder.is_dir():
        if kept:
            rest = [path for path in sorted(folder.iterdir()) if path.name != _ENV]
            removed += [things.of_path("project file", path) for path in rest]
            if (folder / _ENV).is_file():
                kept = [*kept, things.of_path("password", folder / _ENV)]
        else:
            removed.append(things.of_path("project folder", folder))
    before = folder.with_name(f".{folder.name}.before")
    if before.is_dir():
        removed.append(things.of_path("former project folder", before))
    in_docker = _is_docker(record) and belongings.answers()
    kept_engines = belongings.kept_engines(name) if in_docker else {}
    removed += [
        Thing("image", tag, None, partial(belongings.forget_engines, name), "of before an upgrade")
        for tag in kept_engines
    ]
    if home.is_dir():  # last, so that an interrupted run can be repeated by the same name
        removed.append(things.of_path("record", home))
    if own:
        notes.append(f"The data are kept; `cf rm --instance {name} --volumes` removes them too.")
    if not removed and not kept:
        raise ConfigurationError(
            f"there is no instance '{name}'", hint="`cf status` lists the instances."
        )
    return Removal("instance", name, tuple(removed), tuple(kept), tuple(notes))


def _build(name: str) -> Removal:
    """The build file, if the user wrote it, and the build's images."""
    records, _ = running.instances().all()
    users = [record.name for record in records if record.build == name]
    notes: list[str] = []
    removed: list[Thing] = []
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
            notes.append(f"The build '{name}' itself comes with cf and is kept.")
    if origin != "bundled" and users:
        raise ConflictError(
            f"the build '{name}' is in use by {' and '.join(users)}",
            hint=f"Remove that first: cf down {users[0]}, then cf rm --instance {users[0]}",
        )
    shadows = origin != "bundled" and (resources.builds_dir() / f"{name}.yaml").is_file()
    try:
        removable, used = unused_images(belongings.images(name), records)
        if shadows and removable:
            notes.append(
                "The images are kept, since they may be of the build of that name that comes with "
                f"cf; `cf rm --build {name}` then removes those that nothing uses."
            )
        removed += [] if shadows else removable
        kept += [*removable, *used] if shadows else used
    except DockerError as error:
        notes.append(f"Its images were not looked for: {error.message}")
    if origin == "imported":
        removed.append(things.of_path("imported build", file.parent))
    elif origin != "bundled":
        removed.append(things.of_path("build file", file))
    return Removal("build", name, tuple(removed), tuple(kept), tuple(notes))


def unused_images(
    images: Iterable[Image], records: Iterable[Record], *, why: str = ""
) -> tuple[list[Thing], list[Thing]]:
    """The images that can be removed, and those to keep: in use, or with a tag of the user's."""
    in_containers = belongings.images_of_containers()
    instances = {
        str(record.deployment.get("data", {}).get(key)): record.name
        for record in records
        for key in ("image", "tag")
        if record.deployment
    }
    removable, kept = [], []
    for image in images:
        users = [instances[name] for name in (image.id, *image.tags) if name in instances]
        if users:
            kept.append(_image(image, f"of instance {users[0]}"))
        elif image.id in in_containers:
            kept.append(_image(image, "of a container"))
        elif image.others:
            kept.append(_image(image, f"also tagged {image.others[0]}"))
        else:
            removable.append(_image(image, why))
    return removable, kept


def _image(image: Image, why: str) -> Thing:
    return Thing("image", image.name, image.size, partial(docker_image.remove, image), why)
