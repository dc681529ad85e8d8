"""The UI's port: one that browsers refuse to open, by the list of the Fetch standard."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import Finding, OwnedResources, warn
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "port"

# "bad ports" in https://fetch.spec.whatwg.org/#port-blocking, as of November 2026.
REFUSED = frozenset(
    {
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
        101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179,
        389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601,
        636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
        6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    }
)  # fmt: skip

REFUSED_BY_BROWSERS = Topic(
    "port-browser",
    means="Browsers refuse to open pages at this port, whatever answers there.",
    why="It is a port of another protocol (SMTP, SIP, IRC, X11 ...) that pages could be made to "
    "attack. The UI runs and cannot be seen; programs reach the API all the same.",
    see="The browser says ERR_UNSAFE_PORT, or that the address is restricted.",
    ways=("Choose another port: `--port 8000`, or `--port auto`.",),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    shown = plan.services == "full" and plan.launcher != "process"
    if shown and isinstance(plan.port, int) and plan.port in REFUSED:
        yield warn(
            NAME,
            f"browsers refuse to open the UI at port {plan.port} (ERR_UNSAFE_PORT)",
            "Choose another one: --port 8000, or --port auto",
            topic=REFUSED_BY_BROWSERS,
        )
