"""Replaces, adds and ends engines of a running stack without downtime: all have the same name.

Measured with CompreFace's own api and nginx (docs/decisions/engine-swap.md): Docker's resolver
returns all addresses of a name, and a client that one refuses tries the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from compreface_cli.cleanup import Report, deferred
from compreface_cli.docker import cli, containers
from compreface_cli.engine.known_answer import ENDED, LATE
from compreface_cli.errors import UnhealthyError
from compreface_cli.instance.state import Endpoint, ServiceState

# nginx caches an address for 1 s (`valid` in templates/nginx.conf.j2) by a clock of whole seconds,
# so for up to 2 s. With 1.5 s the end of the old engine still refused a request.
_KNOWN_AFTER_S = 3.0
_REACHED_AGAIN_S = 10.0
_ENDED_WITHIN_S = 300.0  # far more than the engine's own limit for draining
_LOG_LINES = 12
_ADDRESSES = ("ipv4_address", "ipv6_address", "mac_address")


@dataclass(frozen=True, slots=True)
class Project:
    """A Compose project for a swap: its command, its name, and the service of its engines.

    `compose` is `compose --project-name=... --file=...`; `port`: the engine's in its container;
    `count`: the number of engines that there should be.
    """

    compose: Sequence[str]
    name: str
    service: str
    port: int
    count: int = 1

    def engines(self) -> list[containers.Container]:
        """The engine's containers, the oldest first."""
        engines = [
            item for item in containers.of_project(self.name) if item.service == self.service
        ]
        return sorted(engines, key=lambda item: item.number)


def obstacle(document: Mapping[str, Any], service: str) -> str:
    """Why two containers of the service cannot run side by side; "" when they can.

    `document`: the output of `docker compose config`, which includes the user's own file.
    """
    core = document["services"][service]
    if any(name.startswith(f"{service}-") for name in document["services"]):
        return "each engine has a GPU of its own"
    if any(port.get("published") not in (None, "", "0") for port in core.get("ports") or ()):
        return "it publishes a fixed port"
    if core.get("container_name"):
        return "it has a fixed container name"
    if core.get("network_mode"):
        return f"it is on the network `{core['network_mode']}`"
    places = [core, *(network for network in (core.get("networks") or {}).values() if network)]
    if any(place.get(key) for place in places for key in _ADDRESSES):
        return "it has a fixed address"
    return ""


class Successor:
    """A further container of the engine, which only `cf` can reach until it takes over.

    `supersedes`: ids of the engines that end once it has the name.
    """

    def __init__(
        self, project: Project, container: containers.Container, supersedes: Sequence[str]
    ) -> None:
        self._project = project
        self._id = container.id
        self.supersedes = tuple(supersedes)
        self._networks = container.networks

    def endpoint(self, key: str) -> Endpoint:
        """Its published port on loopback."""
        container = self._now()
        published = container.published(self._project.port) if container else None
        if published is not None:
            return Endpoint("127.0.0.1", published.port, key)
        raise UnhealthyError(
            f"the new engine ended right after its start: {self.look().detail}",
            details={"log": self.last_lines()},
            topic=ENDED,
        )

    def look(self) -> ServiceState:
        container = self._now()
        if container is None:
            return ServiceState("core", "missing", "its container is gone")
        return containers.service_state(container)

    def last_lines(self) -> list[str]:
        container = self._now()
        return containers.last_lines(container, _LOG_LINES) if container else []

    def take_over(
        self,
        reachable: Callable[[Endpoint], bool],
        key: str,
        report: Report,
        ending: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """Give it the engine's name, then stop what it supersedes, after its last requests.

        Raises UnhealthyError, with the others unchanged, if it cannot be reached under its name.
        `ending` is called once it is reached, with the ids of those that then end. Signals are
        deferred until the end, since half a change could leave no engine.
        """
        with deferred():
            for network, aliases in self._networks.items():
                _leave(network, self._id)
                _join(network, self._id, aliases)
            deadline = time.monotonic() + _REACHED_AGAIN_S
            while not reachable(self.endpoint(key)):
                if time.monotonic() > deadline:
                    raise UnhealthyError(
                        "the new engine cannot be reached in the network of the old one",
                        details={"log": self.last_lines()},
                        topic=LATE,
                    )
                time.sleep(0.1)
            if self.supersedes:
                time.sleep(_KNOWN_AFTER_S)
            ending(self.supersedes)
            for old in self.supersedes:
                report("  the old engine finishes its requests, then ends")
                end(old)

    def _now(self) -> containers.Container | None:
        return next(iter(containers.inspect(self._id)), None)


@contextmanager
def beside(project: Project, supersedes: Sequence[str] | None = None) -> Iterator[Successor]:
    """Start a further engine without a name in the project's networks.

    `supersedes`: ids of the engines that end when it takes over; None: all. It is removed if the
    block fails, unless the engines before it have all ended by then.
    """
    old = [item.id for item in project.engines()]
    try:
        cli.run(
            *project.compose,
            "--progress=quiet",
            "up",
            "--no-start",
            "--no-deps",
            "--no-build",
            "--no-recreate",
            f"--scale={project.service}={len(old) + 1}",
            project.service,
            doing="create the new engine's container",
            timeout_s=120,
        )
        made = [item for item in project.engines() if item.id not in old]
        if len(made) != 1:
            raise UnhealthyError(
                "the new engine's container vanished right after its creation", topic=ENDED
            )
        for network in made[0].networks:
            _leave(network, made[0].id)
            _join(network, made[0].id, ())
        cli.run("start", made[0].id, doing="start the new engine")
        yield Successor(project, made[0], old if supersedes is None else supersedes)
    except BaseException:
        with deferred():
            left = project.engines()
            if not old or any(item.id in old for item in left):
                for item in left:
                    if item.id not in old:
                        cli.run("rm", "--force", item.id, doing="remove it", check=False)
        raise


def leave(project: Project, wanted: str) -> None:
    """Keep as many engines as there should be of those that an interrupted run left.

    Of a single one, the newest is kept if it has the engine's name, since the others are then being
    stopped, even if they still answer; otherwise one with the configuration hash `wanted`. Of
    several those are kept that serve, and of these the newest, since a run ends the oldest first.
    """
    engines = project.engines()
    newest = engines[-1]
    if project.count == 1 and newest.state == "running" and any(newest.networks.values()):
        kept = [newest]
    else:
        rank = _rank if project.count == 1 else _rank_of_several
        kept = sorted(engines, key=lambda item: rank(item, wanted))[-project.count :]
    for container in engines:
        if container.id not in {item.id for item in kept}:
            end(container.id)


def _rank(container: containers.Container, wanted: str) -> tuple[bool, bool, bool, int]:
    named = any(container.networks.values())
    runs = container.state == "running"
    return container.config_hash == wanted, runs, named, -container.number


def _rank_of_several(container: containers.Container, wanted: str) -> tuple[bool, bool, bool, int]:
    runs = container.state == "running"
    serves = runs and any(container.networks.values())
    return serves, container.config_hash == wanted, runs, container.number


def end(container: str) -> None:
    """Stop a container, with its own stop timeout, and remove it."""
    cli.run("stop", container, doing="end the old engine", timeout_s=_ENDED_WITHIN_S, check=False)
    cli.run("rm", "--force", container, doing="remove the old engine", check=False)


def _leave(network: str, container: str) -> None:
    cli.run("network", "disconnect", network, container, doing="leave the network")


def _join(network: str, container: str, aliases: Sequence[str]) -> None:
    flags = [f"--alias={alias}" for alias in aliases]
    cli.run("network", "connect", *flags, network, container, doing="join the network")
