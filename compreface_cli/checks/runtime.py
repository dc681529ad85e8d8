"""The runtime: a framework has files of its own to run, and packages for the Python at hand."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, OwnedResources, fail, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import RUNTIMES

NAME = "runtime"


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    runtime = RUNTIMES[plan.runtime]
    newest = runtime.newest_python
    if plan.launcher == "process" and newest is not None:  # an image has a Python of its own
        major, minor = facts.host.python.split(".")[:2]
        if (int(major), int(minor)) > newest:
            named = ".".join(map(str, newest))
            yield fail(
                NAME,
                CONFIGURATION,
                f"runtime: {plan.runtime} ({plan.origins.get('runtime', 'default')}): this cf "
                f"has no packages of {plan.runtime} for Python {facts.host.python}",
                f"Run cf with Python {named}, or use --launcher compose. Without `runtime:` the "
                "models are converted, and run in ONNX Runtime with any Python.",
            )
    if runtime.format and not any(model.keep_source for model in plan.models):
        yield warn(
            NAME,
            f"runtime: {plan.runtime} ({plan.origins.get('runtime', 'default')}) runs no network "
            f"of this build: it is for files in the format {runtime.format}, "
            "and all others run in ONNX Runtime",
            f"Without it the packages of {plan.runtime} are not fetched",
        )
