"""Finds an install of CompreFace made by upstream's own Compose files: containers, file, volume."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compreface_cli.docker import cli, client
from compreface_cli.docker.labels import FOLDER, LABEL_INSTANCE, PROJECT, SERVICE, VOLUME
from compreface_cli.errors import CfError, ConfigurationError, ConflictError

DATABASE, CORE = "compreface-postgres-db", "compreface-core"
ADMIN, API, UI = "compreface-admin", "compreface-api", "compreface-fe"
# In the order of a start: nginx needs the names of all others.
SERVICES = (DATABASE, CORE, API, ADMIN, UI)
VOLUME_KEY = "postgres-data"  # of the volume in upstream's Compose files
DATA = "/var/lib/postgresql/data"
# In the order in which Compose looks for them.
_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_OVERRIDES = tuple(name.replace("compose.", "compose.override.") for name in _FILES)


@dataclass(frozen=True, slots=True)
class Port:
    """A published port: of the host, and the one inside the container."""

    address: str  # "" means all addresses
    port: int
    inside: int


@dataclass(frozen=True, slots=True)
class Member:
    """A service of an install: its container, or what its Compose file says of it."""

    service: str
    image: str  # name, as the Compose file has it
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # the image's too
    ports: tuple[Port, ...] = ()
    container: str = ""  # id; "" where there is none
    name: str = ""  # of the container
    policy: str = ""  # restart policy of the container: "always", "on-failure:3"
    state: str = ""  # of the container, as Docker names it

    @property
    def runs(self) -> bool:
        """Whether it runs, or Docker is about to start it again."""
        return self.state in ("running", "restarting", "paused")


@dataclass(frozen=True, slots=True)
class Install:
    """An install of upstream's; `members` is empty where only its volume is left."""

    project: str
    folder: str  # from which it was started; "" if that is not known
    volume: str
    members: Mapping[str, Member] = field(default_factory=dict)
    others: tuple[str, ...] = ()  # further services of its project
    moved_to: str = ""  # the folder now, where it was renamed since

    @property
    def has_containers(self) -> bool:
        return any(member.container for member in self.members.values())

    @property
    def runs(self) -> bool:
        return any(member.runs for member in self.members.values())

    @property
    def folder_exists(self) -> bool:
        return bool(self.folder) and Path(self.folder).is_dir()

    @property
    def from_words(self) -> str:
        """Where it comes from, for the user."""
        return self.moved_to or self.folder or f"the Compose project {self.project}"


def find(what: str) -> Install:
    """The install of that folder or Compose project, running, stopped, or its volume alone.

    Raises ConfigurationError when there is none, or it keeps its data in another way; ConflictError
    for what belongs to `cf` itself.
    """
    folder = Path(what).expanduser()
    if folder.is_dir():
        return _of_folder(folder.resolve())
    path = str(folder.absolute())
    rows = _rows()
    of_folder = [row for row in rows if "/" in what and _label(row, FOLDER) == path]
    project = _label(of_folder[0], PROJECT) if of_folder else what
    members = [row for row in rows if _label(row, PROJECT) == project]
    if members:
        return _of_rows(project, members)
    return _of_volume(project, what)


def _of_folder(folder: Path) -> Install:
    document = _document(folder)
    project, services = str(document["name"]), document.get("services") or {}
    if DATABASE not in services or CORE not in services:
        raise ConfigurationError(
            f"{folder} is not a folder of CompreFace: its Compose file has no service {DATABASE} "
            f"or no {CORE}",
            hint="Name the folder with upstream's docker-compose.yml, or the Compose project.",
        )
    rows = _rows()
    own = [
        row
        for row in rows
        if _label(row, PROJECT) == project and _label(row, FOLDER) in (str(folder), "")
    ]
    if not own:  # it may have been started under another project name
        own = [row for row in rows if _label(row, FOLDER) == str(folder)]
    if own:
        return _of_rows(_label(own[0], PROJECT), own)
    # Renamed since: the containers have the fixed names of its file, and a folder that is gone.
    names = {str(service.get("container_name")) for service in services.values()}
    moved = [
        row
        for row in rows
        if row["Names"][0].lstrip("/") in names and not Path(_label(row, FOLDER)).is_dir()
    ]
    if moved:
        old = _label(moved[0], PROJECT)
        found = _of_rows(old, [row for row in rows if _label(row, PROJECT) == old])
        return replace(found, moved_to=str(folder))
    return _of_document(folder, document)


