"""Models: each is on this machine or can be downloaded, and the prepared ones are intact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compreface_cli.checks.base import FETCH, Finding, fail, ok
from compreface_cli.checks.machine import Machine
from compreface_cli.models.entry import Model
from compreface_cli.plan import fallbacks
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "model"

MISSING = Topic(
    "model-missing",
    means="A model of the build is not on this machine, and no address is known from which it "
    "may be fetched.",
    why="The engine cannot compute without it.",
    see="`cf models list`.",
    ways=(
        "Supply the file by hand, as the message says, or name a folder or mirror that has "
        "it: CF_MODELS_MIRROR.",
        "Use another build: `cf list-builds`.",
    ),
)

DAMAGED = Topic(
    "model-damaged",
    means="The files of a prepared model have changed since they were made.",
    why="The engine would compute other embeddings, or not start.",
    see="`cf models verify`.",
    ways=("The next `cf up` of its build prepares it again.",),
)


def out_of_reach(plan: Plan) -> list[Finding]:
    """A fail for each model of the plan that `cf` cannot come by, but for those with fallbacks."""
    optional = fallbacks.optional(plan)
    return unobtainable(model for model in plan.models if model.name not in optional)


def unobtainable(models: Iterable[Model]) -> list[Finding]:
    """A fail for each model that is not here and has no address; the hint says how to supply it."""
    from compreface_cli.models import store

    return [
        fail(
            NAME,
            FETCH,
            f"model {model.name} is not on this machine, and no download address is known for it",
            store.missing_hint(model),
            topic=MISSING,
        )
        for model in models
        if not store.obtainable(model)
    ]


def doctor(machine: Machine) -> Iterator[Finding]:
    """The state of the prepared models, or why they could not be examined."""
    if machine.trouble:
        yield from machine.trouble
        return
    here = sorted(name for name, state in machine.models.items() if state == "here")
    damaged = sorted(name for name, state in machine.models.items() if state == "damaged")
    if here:
        yield ok("models", f"prepared and intact: {', '.join(here)}")
    elif not damaged:
        yield ok("models", "none prepared; the embedded build contains its own")
    for name in damaged:
        yield fail(
            "models",
            FETCH,
            f"the prepared model {name} is damaged: its files have changed since they were made",
            "The next `cf up` of its build prepares it again.",
            topic=DAMAGED,
        )
