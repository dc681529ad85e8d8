"""The calculator: are the embeddings of the build those that the instance has stored?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.checks.base import DATA, Finding, fail
from compreface_cli.facts import Facts
from compreface_cli.instance.records import Record
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "calculator"

OTHER = Topic(
    "instance-other-calculator",
    means="The instance runs with another calculator than the build that is to replace it.",
    why="Its embeddings, wherever its clients stored them, cannot be compared with those of "
    "the build.",
    see="`cf status --json` names the calculator.",
    ways=(
        "Start the build as another instance: `--instance NAME`.",
        "Remove this one first: `cf down NAME`.",
    ),
)

INPUT = Topic(
    "instance-other-input",
    means="The calculator has the same name, and gets its pictures in another way: size, "
    "colours, scale or alignment.",
    why="The same network then gives other embeddings for the same photograph.",
    see="The message lists what differs.",
    ways=(
        "Set it back in the build file.",
        "Give the model another name, which makes it another calculator.",
        "Start it as another instance: `--instance NAME`.",
    ),
)
# What a calculator's entry says of its input: with another value one file gives other embeddings.
_INPUT = ("size", "layout", "colour", "mean", "scale", "align")


def judge(plan: Plan, facts: Facts, old: Record) -> Iterator[Finding]:
    """A finding where the instance of the record `old` has other embeddings than the build."""
    if not plugin_table.same_calculator(old.calculator, plan.calculator):
        if not _database_decides(plan, facts, old):
            yield fail(
                NAME,
                DATA,
                f"instance '{old.name}' has the calculator {old.calculator}, the build wants "
                f"{plan.calculator}: their embeddings cannot be compared",
                "Start the build as another instance (--instance NAME), or remove this one first: "
                f"cf down {old.name}" + (" --volumes" if old.services == "full" else ""),
                topic=OTHER,
            )
    elif changed := changed_input(plan, old):
        yield fail(
            NAME,
            DATA,
            f"the build gives {plan.calculator} its pictures in another way than instance "
            f"'{old.name}' does ({', '.join(changed)}): their embeddings cannot be compared",
            "Set it back, give the model another name in the build, or start it as another "
            "instance (--instance NAME).",
            topic=INPUT,
        )


def _database_decides(plan: Plan, facts: Facts, old: Record) -> bool:
    """Whether the calculator is a matter of the database alone, which checks/volume.py judges."""
    both = plan.services == old.services == "full" and plan.in_containers
    return both and facts.docker is not None and facts.docker.reachable


def changed_input(plan: Plan, old: Record) -> list[str]:
    """What the calculator's entry says otherwise than the record's, as "input.colour: rgb -> bgr".

    What a record does not say (an older cf wrote it) is not compared.
    """
    name = plugin_table.model_of(plan.calculator)
    wanted = next((asdict(model) for model in plan.models if model.name == name), None)
    models: list[Mapping[str, Any]] = old.plan.get("models") or []
    had = next((model for model in models if model.get("name") == name), None)
    if wanted is None or had is None:
        return []
    pairs = {key: (_value(had[key]), _value(wanted[key])) for key in _INPUT if key in had}
    return [
        f"{key if key == 'align' else f'input.{key}'}: {before} -> {now}"
        for key, (before, now) in pairs.items()
        if before != now
    ]


def _value(value: Any) -> Any:
    """One number for all three channels is the number alone, however it was written."""
    if not isinstance(value, list | tuple):
        return value
    return value[0] if len(set(value)) == 1 else list(value)
