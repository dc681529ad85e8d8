"""CompreFace's UI: whether the build's plugins return all that its Test page reads of a face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compreface_cli import plugin_table
from compreface_cli.checks.base import Finding, OwnedResources, ok, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "ui"

INCOMPLETE = Topic(
    "ui-incomplete",
    means="The Test page of CompreFace's UI reads age, gender, landmarks and pose of every "
    "face, and the build has no plugin for one of them.",
    why="Without age or gender the page shows no faces at all, and no error. API and "
    "recognition are not affected.",
    see="The console of the browser has `Cannot read properties of undefined`.",
    ways=(
        "Add the plugins that the message lists.",
        "Ignore it if nobody uses the Test page.",
    ),
)

# The page reads these fields of each face without a test for their absence.
_READ = {
    "LandmarksDetector": "landmarks",
    "PoseEstimator": "pose",
    "AgeDetector": "age",
    "GenderDetector": "gender",
}


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """Whether the UI of this plan, if it has one, can display the faces that the engine detects."""
    docker = facts.docker is not None and facts.docker.reachable
    if plan.launcher != "auto" or docker:
        yield from judge(plan)


def judge(plan: Plan) -> Iterator[Finding]:
    """The findings of the plan alone: `auto` counts as the full stack that it may become.

    None for an engine without the UI.
    """
    if plan.services != "full" or plan.launcher == "process":
        return
    has = {plugin_table.kind(plugin) for plugin in plan.plugins}
    missing = [plugin for plugin in plugin_table.UI_PLUGINS if plugin_table.kind(plugin) not in has]
    if not missing:
        fields = _words([*_READ.values()])
        yield ok(NAME, f"the engine returns all that the UI reads of a face: {fields}")
        return
    lacks = [_READ[plugin_table.kind(plugin)] for plugin in missing]
    # Without age or gender the page's script fails before it draws the first face.
    blank = "show no faces" if {"age", "gender"} & {*lacks} else "show faces incompletely"
    lines = "\n".join(f"  - {plugin}" for plugin in missing)
    origin = plan.origins.get("plugins", "default")
    yield warn(
        NAME,
        f"the Test page of CompreFace's UI will {blank}: it reads {_words(lacks)} of each face, "
        f"which no plugin of the build {plan.build} returns",
        f"Add to `plugins:` ({origin}):\n{lines}\nor start the engine alone: --services core",
        topic=INCOMPLETE,
    )


def _words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
