"""The number of api processes: one, unless the user insists on several."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, OwnedResources, fail, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "apis"
# Measured: docs/decisions/one-api.md.
DRIFT = (
    "api processes on one database drift apart in silence after it restarts: who was deleted at "
    "one is still recognised at another"
)

SEVERAL = Topic(
    "several-apis",
    means="More than one api process is to run on one database.",
    why="Each api holds all embeddings in memory and hears of changes from PostgreSQL. After "
    "the database restarts it hears nothing more, in silence: who was deleted at one is still "
    "recognised at another.",
    see="`cf status` names the number. The api's log has a line about a closed connection.",
    ways=(
        "Leave `api_replicas` out. More engines (`replicas`) raise the throughput.",
        "Insist with `--several-apis` or the setting `allow_several_apis`, and restart every api "
        "after each restart of the database.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """The refusal of several apis, or a warning once the user insists."""
    yield from judge(plan)


def judge(plan: Plan) -> Iterator[Finding]:
    """The findings of `check`, which depend on the plan alone."""
    if plan.api_replicas == 1 or plan.services != "full" or plan.launcher == "process":
        return
    origin = plan.origins.get("api_replicas", "default")
    message = f"api_replicas: {plan.api_replicas} ({origin}): {DRIFT}"
    if plan.allow_several_apis:
        yield warn(
            NAME,
            message,
            "Restart every api after each restart of the database",
            topic=SEVERAL,
        )
        return
    yield fail(
        NAME,
        CONFIGURATION,
        message,
        "Leave api_replicas out: more engines (replicas) raise the throughput. To run several all "
        "the same, insist with --several-apis (CF_ALLOW_SEVERAL_APIS=true).",
        topic=SEVERAL,
    )
