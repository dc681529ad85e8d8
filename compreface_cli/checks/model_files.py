"""Models: each is on this machine or can be fetched, and those that are prepared are intact."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import FETCH, Finding, fail, ok
from compreface_cli.checks.machine import Machine
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


def doctor(machine: Machine) -> Iterator[Finding]:
    """The state of the prepared models, or what keeps them from being looked at."""
    if machine.trouble:
        yield from machine.trouble
        return
    here = sorted(name for name, state in machine.models.items() if state == "here")
    damaged = sorted(name for name, state in machine.models.items() if state == "damaged")
    if here:
        yield ok("models", f"prepared and intact: {', '.join(here)}")
    elif not damaged:
        yield ok("models", "none prepared; the embedded build brings its own")
    for name in damaged:
        yield fail(
            "models",
            FETCH,
            f"the prepared model {name} is damaged: its files are not those that were written",
            "The next `cf up` of its build prepares it again.",
        )
