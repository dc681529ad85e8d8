"""A Compose project as Compose reads it: its command, its document, what `up` would change."""

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
    """The arguments of `docker` for that project; by its name alone if its folder is gone.

    `instead` is read in place of its compose.yaml.
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
    """The arguments of `docker` for that project, with `rendered` in place of its compose.yaml."""
    if rendered is None:
        yield command(project, folder)
        return
    with leftovers.folder("cf-plan-") as place:
        file = place / "compose.yaml"
        file.write_text(rendered, encoding="utf-8")
        yield command(project, folder, file)


def read(words: Sequence[str], *what: str) -> str:
    """The output of `docker compose config` for the project; `words`: its command.

    Raises ConfigurationError with Compose's message if the user's own file is at fault.
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
    error = " ".join(failed.details["output"]).replace(f"{file}: ", "")
    return ConfigurationError(
        f"Compose cannot read {file}: {error}",
        hint="Correct it, or move it away: the project is valid without it.",
        details=failed.details,
    )


def document(words: Sequence[str]) -> dict[str, Any]:
    """The project as Compose reads it, including the user's own file; `words`: its command."""
    project: dict[str, Any] = json.loads(read(words, "--format=json"))
    return project


def hashes(words: Sequence[str]) -> dict[str, str]:
    """Service -> hash of all that its container is made from, without the image's content."""
    lines = read(words, "--hash=*").split("\n")
    return {service: sha for service, _, sha in (line.partition(" ") for line in lines)}


def changes(
    project: str, folder: Path, words: Sequence[str], *, unnoticed: str = ""
) -> dict[str, str]:
    """Service -> why `docker compose up` recreates its container, starts or restarts it.

    A change of the service `unnoticed` does not affect those that depend on it.
    """
    services = document(words)["services"]
    there: dict[str, list[containers.Container]] = {}
    for item in containers.of_project(project, str(folder)):
        there.setdefault(item.service, []).append(item)
    causes = {}
    for service, sha in hashes(words).items():
        present = there.get(service, [])
        if not present:
            causes[service] = "its container does not exist"
        elif any(each.config_hash != sha for each in present):
            causes[service] = "its settings have changed"
        elif {each.image for each in present} != {image.id_of(services[service]["image"])}:
            causes[service] = "its image has changed"
        elif any(each.state != "running" for each in present):
            causes[service] = "it is not running"
    for service, settings in services.items():
        needed = [name for name in settings.get("depends_on") or () if name in causes]
        needed = [containers.short(name) for name in needed if name != unnoticed]
        if needed and service not in causes:
            # Compose 2.26 stops such a service and starts it again, later ones may not.
            causes[service] = f"it depends on {' and '.join(needed)}"
    return causes


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
    """Reconnect containers to networks of the project that they were disconnected from.

    Compose does not notice that. Returns the short names of their services.
    """
    read = document(words)
    names = {key: network["name"] for key, network in (read.get("networks") or {}).items()}
    rejoined = []
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
                doing=f"reconnect {container.name} to its network",
            )
            rejoined.append(containers.short(container.service))
    return rejoined
