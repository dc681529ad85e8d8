"""The models of a plan that no address gives and that are not on this machine: yours to give."""

from __future__ import annotations

from compreface_cli.checks import Finding
from compreface_cli.checks.base import FETCH, fail
from compreface_cli.plan.plan import Plan

NAME = "model"


def out_of_reach(plan: Plan) -> list[Finding]:
    """One finding for each such model, with the way to give its files."""
    from compreface_cli.models import store

    return [
        fail(
            NAME,
            FETCH,
            f"model {model.name} is not on this machine, and no address is known for it",
            store.missing_hint(model),
        )
        for model in plan.models
        if not store.obtainable(model)
    ]
