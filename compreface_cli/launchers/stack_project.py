"""A stack in its project folder: its services' digests, its secrets, and what deploys it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compreface_cli import leftovers
from compreface_cli.docker import cli, stack
from compreface_cli.docker.labels import LABEL_INSTANCE, PROJECT, STACK, VOLUME
from compreface_cli.project.targets import swarm as target
from compreface_cli.project.writer import read_env

CORE, DATABASE = "compreface-core", "compreface-postgres-db"
_DEPLOY_S = 120.0


def document(folder: Path, rendered: str | None = None) -> dict[str, Any]:
    """The stack's file as data, its variables as they stand there; `rendered`: another text."""
    import yaml  # late: `cf status` needs none

    text = rendered or (folder / target.STACK_FILE).read_text("utf-8")
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def digests(read: Mapping[str, Any]) -> dict[str, str]:
    """Service -> SHA-256 of all that its tasks are made from, but for image and number of engines.

    A config's name follows its content, so that a changed one changes the digest.
    """
    found = {}
    for name, service in read["services"].items():
        own = {key: value for key, value in service.items() if key != "image" or name != CORE}
        own["deploy"] = {key: value for key, value in own["deploy"].items() if key != "replicas"}
        used = [each["source"] for each in own.get("configs") or ()]
        used += [each["source"] for each in own.get("secrets") or ()]
        known = {**(read.get("configs") or {}), **(read.get("secrets") or {})}
        text = json.dumps([own, [known[each].get("name") for each in used]], sort_keys=True)
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def wanted(read: Mapping[str, Any]) -> dict[str, int]:
    """Service -> number of its tasks, of those that have one."""
    services = read["services"].items()
    return {
        name: int(service["deploy"]["replicas"])
        for name, service in services
        if "replicas" in service["deploy"]
    }


def deploy(
    project: str,
    folder: Path,
    instance: str,
    *,
    core_image: str,
    in_registry: bool,
    only: str = "",
) -> None:
    """Make the secrets that are missing, and hand the stack to Swarm; does not wait for its tasks.

    `only`: this service alone, of a stack that does not run.
    """
    read = document(folder)
    variables = _secrets(project, folder, instance, read)
    words = (
        *("stack", "deploy", "--detach=true", "--with-registry-auth"),
        f"--resolve-image={'always' if in_registry else 'never'}",
    )
    environment = {**variables, "CORE_IMAGE": core_image}
    with leftovers.folder("cf-plan-") as place:
        file, more = folder / target.STACK_FILE, ["--prune"]
        if only:
            file, more = place / "stack.json", []
            file.write_text(json.dumps(_part(read, only)), encoding="utf-8")
        cli.run(
            *words,
            *more,
            f"--compose-file={file}",
            project,
            doing=f"start the stack {project}",
            environment=environment,
            timeout_s=_DEPLOY_S,
        )


def _part(read: Mapping[str, Any], service: str) -> dict[str, Any]:
    own = read["services"][service]
    secrets = {each["source"] for each in own.get("secrets") or ()}
    parts = {
        "services": {service: own},
        "secrets": {key: each for key, each in read["secrets"].items() if key in secrets},
    }
    return {**parts, **{key: read[key] for key in ("networks", "volumes") if key in read}}


def _secrets(project: str, folder: Path, instance: str, read: Mapping[str, Any]) -> dict[str, str]:
    """The variables that name the secrets in the stack's file; creates those that are missing."""
    env, there, variables = read_env(folder / ".env"), stack.secrets(project), {}
    for key, each in read["secrets"].items():
        if not each.get("external"):
            continue
        name, content = target.secret(project, key, env)
        variables[f"{target.PASSWORDS[key][0]}_SECRET"] = name
        if name not in there:
            _create_secret(name, content, {STACK: project, LABEL_INSTANCE: instance})
    return variables


def _create_secret(name: str, content: str, labels: Mapping[str, str]) -> None:
    """The content goes through a pipe, so that no process has it among its arguments."""
    import tempfile

    given = [f"--label={key}={value}" for key, value in labels.items()]
    doing = f"create the secret {name}"
    with (
        tempfile.TemporaryFile() as errors,
        cli.process("secret", "create", *given, name, "-", doing=doing, errors=errors) as child,
    ):
        child.communicate(f"{content}\n".encode(), timeout=30)
        if child.returncode:
            errors.seek(0)
            raise cli.failure(doing, errors.read().decode(errors="replace"), code=child.returncode)


def create_volume(project: str, folder: Path, name: str) -> None:
    """Create the volume of that name as Compose would, so that both launchers know it as theirs."""
    for key, volume in (document(folder).get("volumes") or {}).items():
        if volume.get("name") == name and not volume.get("external"):
            labels = {**(volume.get("labels") or {}), PROJECT: project, VOLUME: key}
            given = (f"--label={label}={value}" for label, value in labels.items())
            cli.run("volume", "create", *given, name, doing=f"create the volume {name}")


def hold_database(label: str) -> None:
    """Give this node the label of the database's node, unless a node has it."""
    holders = [node for node in stack.nodes() if node.labels.get(label) == "true"]
    if not holders:
        node = stack.this_node()
        cli.run(
            *("node", "update", f"--label-add={label}=true", node),
            doing="hold the database to this node",
        )


def forget_unused(project: str) -> None:
    """Remove the secrets and configs of the stack that none of its services uses."""
    used = stack.in_use(project)
    for kind, known in (("secret", stack.secrets(project)), ("config", stack.configs(project))):
        names = [name for name, id_ in known.items() if id_ not in used]
        if names:  # another `cf` may have removed them, and a task of before may still use one
            cli.run(kind, "rm", *names, doing=f"remove old {kind}s", check=False)
