"""Bind address: whether hosts other than this machine can reach the published ports."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from compreface_cli.checks.base import Finding, OwnedResources, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "bind"

UI = Topic(
    "exposed-ui",
    means="The UI is published on an address that other hosts can reach.",
    why="The first user who signs up owns the install. Everybody who reaches the port can try.",
    see="`ss -ltn` shows the address; 0.0.0.0 and :: mean all.",
    ways=(
        "Leave `bind` out, so that only this machine reaches it, and put a reverse proxy "
        "with authentication in front.",
        "Sign up at once, and restrict the port to trusted hosts with a firewall. Docker "
        "publishes ports past ufw: use the chain DOCKER-USER.",
    ),
)

ENGINE = Topic(
    "exposed-engine",
    means="The engine is published on an address that other hosts can reach, and it requires "
    "no API key.",
    why="Any of them can have faces detected and compared, and take the computing time.",
    see="`ss -ltn` shows the address; 0.0.0.0 and :: mean all.",
    ways=(
        "Set CF_API_KEYS_FILE (or CF_API_KEYS): the engine then refuses requests without one "
        "of the keys.",
        "Leave `bind` out, so that only this machine reaches it.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """A warning when other hosts can reach an engine that requires no API key."""
    yield from judge(plan)


def judge(plan: Plan) -> Iterator[Finding]:
    """The findings of `check`, which depend on the plan alone."""
    if plan.api_keys or ip_address(plan.bind).is_loopback:
        return
    where = f"bind: {plan.bind} ({plan.origins.get('bind', 'default')})"
    if plan.services == "full" and plan.launcher != "process":
        opened = (
            f", and open_routes ({plan.origins.get('open_routes', 'default')}) gives them the "
            "engine and the demo's services without a key of yours"
            if plan.stack.get("open_routes") == "true"
            else ""
        )
        yield warn(
            NAME,
            f"{where} exposes the UI to all hosts that reach this machine: the first user to sign "
            f"up becomes the owner{opened}",
            "Put a reverse proxy with authentication in front and leave bind out, or restrict the "
            "port to trusted hosts",
            topic=UI,
        )
        return
    yield warn(
        NAME,
        f"{where} exposes the engine to all hosts that reach this machine, and it requires no API "
        "key: any of them can detect and compare faces",
        "Set CF_API_KEYS or CF_API_KEYS_FILE, or leave bind out",
        topic=ENGINE,
    )
