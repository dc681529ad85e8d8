"""IPv6: an address of it on a host without it, and localhost where another program listens."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFLICT, Finding, OwnedResources, fail, warn
from compreface_cli.checks.port import LOOPBACK, published
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "ipv6"
LOCAL = "::1"

MISSING = Topic(
    "ipv6-missing",
    means="An IPv6 address was asked for (`bind`), and this host has none.",
    why="The port cannot be published there, and the start would fail.",
    see="`ip -6 address`, and `sysctl net.ipv6.conf.all.disable_ipv6`.",
    ways=(
        "Use an IPv4 address: `--bind 0.0.0.0`, or leave it out for 127.0.0.1.",
        "Switch IPv6 on: `sudo sysctl net.ipv6.conf.all.disable_ipv6=0`.",
    ),
)

LOCALHOST = Topic(
    "localhost-ipv6",
    means="The name localhost is ::1 first, another program listens on that port there, and this "
    "instance listens on 127.0.0.1.",
    why="http://localhost:PORT opens the other program, http://127.0.0.1:PORT this instance.",
    see="`getent ahosts localhost`, and `ss -ltnp 'sport = :8000'`.",
    ways=(
        "Use the address with 127.0.0.1.",
        "Choose another port: `--port auto`.",
        "Stop the other program.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    network, docker = facts.network, facts.docker
    remote = plan.launcher != "process" and docker is not None and not docker.local
    if network is None or remote:
        return
    if ":" in plan.bind and not network.ipv6:
        yield fail(
            NAME,
            CONFLICT,
            f"bind: {plan.bind} is an IPv6 address, and this host has no IPv6",
            "Use an IPv4 address: --bind 0.0.0.0, or leave bind out",
            topic=MISSING,
        )
    if network.localhost[:1] != (LOCAL,):
        return
    for flag, address, port in published(plan):
        fact = facts.host.ports.get((LOCAL, port))
        others = [] if fact is None else [
            each for each in fact.listeners if each.address == LOCAL and each.pid not in own.pids
        ]  # fmt: skip
        if address == LOOPBACK and others:
            who = others[0].process or "another program"
            yield warn(
                NAME,
                f"http://localhost:{port} will open {who}, which listens on ::1; this instance "
                f"will be at http://127.0.0.1:{port}",
                f"Choose another port ({flag} auto), or use the address with 127.0.0.1",
                topic=LOCALHOST,
            )
