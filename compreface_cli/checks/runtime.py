"""Runtime: a framework needs models in its own format, and packages for the Python that is used."""

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
            )
    if runtime.format and not any(model.keep_source for model in plan.models):
        yield warn(
            NAME,
            f"runtime: {plan.runtime} ({plan.origins.get('runtime', 'default')}) runs no network "
            f"of this build: it is for files in the format {runtime.format}, "
            "and all others run in ONNX Runtime",
            f"Leave it out, and the {plan.runtime} packages are not downloaded",
        )
