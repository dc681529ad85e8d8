"""One look at the host for one plan: facts, the launcher it gets, and what is in its way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli import checks, facts
from compreface_cli.checks import database as of_database
from compreface_cli.checks import volume
from compreface_cli.facts import database
from compreface_cli.plan.plan import Plan, with_launcher


@dataclass(frozen=True, slots=True)
class Preflight:
    """`plan` is settled (never launcher `auto`); `findings` hold every level."""

    plan: Plan
    choice: checks.Choice
    facts: facts.Facts
    findings: tuple[checks.Finding, ...]

    @property
    def warnings(self) -> tuple[checks.Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warn")

    def raise_for(self) -> None:
        """Raise PreflightError with everything that failed, if anything did."""
        checks.raise_for(self.findings)


def run(
    plan: Plan, *, own: checks.OwnedResources | None = None, folders: Iterable[str | Path] = ()
) -> Preflight:
    """Ask what this plan must know and judge it; what is started to look removes its container."""
    mine = own or checks.OwnedResources()
    seen = facts.gather(checks.questions(plan, folders))
    choice = checks.choose(plan, seen, mine)
    settled = with_launcher(plan, choice.kind) if plan.launcher == "auto" else plan
    if volume.in_doubt(settled, seen, mine):
        seen = replace(seen, database=into_volume(settled, seen))
    return Preflight(settled, choice, seen, tuple(checks.preflight(settled, seen, mine)))


def into_volume(plan: Plan, seen: facts.Facts) -> database.DatabaseFacts | None:
    """What the volume of the plan holds, asked of its database or read at rest; None: neither."""
    if seen.docker is None or not seen.docker.reachable:
        return None
    users = [one for one in seen.docker.containers if plan.volume in one.volumes and one.active]
    ours = (one for one in users if one.project == plan.project and one.state == "running")
    runs = next(ours, None)
    if runs is not None:
        return database.look(runs.id)
    image = plan.stack["postgres_image"]
    if users or seen.docker.image(image) is None:
        return None
    folder = database.folder_of(plan.volume, image)
    if folder.error:
        return database.DatabaseFacts(folder.error)
    if of_database.holds_nothing(folder):
        return database.DatabaseFacts(collections=())
    return database.at_rest(plan.volume, image, plan.stack["postgres_db"])
