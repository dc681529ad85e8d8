"""The runtime: one that is there for a framework's own files has something to run."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import Finding, Own, warn
from compreface_cli.facts import Facts
from compreface_cli.plan import Plan
from compreface_cli.runtimes import RUNTIMES

NAME = "runtime"


def check(plan: Plan, facts: Facts, own: Own) -> Iterator[Finding]:
    formats = RUNTIMES[plan.runtime].formats
    if formats and not any(model.keep_source for model in plan.models):
        yield warn(
            NAME,
            f"runtime: {plan.runtime} ({plan.origins.get('runtime', 'default')}) runs no network "
            f"of this build: it is for files in the format {' or '.join(formats)}, "
            "and all others run in ONNX Runtime",
            f"Without it the packages of {plan.runtime} are not fetched",
        )
