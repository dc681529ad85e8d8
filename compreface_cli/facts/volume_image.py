"""The image of PostgreSQL that can read a volume which no container mounts any more."""

from __future__ import annotations

from compreface_cli.config import paths, settings
from compreface_cli.docker import image
from compreface_cli.facts import database
from compreface_cli.instance.records import Instances

_TRIED = 6


def fitting(volume: str) -> str:
    """A local image whose PostgreSQL has the major version that wrote the volume; "" without one.

    The image of the settings goes first, then those of instances, then others by their names.
    """
    wrote = ""
    for name in _candidates()[:_TRIED]:
        if wrote:
            server = database.server_of(name)
        else:
            folder = database.folder_of(volume, name)
            wrote, server = folder.written_by, folder.server
        if wrote and server == wrote:
            return name
    return ""


def _candidates() -> list[str]:
    chosen = settings.resolve()
    wanted = chosen.get("postgres_image") or (
        f"{chosen.get('registry')}compreface-postgres-db:{chosen.get('postgres_version')}"
    )
    used = [
        str((record.plan.get("stack") or {}).get("postgres_image") or "")
        for record in Instances(paths.instances_dir()).all()[0]
    ]
    local = [tag for each in image.listed() for tag in each.tags]
    named = [tag for tag in local if "postgres" in tag.rpartition("/")[2]]
    return [name for name in dict.fromkeys([wanted, *used, *named]) if name in local]
