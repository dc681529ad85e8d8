"""Where face data is: the databases of instances, and volumes of CompreFace's own installs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from compreface_cli.config import paths, settings
from compreface_cli.docker import client, containers, postgres
from compreface_cli.docker.containers import Container
from compreface_cli.docker.labels import LABEL_AT_REST, LABEL_INSTANCE, PROJECT, VOLUME
from compreface_cli.docker.postgres import DATA, Server
from compreface_cli.errors import ConfigurationError
from compreface_cli.facts import volume_image
from compreface_cli.instance.records import Instances, Record

# CompreFace's own Compose files; cf uses the same names.
COMPOSE_VOLUME = "postgres-data"
USER, DATABASE = "postgres", "frs"


@dataclass(frozen=True, slots=True)
class Place:
    """A volume with a database, and how to reach it.

    `container`: id of the container that mounts it as its data folder, running or not. `image`: the
    image of its PostgreSQL, "" if it is not known.
    """

    volume: str
    instance: str = ""  # "": no instance of cf runs on it
    project: str = ""  # of Compose
    image: str = ""
    user: str = USER
    database: str = DATABASE
    container: str = ""
    running: bool = False
    record: Record | None = None

    @property
    def name(self) -> str:
        """How users name it: the instance, else the volume."""
        return self.instance or self.volume

    def readable(self) -> Place:
        """The place with an image that can read it, where one is known or can be found here.

        No container says it of a volume whose project is gone.
        """
        if self.image or self.running:
            return self
        return replace(self, image=volume_image.fitting(self.volume))

    @contextmanager
    def opened(self, *, start_s: float = postgres.START_S) -> Iterator[Server]:
        """Its server: the one that runs, else a temporary one without a network.

        `start_s`: after so many seconds without an answer the temporary one is given up.

        The caller holds the instance's lock. Raises ConflictError if another container runs on the
        volume, ConfigurationError if no image is known that can read it.
        """
        if self.running:
            postgres.refuse_used(self.volume, but=self.container)
            yield Server(self.container, self.user, self.database)
            return
        image = self.readable().image
        if not image:
            raise ConfigurationError(
                f"no PostgreSQL image on this machine can read the volume {self.volume}",
                hint="Pull one of the same major version and name it: CF_POSTGRES_IMAGE=IMAGE",
            )
        with postgres.at_rest(
            self.volume, image, user=self.user, database=self.database, start_s=start_s
        ) as server:
            yield server


def of_record(record: Record) -> Place:
    """The database of an instance; raises ConfigurationError if `cf` runs none for it."""
    data = record.deployment.get("data") or {}
    known, volume = data.get("database"), data.get("volume")
    if elsewhere := data.get("elsewhere"):
        raise ConfigurationError(
            f"the data of '{record.name}' is in a database elsewhere, which cf uses and never "
            f"copies or changes: {elsewhere['host']}:{elsewhere['port']}/{elsewhere['name']}",
            hint=f"PostgreSQL's own programs do: pg_dump --format=custom {_url(elsewhere)} "
            "> faces.dump, and pg_restore. docs/database.md says what to use for each command.",
        )
    if not known or not volume:
        raise ConfigurationError(
            f"the instance '{record.name}' has no database of its own",
            hint="Only an instance with the full stack has: cf status shows them.",
        )
    mounting = _mounting(volume)
    stack = record.plan.get("stack") or {}
    return Place(
        volume=volume,
        instance=record.name,
        project=str(data.get("project") or ""),
        image=mounting.image if mounting else str(stack.get("postgres_image") or ""),
        user=str(known["user"]),
        database=str(known["name"]),
        container=mounting.id if mounting else "",
        running=mounting is not None and mounting.active,
        record=record,
    )


def _url(elsewhere: Mapping[str, Any]) -> str:
    """The address for PostgreSQL's own programs, without the password, quoted for a shell."""
    host = str(elsewhere["host"])
    host = f"[{host}]" if ":" in host else host
    user, name = (quote(str(elsewhere[part]), safe="") for part in ("user", "name"))
    return shlex.quote(
        f"postgresql://{user}@{host}:{elsewhere['port']}/{name}?sslmode={elsewhere['sslmode']}"
    )


def place_of(name: str) -> Place:
    """The database of the instance or in the volume with that name; an instance goes first.

    Raises ConfigurationError if there is neither.
    """
    try:
        record = Instances(paths.instances_dir()).load(name)
    except ConfigurationError:
        record = None  # a volume's name may be none of an instance
    if record is not None:
        return of_record(record)
    row = client.find("volumes", name, doing="look up the volume")
    if row is None:
        raise ConfigurationError(
            f"there is no instance and no volume '{name}'",
            hint="`cf data list` shows all face data on this machine.",
        )
    return _of_volume(name, (row.get("Labels") or {}).get(PROJECT, ""))


def places() -> list[Place]:
    """All databases of instances, then all other volumes that look like one of CompreFace."""
    records, _ = Instances(paths.instances_dir()).all()
    result = []
    for record in records:
        data = record.deployment.get("data") or {}
        if data.get("volume") and data.get("database"):
            result.append(of_record(record))
    known, mounted = {place.volume for place in result}, _mounted_by_compreface()
    rows = client.get("volumes", doing="list the volumes").get("Volumes") or ()
    for row in sorted(rows, key=lambda row: str(row["Name"])):
        labels = row.get("Labels") or {}
        ours = labels.get(VOLUME) == COMPOSE_VOLUME or LABEL_INSTANCE in labels
        if row["Name"] not in known and (ours or row["Name"] in mounted):
            result.append(_of_volume(row["Name"], labels.get(PROJECT, "")))
    return result


def _of_volume(volume: str, project: str) -> Place:
    mounting = _mounting(volume)
    if mounting is None:
        chosen = settings.resolve()
        user, name = chosen.get("postgres_user"), chosen.get("postgres_db")
        return Place(volume, project=project, user=user, database=name)
    server = postgres.of_container(mounting.id, database="")
    database = server.database if server.database != server.user else DATABASE
    return Place(
        volume=volume,
        project=project or mounting.project or "",
        image=mounting.image,
        user=server.user,
        database=database,
        container=mounting.id,
        running=mounting.active,
    )


def _mounted_by_compreface() -> set[str]:
    """The data folders of all containers of CompreFace, such as its single container."""
    rows = client.get("containers", "json", doing="list the containers", all="1")
    return {
        str(mount["Name"])
        for row in rows
        if "compreface" in f"{row.get('Image')} {row.get('Names')}"
        for mount in row.get("Mounts") or ()
        if mount.get("Destination") == DATA and mount.get("Name")
    }


def _mounting(volume: str) -> Container | None:
    """The container whose data folder the volume is; one that runs goes before stopped ones."""
    using = sorted(containers.listed(volume=volume), key=lambda item: not item.active)
    for container in using:
        if LABEL_AT_REST in container.labels and not container.active:
            continue  # a temporary server of cf that is being removed
        row = client.find("containers", container.id, "json") or {}
        for mount in row.get("Mounts") or ():
            if mount.get("Name") == volume and mount.get("Destination") == DATA:
                return container
    return None