def _document(folder: Path) -> dict[str, Any]:
    """The project in the folder, as Compose reads it; its file may be of the old form."""
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise ConfigurationError(
            f"{folder} has no Compose file",
            hint="Name the folder with upstream's docker-compose.yml, or the Compose project, if "
            "its containers or its volume are still there.",
        )
    more = [folder / name for name in _OVERRIDES if (folder / name).is_file()][:1]
    words = [f"--file={path}" for path in (file, *more)]
    try:
        text = cli.run(
            *("compose", "--ansi=never", f"--project-directory={folder}", *words),
            *("config", "--format=json"),
            doing=f"read {file}",
        )
    except CfError as failed:
        if type(failed) is not CfError:
            raise
        lines = " ".join(failed.details.get("output") or [failed.message])
        raise ConfigurationError(
            f"Compose cannot read {file}: {lines}", hint="Correct it, or name the Compose project."
        ) from failed
    document: dict[str, Any] = json.loads(text)
    return document


def _of_document(folder: Path, document: Mapping[str, Any]) -> Install:
    """The install of a Compose file, of which no container is left."""
    services = document["services"]
    members = {
        name: Member(
            name,
            str(settings.get("image") or ""),
            {
                **_of_image(str(settings.get("image") or "")),
                **{
                    key: str(value)
                    for key, value in (settings.get("environment") or {}).items()
                    if value is not None
                },
            },
            tuple(
                Port(str(port.get("host_ip") or ""), int(port["published"]), int(port["target"]))
                for port in settings.get("ports") or ()
                if str(port.get("published") or "").isdigit()
            ),
        )
        for name, settings in services.items()
        if name in SERVICES
    }
    mounts = [
        mount
        for mount in services[DATABASE].get("volumes") or ()
        if mount.get("target") == DATA and mount.get("type") == "volume"
    ]
    if not mounts:
        raise _no_volume(str(folder))
    declared = (document.get("volumes") or {}).get(mounts[0]["source"]) or {}
    volume = str(declared.get("name") or f"{document['name']}_{mounts[0]['source']}")
    project = str(document["name"])
    _require_volume(volume, project, str(folder))
    others = tuple(sorted(set(services) - set(SERVICES)))
    return Install(project, str(folder), volume, members, others)


def _of_rows(project: str, rows: Iterable[Mapping[str, Any]]) -> Install:
    """The install of the containers in a list."""
    inspected = [client.find("containers", row["Id"], "json") for row in rows]
    present = [row for row in inspected if row is not None]
    for row in present:
        if LABEL_INSTANCE in _labels(row):
            raise _is_ours(_labels(row)[LABEL_INSTANCE])
    by_service: dict[str, Member] = {}
    for row in present:
        member = _member(row)
        known = by_service.get(member.service)
        if known is None or member.runs > known.runs:
            by_service[member.service] = member
    members = {name: by_service[name] for name in SERVICES if name in by_service}
    database = next((row for row in present if _labels(row).get(SERVICE) == DATABASE), None)
    folder = next((_labels(row).get(FOLDER, "") for row in present), "")
    if database is None:
        volumes = _volumes_of(project)
        if not volumes or CORE not in members:
            raise ConfigurationError(
                f"the Compose project {project} is not CompreFace: it has no container of "
                f"{DATABASE}",
                hint=_known_installs(),
            )
        volume = volumes[0]
    else:
        mounts = [
            str(mount["Name"])
            for mount in database.get("Mounts") or ()
            if mount.get("Destination") == DATA and mount.get("Type") == "volume"
        ]
        if not mounts:
            raise _no_volume(folder or project)
        volume = mounts[0]
    others = tuple(sorted(set(by_service) - set(SERVICES)))
    return Install(project, folder, volume, members, others)


