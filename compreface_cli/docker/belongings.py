"""What `cf` has in Docker, known by its labels: an instance's volumes, a build's images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compreface_cli.docker import cli, containers
from compreface_cli.docker.labels import IMAGE, LABEL_BUILD, LABEL_INSTANCE
from compreface_cli.errors import CfError, DockerError

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True, slots=True)
class Volume:
    """`size` in bytes to three digits; None: Docker did not say."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that `cf` built; `size` in bytes, what it shares with others counted."""

    id: str
    build: str
    tags: tuple[str, ...]
    size: int

    @property
    def others(self) -> tuple[str, ...]:
        """The names that its user has given it."""
        return tuple(tag for tag in self.tags if not tag.startswith(f"{IMAGE}:"))

    @property
    def name(self) -> str:
        """Its name, or its id when a newer image has taken that."""
        return self.tags[0] if self.tags else self.id


def answers() -> bool:
    """Whether a Docker engine answers."""
    try:
        cli.run("version", doing="ask the Docker engine", timeout_s=20)
    except DockerError:
        return False
    return True


def volumes(instance: str) -> list[Volume]:
    """The volumes that `cf` made for the instance."""
    names = cli.run(
        "volume",
        "ls",
        "--quiet",
        f"--filter=label={LABEL_INSTANCE}={instance}",
        doing=f"list the volumes of {instance}",
    ).split()
    sizes = _volume_sizes() if names else {}
    return [Volume(name, sizes.get(name)) for name in sorted(names)]


def _volume_sizes() -> dict[str, int | None]:
    """Docker measures them all anew for this; a slow disk is not waited for."""
    try:
        rows: Any = cli.ask(
            "system", "df", "--verbose", "--format={{json .Volumes}}", doing="measure the volumes"
        )
    except (CfError, ValueError):
        return {}
    return {row["Name"]: _bytes(row.get("Size", "")) for row in rows or ()}


def _bytes(text: str) -> int | None:
    found = re.fullmatch(r"([0-9.]+)([kMGT]?B)", text)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def remove_volume(name: str) -> None:
    cli.run("volume", "rm", name, doing=f"remove the volume {name}")


def images(build: str | None = None) -> list[BuiltImage]:
    """The images that `cf` built, for one build or for any; those without a name too."""
    label = LABEL_BUILD if build is None else f"{LABEL_BUILD}={build}"
    ids = cli.run(
        "image",
        "ls",
        "--quiet",
        "--no-trunc",
        f"--filter=label={label}",
        doing="list the images of cf",
    ).split()
    if not ids:
        return []
    text = cli.run(
        "image",
        "inspect",
        "--format={{json .}}",
        *dict.fromkeys(ids),
        doing="look at the images of cf",
        check=False,  # one may be gone by now
    )
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    found = [
        BuiltImage(
            row["Id"],
            row["Config"]["Labels"][LABEL_BUILD],
            tuple(sorted(row.get("RepoTags") or ())),
            int(row.get("Size") or 0),
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.build, one.name))


def images_of_containers() -> frozenset[str]:
    """The ids of the images that any container, running or not, was made from."""
    ids = cli.run("ps", "--all", "--quiet", "--no-trunc", doing="list the containers")
    return frozenset(one.image for one in containers.inspect(*ids.split())) if ids else frozenset()


def remove_image(image: BuiltImage) -> None:
    """Remove its names and with the last one the image; Docker refuses while it is in use."""
    names: Iterable[str] = image.tags or (image.id,)
    cli.run("image", "rm", *names, doing=f"remove the image {image.name}")
