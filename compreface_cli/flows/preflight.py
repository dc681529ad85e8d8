"""One look at the host for one plan: facts, the launcher it gets, and what is in its way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compreface_cli import checks, facts
from compreface_cli.plan import Plan, with_launcher


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
    plan: Plan, *, own: checks.Own | None = None, folders: Iterable[str | Path] = ()
) -> Preflight:
    """Ask what this plan must know and judge it; a GPU probe removes its container."""
    mine = own or checks.Own()
    seen = facts.gather(checks.questions(plan, folders))
    choice = checks.choose(plan, seen, mine)
    settled = with_launcher(plan, choice.kind) if plan.launcher == "auto" else plan
    return Preflight(settled, choice, seen, tuple(checks.preflight(settled, seen, mine)))
