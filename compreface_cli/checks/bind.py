"""The address that the ports are published on: who beyond this machine may send requests?"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from compreface_cli.checks.base import Finding, OwnedResources, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan

NAME = "bind"


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """A warning where others reach the engine and it asks for no key."""
    yield from judge(plan)


def judge(plan: Plan) -> Iterator[Finding]:
    """The same for a plan alone."""
    if plan.api_keys or ip_address(plan.bind).is_loopback:
        return
    where = f"bind: {plan.bind} ({plan.origins.get('bind', 'default')})"
    if plan.services == "full" and plan.launcher != "process":
        yield warn(
            NAME,
            f"{where} opens the UI to whoever reaches this machine: the first to sign up becomes "
            "the owner, and its web server passes /core/ on to the engine without a key",
            "Put a reverse proxy with authentication in front and leave bind out, or let nobody "
            "but trusted machines reach the port",
        )
        return
    yield warn(
        NAME,
        f"{where} opens the engine to whoever reaches this machine, and it asks for no key: "
        "anybody may find and compare faces with it",
        "Set CF_API_KEYS or CF_API_KEYS_FILE, or leave bind out",
    )
