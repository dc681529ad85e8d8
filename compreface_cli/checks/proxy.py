"""Proxy: one that the host uses and the Docker engine does not, or the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from compreface_cli.checks.base import Finding, OwnedResources, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.facts.network import NetworkFacts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "proxy"
_SCHEMES = ("http", "https")

DOCKER_LACKS = Topic(
    "proxy-docker-lacks",
    means="This user's programs use a proxy, and the Docker engine does not.",
    why="Where the network is reached by the proxy alone, no image can be pulled.",
    see="`env | grep -i proxy`, and `docker info | grep -i proxy`.",
    ways=(
        "Give the engine the proxy: https://docs.docker.com/engine/daemon/proxy/",
        "For the steps of a build, set it in ~/.docker/config.json under `proxies`.",
        "Load images from files instead: `docker load -i FILE`.",
    ),
)

HOST_LACKS = Topic(
    "proxy-host-lacks",
    means="The Docker engine uses a proxy, and this user's programs do not.",
    why="Where the network is reached by the proxy alone, `cf` can fetch no models and packages.",
    see="`env | grep -i proxy`, and `docker info | grep -i proxy`.",
    ways=(
        "Set https_proxy, http_proxy and no_proxy for `cf`, as for the engine.",
        "Bring models from another machine: `cf export`, or CF_MODELS_MIRROR=FOLDER.",
    ),
)

LOCAL = Topic(
    "proxy-for-localhost",
    means="A proxy is set, and no exception for this machine's own addresses.",
    why="curl and other programs ask the proxy for http://localhost:8000, which cannot reach it. "
    "`cf` itself does not.",
    see="`env | grep -i no_proxy`.",
    ways=("Set the exceptions: `export no_proxy=localhost,127.0.0.1,::1`.",),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """A warning before a start that pulls or builds something."""
    docker, network = facts.docker, facts.network
    if plan.launcher == "process" or docker is None or not docker.reachable or network is None:
        return
    wanted = (plan.image, *plan.stack_images.values())
    if any(not docker.image(name) for name in wanted):
        yield from _judge(docker, network)


def _judge(docker: DockerFacts, network: NetworkFacts) -> Iterator[Finding]:
    ours = _named(network.proxies)
    theirs = _named(docker.proxies)
    if ours and not theirs:
        yield warn(
            NAME,
            f"this user's programs use the proxy {ours}, and the Docker engine uses none",
            "If images cannot be pulled: https://docs.docker.com/engine/daemon/proxy/",
            topic=DOCKER_LACKS,
        )
    elif theirs and not ours:
        yield warn(
            NAME,
            f"the Docker engine uses the proxy {theirs}, and this user's programs use none",
            "If models cannot be fetched, set https_proxy, http_proxy and no_proxy.",
            topic=HOST_LACKS,
        )


def _named(proxies: Mapping[str, str]) -> str:
    """The host and port of the proxies, without a user's name and password; "" without one."""
    addresses = [urlsplit(proxies[scheme]) for scheme in _SCHEMES if proxies.get(scheme)]
    places = [each.netloc.rpartition("@")[2] or each.path for each in addresses]
    return " and ".join(dict.fromkeys(places))


def _excepts_itself(network: NetworkFacts) -> bool:
    words = [word.strip() for word in network.proxies.get("no", "").split(",")]
    return "*" in words or "localhost" in words


def doctor(machine: Machine) -> Iterator[Finding]:
    docker, network = machine.facts.docker, machine.facts.network
    if network is None:
        return
    ours = _named(network.proxies)
    findings: list[Finding] = []
    if docker is not None and docker.reachable:
        findings += _judge(docker, network)
    if ours and not _excepts_itself(network):
        findings.append(
            warn(
                NAME,
                f"the proxy {ours} is also used for localhost",
                "export no_proxy=localhost,127.0.0.1,::1",
                topic=LOCAL,
            )
        )
    if ours and not findings:
        findings.append(ok(NAME, f"the proxy {ours} is used by this user and by Docker"))
    yield from findings
