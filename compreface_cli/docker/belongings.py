"""The volumes and images that `cf` made in Docker, identified by their labels."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from compreface_cli.docker import cli, client, image
from compreface_cli.docker.image import Image
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_INSTANCE
from compreface_cli.errors import DockerError

KEPT = "cf-before/"  # repository of the tags that keep the engines of before an upgrade


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume; `size` in bytes, None if it is not known."""

    name: str
    size: int | None


def answers() -> bool:
    """Whether a Docker engine answers."""
    try:
        client.get("version", timeout_s=20)
    except DockerError:
        return False
    return True


def volumes(label: str, doing: str = "") -> list[str]:
    """The names of the volumes that have a `label` or `label=value`."""
    document = client.get("volumes", doing=doing, filters={"label": [label]})
    return sorted(row["Name"] for row in document.get("Volumes") or ())


def sized(instance: str) -> list[Volume]:
    """The volumes that `cf` made for the instance."""
    names = volumes(f"{LABEL_INSTANCE}={instance}", f"list the volumes of {instance}")
    sizes = volume_sizes() if names else {}
    return [Volume(name, sizes.get(name)) for name in names]


def volume_sizes() -> dict[str, int | None]:
    """Bytes of each volume; none on a slow disk, since Docker measures all for this request."""
    try:
        rows = client.get("system", "df", type="volume")["Volumes"]
    except DockerError:
        return {}
    sizes = {row["Name"]: (row.get("UsageData") or {}).get("Size", -1) for row in rows or ()}
    return {name: size if size >= 0 else None for name, size in sizes.items()}


def remove_volume(name: str) -> None:
    cli.run("volume", "rm", name, doing=f"remove the volume {name}")


def images(build: str | None = None) -> list[Image]:
    """The images that `cf` built, for one build or for all; unnamed ones too."""
    label = LABEL_BUILD if build is None else f"{LABEL_BUILD}={build}"
    built = image.listed(label, doing="list the images of cf")
    return sorted(built, key=lambda item: (item.build, item.name))


def kept_engine(instance: str, id_: str) -> str:
    """The tag that keeps the engine's image of that id for a rollback of the instance."""
    return f"{KEPT}{instance}:{id_.removeprefix('sha256:')[:12]}"


def kept_engines(instance: str) -> dict[str, str]:
    """Id by tag of the images that are kept for a rollback of the instance."""
    rows = client.get("images", "json", filters={"reference": [f"{KEPT}{instance}"]})
    return {
        tag: str(row["Id"])
        for row in rows
        for tag in row.get("RepoTags") or ()
        if tag.startswith(f"{KEPT}{instance}:")
    }


def forget_engines(instance: str, *, but: Container[str] = ()) -> None:
    """Remove the tags of kept images, and the images that have no other; not those in `but`."""
    for tag, id_ in kept_engines(instance).items():
        if id_ not in but:
            cli.run("image", "rm", tag, doing=f"remove {tag}", check=False)


def images_of_containers() -> frozenset[str]:
    """The ids of the images that any container, running or not, was made from."""
    rows = client.get("containers", "json", doing="list the containers", all="1")
    return frozenset(row["ImageID"] for row in rows)
