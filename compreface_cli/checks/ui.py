"""CompreFace's UI: each face must have what its Test page reads, or the page draws none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compreface_cli import plugin_table
from compreface_cli.checks.base import Finding, OwnedResources, ok, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan

NAME = "ui"

# The page reads these of every face without asking whether they are there. The last part of a
# plugin's name says what it answers, whichever network it runs.
_READ = {
    "LandmarksDetector": "landmarks",
    "PoseEstimator": "pose",
    "AgeDetector": "age",
    "GenderDetector": "gender",
}


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """Whether the UI of this plan, if it has one, can show the faces that the engine finds."""
    docker = facts.docker is not None and facts.docker.reachable
    if plan.launcher != "auto" or docker:
        yield from judge(plan)


def judge(plan: Plan) -> Iterator[Finding]:
    """The same without a look at the host: `auto` is taken for the full stack that it may become.

    Nothing is said of an engine alone.
    """
    if plan.services != "full" or plan.launcher == "process":
        return
    has = {_class(plugin) for plugin in plan.plugins}
    missing = [plugin for plugin in plugin_table.UI_PLUGINS if _class(plugin) not in has]
    if not missing:
        yield ok(NAME, f"each face is answered with what the UI reads: {_words([*_READ.values()])}")
        return
    lacks = [_READ[_class(plugin)] for plugin in missing]
    # Without age or gender the page's script fails before it draws the first face.
    blank = "show no faces" if {"age", "gender"} & {*lacks} else "not show its faces as it should"
    lines = "\n".join(f"  - {plugin}" for plugin in missing)
    origin = plan.origins.get("plugins", "default")
    yield warn(
        NAME,
        f"the Test page of CompreFace's UI will {blank}: it reads {_words(lacks)} of each, which "
        f"the plugins of the build {plan.build} do not answer",
        f"Add to `plugins:` ({origin}):\n{lines}\nor start the engine alone: --services core",
    )


def _class(plugin: str) -> str:
    return plugin_table.split(plugin)[0].rpartition(".")[2]


def _words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
