"""An instance that `cf data restore` is making: its record meanwhile, and what a cut one leaves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from compreface_cli.config import paths
from compreface_cli.docker import belongings, cli, client, containers
from compreface_cli.docker.labels import LABEL_AT_REST, LABEL_RESTORE
from compreface_cli.instance.records import Instances, Record

_KEY = "restore"  # in the deployment's data: the id that the volume's label has, too
_FOLDER = "folder_made"


def begun(record: Record, identity: str, *, folder_made: bool, command: str) -> Record:
    """The record before anything is made; `folder_made`: its project folder is new."""
    data = {**record.deployment["data"], _KEY: identity, _FOLDER: folder_made}
    deployment = {**record.deployment, "data": data}
    return replace(record, phase="starting", deployment=deployment, command=command)


def is_of(record: Record | None) -> bool:
    """Whether the record is of a restore that has not ended."""
    return record is not None and record.unfinished and bool(_data(record).get(_KEY))


def drop(record: Record) -> None:
    """Remove all that the restore has made: nobody has used it, and the backup is still there."""
    data = _data(record)
    volume = str(data["volume"])
    row = client.find("volumes", volume, doing=f"look up the volume {volume}")
    if row is not None and (row.get("Labels") or {}).get(LABEL_RESTORE) == data[_KEY]:
        for container in containers.listed(f"{LABEL_AT_REST}={volume}"):
            cli.run("rm", "--force", container.id, doing="remove a container", check=False)
        belongings.remove_volume(volume)
    if data.get(_FOLDER):
        shutil.rmtree(Path(data["folder"]), ignore_errors=True)
    Instances(paths.instances_dir()).remove(record.name)


def _data(record: Record) -> dict[str, Any]:
    return dict(record.deployment.get("data") or {})
