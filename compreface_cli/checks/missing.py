"""Plugins and models of the build that cannot run in this version."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import FETCH, Finding, Own, fail
from compreface_cli.facts import Facts
from compreface_cli.plan import Plan

NAME = "build"


def check(plan: Plan, facts: Facts, own: Own) -> Iterator[Finding]:
    for item in plan.missing:
        yield fail(NAME, FETCH, f"{item.what} cannot run: {item.reason}", item.hint)
