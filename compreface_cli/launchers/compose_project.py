"""A Compose project as Compose itself reads it: its command, its document, what it would change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compreface_cli import leftovers
from compreface_cli.docker import cli, containers, image
from compreface_cli.docker.labels import PROJECT, VOLUME
from compreface_cli.errors import CfError, ConfigurationError

_OWN = "compose.override.yaml"  # the user's own file in the project's folder


def command(project: str, folder: Path, instead: Path | None = None) -> list[str]:
    """`docker compose` for that project; by its name alone when its folder is gone.

    `instead` is read in the place of its compose.yaml.
    """
    words = ["compose", "--ansi=never", f"--project-name={project}"]
    file = instead or folder / "compose.yaml"
    if file.is_file():
        words += [f"--project-directory={folder}", f"--file={file}"]
        if (folder / _OWN).is_file():
            words.append(f"--file={folder / _OWN}")
    return words


@contextmanager
def command_for(project: str, folder: Path, rendered: str | None) -> Iterator[Sequence[str]]:
    """`docker compose` for that project, with another text in the place of its compose.yaml."""
    if rendered is None:
        yield command(project, folder)
        return
    with leftovers.folder("cf-plan-") as place:
        file = place / "compose.yaml"
        file.write_text(rendered, encoding="utf-8")
        yield command(project, folder, file)


def read(words: Sequence[str], *what: str) -> str:
    """What `docker compose config` says of the project; `words`: its command.

    Raises ConfigurationError with Compose's words when the user's own file is at fault.
    """
    try:
        return cli.run(*words, "config", *what, doing="read the project")
    except CfError as failed:
        raise _users_fault(words, failed) from failed


def _users_fault(words: Sequence[str], failed: CfError) -> CfError:
    own = next((word for word in words if word.endswith(_OWN)), None)
    if own is None or type(failed) is not CfError:
        return failed
    try:
        without = [word for word in words if word != own]
        cli.run(*without, "config", "--quiet", doing="read the project")
    except CfError:
        return failed
    file = own.removeprefix("--file=")
    said = " ".join(failed.details["output"]).replace(f"{file}: ", "")
    return ConfigurationError(
        f"Compose cannot read {file}: {said}",
        hint="Correct it, or move it away: without it the project is right.",
        details=failed.details,
    )


def document(words: Sequence[str]) -> dict[str, Any]:
    """The project as Compose reads it, the user's own file included; `words`: its command."""
    found: dict[str, Any] = json.loads(read(words, "--format=json"))
    return found


def hashes(words: Sequence[str]) -> dict[str, str]:
    """Service -> hash of all that its container is made from, the image's content aside."""
    lines = read(words, "--hash=*").split("\n")
    return {service: sha for service, _, sha in (line.partition(" ") for line in lines)}


def changes(
    project: str, folder: Path, words: Sequence[str], *, unnoticed: str = ""
) -> dict[str, str]:
    """Service -> why `docker compose up` makes its container anew, starts or restarts it.

    Those that depend on the service `unnoticed` do not notice that it changes.
    """
    services = document(words)["services"]
    there = {item.service: item for item in containers.of_project(project, str(folder))}
    found = {}
    for service, sha in hashes(words).items():
        container = there.get(service)
        if container is None:
            found[service] = "it is not there"
        elif container.config_hash != sha:
            found[service] = "its settings have changed"
        elif container.image != image.id_of(services[service]["image"]):
            found[service] = "its image has changed"
        elif container.state != "running":
            found[service] = "it does not run"
    for service, one in services.items():
        needed = [name for name in one.get("depends_on") or () if name in found]
        needed = [containers.short(name) for name in needed if name != unnoticed]
        if needed and service not in found:
            # Compose 2.26 stops such a service and starts it again, later ones may not.
            found[service] = f"it depends on {' and '.join(needed)}"
    return found


def create_volume(project: str, words: Sequence[str], name: str) -> None:
    """Create the volume of that name as Compose would; nothing for one that Compose does not make.

    `words`: the project's command.
    """
    for key, volume in (document(words).get("volumes") or {}).items():
        if volume.get("name") != name or volume.get("external"):
            continue
        labels = {**(volume.get("labels") or {}), PROJECT: project, VOLUME: key}
        options = volume.get("driver_opts") or {}
        cli.run(
            *("volume", "create", f"--driver={volume.get('driver') or 'local'}"),
            *(f"--label={label}={value}" for label, value in labels.items()),
            *(f"--opt={option}={value}" for option, value in options.items()),
            name,
            doing=f"create the volume {name}",
        )


def rejoin(project: str, folder: Path, words: Sequence[str]) -> list[str]:
    """Bring containers back into the networks that somebody has taken them out of.

    Compose itself does not see that. Returns the services in short.
    """
    read = document(words)
    names = {key: one["name"] for key, one in (read.get("networks") or {}).items()}
    found = []
    for container in containers.of_project(project, str(folder)):
        service = read["services"].get(container.service) or {}
        for key, own in (service.get("networks") or {}).items():
            name = names.get(key, "")
            if not name or name in container.networks:
                continue
            aliases = [container.service, container.name, *((own or {}).get("aliases") or ())]
            cli.run(
                *("network", "connect", *(f"--alias={alias}" for alias in aliases)),
                *(name, container.id),
                doing=f"bring {container.name} back into its network",
            )
            found.append(containers.short(container.service))
    return found