def _of_volume(project: str, what: str) -> Install:
    """The install of which only the volume is left."""
    names = _volumes_of(project)
    if not names:
        raise ConfigurationError(
            f"there is no install of CompreFace called {what}: no such folder, no container of a "
            f"Compose project {project}, no volume {project}_{VOLUME_KEY}",
            hint=_known_installs(),
        )
    _require_volume(names[0], project, "")
    return Install(project, "", names[0])


def _member(row: Mapping[str, Any]) -> Member:
    config, host = row["Config"], row.get("HostConfig") or {}
    policy = host.get("RestartPolicy") or {}
    name, retries = str(policy.get("Name") or "no"), int(policy.get("MaximumRetryCount") or 0)
    return Member(
        service=_labels(row).get(SERVICE, ""),
        image=str(config.get("Image") or ""),
        environment=_variables(config.get("Env")),
        ports=tuple(
            Port(str(item.get("HostIp") or ""), int(item["HostPort"]), int(inside[:-4]))
            for inside, items in (host.get("PortBindings") or {}).items()
            if inside.endswith("/tcp")
            for item in items or ()
            if str(item.get("HostPort") or "").isdigit()
        ),
        container=str(row["Id"]),
        name=str(row["Name"]).lstrip("/"),
        policy=f"{name}:{retries}" if retries else name,
        state=str(row["State"].get("Status") or ""),
    )


def _of_image(image: str) -> dict[str, str]:
    """The variables of an image; empty where it is not here."""
    row = client.find("images", image, "json") if image else None
    return _variables((row or {}).get("Config", {}).get("Env"))


def _variables(pairs: Iterable[str] | None) -> dict[str, str]:
    split = (str(pair).partition("=") for pair in pairs or ())
    return {name: value for name, _, value in split}


def _volumes_of(project: str) -> list[str]:
    """The database volumes of a project, that of upstream's key first."""
    usual = f"{project}_{VOLUME_KEY}"
    if client.find("volumes", usual) is not None:
        return [usual]
    wanted = {"label": [f"{PROJECT}={project}", f"{VOLUME}={VOLUME_KEY}"]}
    rows = client.get("volumes", filters=wanted).get("Volumes") or ()
    return sorted(str(row["Name"]) for row in rows)


def _require_volume(volume: str, project: str, folder: str) -> None:
    row = client.find("volumes", volume)
    if row is None:
        where = f"{folder}, and" if folder else "the project"
        raise ConfigurationError(
            f"nothing is left of the install in {where} no volume {volume} exists",
            hint=f"{_known_installs()} If the folder {folder or project} was renamed, name the "
            "Compose project that it had: its former name.",
        )
    labels = row.get("Labels") or {}
    if LABEL_INSTANCE in labels:
        raise _is_ours(labels[LABEL_INSTANCE])


def _is_ours(instance: str) -> ConflictError:
    return ConflictError(
        f"that is the instance '{instance}' of cf already",
        hint=f"`cf status {instance}` shows it.",
        details={"instance": instance},
    )


def _no_volume(where: str) -> ConfigurationError:
    return ConfigurationError(
        f"the database of {where} is not in a Docker volume at {DATA}",
        hint="cf works on volumes only. Dump the database with pg_dump and restore it into a new "
        "instance.",
    )


def _known_installs() -> str:
    """Which installs are here, for a hint."""
    projects = {
        _label(row, PROJECT)
        for row in _rows()
        if _label(row, SERVICE) == DATABASE and not _label(row, LABEL_INSTANCE)
    }
    volumes = client.get("volumes", filters={"label": [f"{VOLUME}={VOLUME_KEY}"]})
    projects |= {
        str((row.get("Labels") or {}).get(PROJECT))
        for row in volumes.get("Volumes") or ()
        if LABEL_INSTANCE not in (row.get("Labels") or {})
    }
    if not projects:
        return "No container and no volume of CompreFace is on this Docker engine."
    return f"Compose projects of CompreFace here: {', '.join(sorted(projects))}."


def _rows() -> list[dict[str, Any]]:
    filters = {"label": [PROJECT]}
    rows: list[dict[str, Any]] = client.get("containers", "json", all="1", filters=filters)
    return rows


def _label(row: Mapping[str, Any], name: str) -> str:
    return str((row.get("Labels") or {}).get(name) or "")


def _labels(row: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = row["Config"].get("Labels") or {}
    return labels
