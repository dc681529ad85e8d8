"""The versions of an instance's stack: those that run, and those that its next start takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compreface_cli import __version__
from compreface_cli.checks import schema
from compreface_cli.errors import CfError
from compreface_cli.instance.history import Versions
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment
from compreface_cli.plan.plan import Plan

SERVICES = ("admin", "api", "fe", "postgres")


def settled(plan: Plan, old: Record | None) -> Plan:
    """The plan with the images that `cf upgrade` or `cf rollback` chose, where none is set."""
    if old is None or not old.images or plan.services != "full":
        return plan
    kept = {
        service: old.images[f"{service}_image"]
        for service in SERVICES
        if f"{service}_image" in old.images
        and all(_unset(plan, f"{service}_{what}") for what in ("version", "image"))
        and old.images[f"{service}_image"].startswith(_registry(plan))
    }
    return with_images(plan, kept)


def _unset(plan: Plan, key: str) -> bool:
    return plan.origins.get(key, "default") == "default"


def _registry(plan: Plan) -> str:
    """The registry that somebody has set; images of another one were chosen before that."""
    return "" if _unset(plan, "registry") else plan.stack["registry"]


def with_images(plan: Plan, images: Mapping[str, str]) -> Plan:
    """The plan with these images of its services ("admin", ...)."""
    if not images:
        return plan
    named = {f"{service}_image": name for service, name in images.items()}
    tags = {f"{service}_version": schema.tag(name) for service, name in images.items()}
    return replace(plan, stack={**plan.stack, **named, **tags})


def present(known: Deployment, plan: Mapping[str, Any], build: str) -> Versions | None:
    """What runs now of a full stack; None where Docker does not say. `plan`: as a record has it."""
    stack = plan.get("stack") or {}
    if known.launcher == "process" or known.ui is None:
        return None
    from compreface_cli.docker import containers
    from compreface_cli.docker.stack import containers_here
    from compreface_cli.facts import database
    from compreface_cli.launchers.compose import DATABASE

    try:
        if known.launcher == "swarm":
            present = containers_here(known.data["project"])
        else:
            present = containers.of_project(known.data["project"], known.data["folder"])
        runs = [each for each in present if each.state == "running"]
        server = next((each.id for each in runs if each.service == DATABASE), None)
        changes = database.look(server).changes if server else None
    except CfError:
        return None
    names = {service: str(stack.get(f"{service}_image", "")) for service in SERVICES}
    return Versions(
        since=now(),
        cf=__version__,
        images={**names, "core": str(known.data.get("tag") or "")},
        ids={containers.short(each.service): each.image for each in runs},
        build=build,
        schema=changes,
        plan=dict(plan),
    )
