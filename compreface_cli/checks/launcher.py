"""What `--launcher auto` becomes: Compose when all that it needs is available, else a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compreface_cli.checks import docker, image
from compreface_cli.checks.base import OwnedResources
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan, with_launcher


@dataclass(frozen=True, slots=True)
class Choice:
    """The launcher, the reason for it, and what it does not provide ("" when nothing).

    `detail`: the whole message of the finding behind the reason, with Docker's error.
    """

    kind: Literal["compose", "swarm", "process"]
    reason: str
    leaves_out: str = ""
    detail: str = ""


def choose(plan: Plan, facts: Facts, own: OwnedResources | None = None) -> Choice:
    """The launcher of this plan on this host; one that the user chose is kept in any case."""
    if plan.launcher != "auto":
        return Choice(plan.launcher, f"--launcher {plan.launcher}")
    left_out = (
        "the web UI, the REST API and the database are left out"
        if plan.services == "full"
        else "the process does not survive a reboot"
    )
    if facts.docker is None:
        return Choice("process", "Docker was not queried", left_out)
    composed = with_launcher(plan, "compose")
    owned = own or OwnedResources()
    # A registry that does not answer counts as a failure: `auto` takes what is sure to start.
    blockers = [item for item in docker.check(composed, facts, owned) if item.level == "fail"]
    blockers += [item for item in image.check(composed, facts, owned) if item.level != "ok"]
    if blockers:
        first = blockers[0]
        reason = image.unavailable(composed, facts.docker) if first.check == image.NAME else ""
        return Choice("process", reason or first.message, left_out, first.message)
    return Choice("compose", f"Docker answers at {facts.docker.endpoint}")
