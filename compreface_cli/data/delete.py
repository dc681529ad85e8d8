"""`cf data delete`: removes an instance with its data, after a backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.data.backup import backup
from compreface_cli.deploy import adoption, project_folder, running, unfinished
from compreface_cli.docker import belongings, client
from compreface_cli.docker.labels import LABEL_INSTANCE
from compreface_cli.docker.postgres import Session
from compreface_cli.errors import CfError, ConfigurationError, UsageError
from compreface_cli.facts import contents, places
from compreface_cli.facts.places import Place
from compreface_cli.instance.records import Record
from compreface_cli.removal import things
from compreface_cli.removal.things import Thing
from compreface_cli.terminal.output import Output

_BACKUP = "backup"  # key of the record's task


@dataclass(frozen=True, slots=True)
class Held:
    """What the database holds; `unknown`: why it could not be read."""

    subjects: int = 0
    embeddings: int = 0
    images: int = 0
    image_bytes: int = 0
    unknown: str = ""

    @property
    def words(self) -> str:
        if self.unknown:
            return f"what the database holds is not known: {self.unknown}"
        size = things.size_words(self.image_bytes)
        return (
            f"to be lost: {self.subjects} subjects, {self.embeddings} embeddings, "
            f"{self.images} images ({size})"
        )


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was removed, or would be; `backup`: the archive, "" without one.

    `backs_up`: a dry run that would write a backup first.
    """

    instance: str
    change: str  # "deleted", "dry run"
    held: Held | None  # None: there was no volume any more
    removed: tuple[Thing, ...]
    backup: str = ""
    backs_up: bool = False

    def as_dict(self) -> dict[str, Any]:
        held = self.held
        names = ("subjects", "embeddings", "images", "image_bytes", "unknown")
        return {
            "instance": self.instance,
            "change": self.change,
            "held": {name: getattr(held, name) for name in names} if held else None,
            "backup": self.backup,
            "backs_up": self.backs_up,
            "removed": [thing.row() for thing in self.removed],
        }


def delete(
    name: str,
    out: Output,
    *,
    confirmed: Sequence[str] = (),
    with_backup: bool = True,
    volume: str | None = None,
    dry_run: bool = False,
) -> Deleted:
    """Remove the instance: containers, volume, project folder with its passwords, and record.

    A volume that `cf` did not make is removed only if `volume` names it. A run that was cut off
    after its backup goes on without another one. Raises UsageError unless the name is confirmed.
    """
    with interruptible(), running.instances().lock(name, f"cf data delete {name}"):
        record = running.pick(name, only_running=False)
        adoption.refuse_half(record)
        if volume is None:
            adoption.refuse_removal(record)
        command = f"cf data delete {name}"
        goes_on = record.unfinished and record.command == command
        if goes_on:
            out.note(f"An earlier `{command}` was cut off; going on with it")
        place = _place(record)
        _refuse_foreign(place, volume, name)
        with out.waiting("Looking at what it holds"):
            held = _held(place) if place else None
            listed = tuple(_things(record, place))
        if dry_run:
            first = with_backup and place is not None and not goes_on
            return Deleted(name, "dry run", held, listed, backs_up=first)
        out.note(f"To be removed of '{name}':")
        for line in (*([held.words] if held else []), *things.lines(listed)):
            out.note(line)
        things.confirm([name], confirmed, out)
        made = str(record.task.get(_BACKUP, "")) if goes_on else ""
        if with_backup and place is not None and not made:
            made = str(backup(place, out).path)
        running.instances().save(
            replace(record, phase="stopping", command=command, task={_BACKUP: made})
        )
        with out.progress(f"Stopping '{name}'"):
            for known in unfinished.deployments(record):
                launcher = running.launcher(known.launcher)
                launcher.stop(known)
                launcher.remove(known)
        belongings.forget_engines(name)
        things.remove(listed, out)
        return Deleted(name, "deleted", held, listed, made)


def _place(record: Record) -> Place | None:
    """The database; None where its volume is gone. ConfigurationError for an engine alone."""
    place = places.of_record(record)
    return place if client.find("volumes", place.volume) is not None else None


def _refuse_foreign(place: Place | None, named: str | None, instance: str) -> None:
    if named is not None and (place is None or place.volume != named):
        has = f"its volume is {place.volume}" if place else "it has no volume any more"
        raise UsageError(f"--volume {named}: {has}", hint="Nothing was removed.")
    if place is None or named is not None:
        return
    if place.volume not in belongings.volumes(f"{LABEL_INSTANCE}={instance}"):
        raise UsageError(
            f"cf did not make the volume {place.volume} of '{instance}'",
            hint=f"To remove it with the instance: --volume {place.volume}. To keep it and forget "
            f"the instance: cf down {instance}, then cf rm --instance {instance}",
        )


def _held(place: Place) -> Held:
    try:
        with place.opened() as server, Session(server) as session:
            if not contents.has_faces(session):
                return Held()
            faces = sum(row["faces"] for row in contents.by_calculator(session) if not row["demo"])
            images = contents.images(session)
            return Held(
                contents.subjects(session), faces, int(images["count"]), int(images["bytes"])
            )
    except ConfigurationError:
        raise
    except CfError as error:
        return Held(unknown=error.message)


def _things(record: Record, place: Place | None) -> list[Thing]:
    """In the order of their removal: the record is last, so that a cut-off run is known."""
    listed = []
    if place is not None:
        sizes = {volume.name: volume.size for volume in belongings.sized(record.name)}
        remove = partial(belongings.remove_volume, place.volume)
        listed.append(Thing("volume", place.volume, sizes.get(place.volume), remove))
    folder = paths.project_dir(record.name)
    for kind, path in (
        ("project folder", folder),
        ("former project folder", project_folder.kept(folder)),
        ("record", running.instances().home(record.name)),
    ):
        if Path(path).is_dir():
            listed.append(things.of_path(kind, path))
    return listed
