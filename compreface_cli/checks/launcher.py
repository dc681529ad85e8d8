"""What `--launcher auto` becomes: Compose when all it needs is there, else a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compreface_cli.checks import docker, image
from compreface_cli.checks.base import OwnedResources
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan, with_launcher


@dataclass(frozen=True, slots=True)
class Choice:
    """The launcher, why, and what that leaves out ("" when nothing).

    `detail`: the whole finding behind the reason, with Docker's own words.
    """

    kind: Literal["compose", "process"]
    reason: str
    leaves_out: str = ""
    detail: str = ""


def choose(plan: Plan, facts: Facts, own: OwnedResources | None = None) -> Choice:
    """The launcher of this plan on this host; a fixed one stays, whatever the host says."""
    if plan.launcher != "auto":
        return Choice(plan.launcher, f"--launcher {plan.launcher}")
    left_out = (
        "the web UI, the REST API and the database are left out"
        if plan.services == "full"
        else "the process does not survive a reboot"
    )
    if facts.docker is None:
        return Choice("process", "Docker was not asked", left_out)
    composed = with_launcher(plan, "compose")
    mine = own or OwnedResources()
    # A registry that does not answer is no promise: `auto` takes what is sure to start.
    blockers = [item for item in docker.check(composed, facts, mine) if item.level == "fail"]
    blockers += [item for item in image.check(composed, facts, mine) if item.level != "ok"]
    if blockers:
        found = blockers[0].message
        lacking = image.lacking(composed, facts.docker) if blockers[0].check == image.NAME else ""
        return Choice("process", lacking or found, left_out, found)
    return Choice("compose", f"Docker answers at {facts.docker.endpoint}")
