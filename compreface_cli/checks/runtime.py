"""Runtime: a framework needs models in its own format, and packages for the Python that is used."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, OwnedResources, fail, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import RUNTIMES
from compreface_cli.topics import Topic

NAME = "runtime"

PYTHON = Topic(
    "runtime-python",
    means="The runtime of the build has no packages for the Python that runs `cf`.",
    why="A local engine runs with this Python.",
    see="`python3 --version`.",
    ways=(
        "Use Docker: `--launcher compose`. Images contain their own Python.",
        "Leave `runtime:` out; the models then run in ONNX Runtime.",
    ),
)

UNUSED = Topic(
    "runtime-unused",
    means="The runtime of the build is for models of a format that the build does not have.",
    why="Its packages would be installed for nothing.",
    see="`cf show --resolved` lists the models.",
    ways=("Leave `runtime:` out.",),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    runtime = RUNTIMES[plan.runtime]
    newest = runtime.newest_python
    if plan.launcher == "process" and newest is not None:  # an image contains its own Python
        major, minor = facts.host.python.split(".")[:2]
        if (int(major), int(minor)) > newest:
            named = ".".join(map(str, newest))
            yield fail(
                NAME,
                CONFIGURATION,
                f"runtime: {plan.runtime} ({plan.origins.get('runtime', 'default')}): this cf "
                f"has no {plan.runtime} packages for Python {facts.host.python}",
                f"Run cf with Python {named}, or use --launcher compose. Without `runtime:` the "
                "models are converted and run in ONNX Runtime with any Python.",
                topic=PYTHON,
            )
    if runtime.format and not any(model.keep_source for model in plan.models):
        yield warn(
            NAME,
            f"runtime: {plan.runtime} ({plan.origins.get('runtime', 'default')}) runs no network "
            f"of this build: it is for files in the format {runtime.format}, "
            "and all others run in ONNX Runtime",
            f"Leave it out, and the {plan.runtime} packages are not downloaded",
            topic=UNUSED,
        )
