"""An instance on a Swarm of two nodes, with a known face, and the load on it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.load import Failure, Load, Result
from tests.e2e.machine import PORTRAITS, STACK, Cf, post_photograph, sign_up, wait_until
from tests.swarm.ground import Ground
from tests.swarm.node import Node

GRACE = PORTRAITS / "grace_hopper.jpg"
UI_PORT, ENGINE_PORT = 8000, 3000
_SHORT = {name: name.removeprefix("compreface-").partition("-")[0] for name in STACK}


@dataclass
class Row:
    """A row of the table: what became of the requests while something was done."""

    done: str
    results: Mapping[str, Result]  # by the name of the node whose port was asked

    @property
    def sent(self) -> int:
        return sum(each.sent for each in self.results.values())

    @property
    def failures(self) -> list[tuple[str, Failure]]:
        """All failed requests with their node, in order."""
        every = [(name, one) for name, each in self.results.items() for one in each.failures]
        return sorted(every, key=lambda pair: pair[1].at_s)

    def __str__(self) -> str:
        slowest = max(each.slowest_s for each in self.results.values())
        lasted = max(each.lasted_s for each in self.results.values())
        line = (
            f"| {self.done} | {self.sent} | {len(self.failures)} | {slowest:.1f} | {lasted:.0f} |"
        )
        return line + "".join(
            f"\n  {name} at {one.at_s:.1f} s: {one.status or 'broken'} after {one.took_s:.1f} s, "
            f"{one.body[:200]}"
            for name, one in self.failures[:12]
        )


class NodeCf(Cf):
    """`cf` as it runs on a node: with its engine, and with its ports on 127.0.0.1."""

    def __init__(self, folder: Path, node: Node) -> None:
        super().__init__(folder)
        self._namespace = node.namespace
        self.environment["DOCKER_HOST"] = node.host

    def command(self, *arguments: str) -> list[str]:
        within = ["nsenter", f"--net=/run/netns/{self._namespace}"]
        return [*within, *super().command(*arguments)]


@dataclass
class Instance:
    """An instance that `cf up --launcher swarm` has started, and everything that was measured."""

    swarm: Ground
    cf: Cf
    name: str
    key: str = ""
    rows: list[Row] = field(default_factory=list)

    @property
    def project(self) -> str:
        return f"cf-{self.name}"

    def up(self, *flags: str, timeout_s: float = 400) -> dict[str, Any]:
        said = self.cf.ok(*self.words(*flags), "--json", timeout_s=timeout_s)
        document: dict[str, Any] = json.loads(said)
        return document

    def words(self, *flags: str) -> tuple[str, ...]:
        ports = ("--port", str(UI_PORT), "--core-port", str(ENGINE_PORT), "--bind", "0.0.0.0")
        return ("up", "embedded", "--launcher", "swarm", "--instance", self.name, *ports, *flags)

    def service(self, short: str) -> str:
        return f"{self.project}_compreface-{short}"

    def state(self, short: str = "core") -> str:
        """What the last update of a service came to; "" without one."""
        row = json.loads(self.swarm.manager.docker("service", "inspect", self.service(short)))[0]
        return str((row.get("UpdateStatus") or {}).get("State", ""))

    def image(self, short: str = "core") -> str:
        """The image that the service is to run."""
        row = json.loads(self.swarm.manager.docker("service", "inspect", self.service(short)))[0]
        return str(row["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])

    def running(self, short: str = "core") -> int:
        return sum(self.swarm.nodes_of(self.service(short)).values())

    def wait_for(self, number: int, short: str = "core", limit_s: float = 180) -> None:
        wait_until(lambda: self.running(short) == number, limit_s)

    def ui(self, node: Node) -> str:
        return f"http://{node.address}:{UI_PORT}"

    def knows_grace(self, node: Node) -> bool:
        """Whether a photograph that is sent to the node's port is recognised."""
        url = f"{self.ui(node)}/api/v1/recognition/recognize"
        try:
            status, said = post_photograph(url, GRACE, key=self.key)
        except (OSError, ValueError):
            return False
        return status == 200 and said["result"][0]["subjects"][0]["subject"] == "Grace"

    @contextmanager
    def load(
        self, done: str, connections: int = 4, nodes: Sequence[Node] | None = None
    ) -> Iterator[dict[str, Load]]:
        """So many connections to each node's port while the block does what `done` says.

        An answer without the known subject is a failed one. The row is the last of `rows` after it.
        """
        loads = {
            node.name: Load(
                f"{self.ui(node)}/api/v1/recognition/recognize",
                GRACE,
                connections=connections,
                header={"x-api-key": self.key},
                holds='"Grace"',
                timeout_s=70,
            )
            for node in (self.swarm.nodes if nodes is None else nodes)
        }
        for each in loads.values():
            each.start()
        try:
            for each in loads.values():
                each.answered(10, 120)
            yield loads
            time.sleep(3)
        finally:
            # Both stop sending before either is waited for.
            for each in loads.values():
                each.halt()
            row = Row(done, {name: each.wait() for name, each in loads.items()})
            self.rows.append(row)
            print(row)

    @property
    def last(self) -> Row:
        return self.rows[-1]


@contextmanager
def started(
    swarm: Ground, folder: Path, engine: str, images: Mapping[str, str], *flags: str
) -> Iterator[Instance]:
    """Start it with the engine's local image and the images of the stack; with a known face.

    `images`: service to image on this machine.
    """
    cf = NodeCf(folder, swarm.manager)
    cf.environment["CF_PUSH_TO"] = f"{swarm.registry}/faces"
    for service, image in images.items():
        cf.environment[f"CF_{_SHORT[service].upper()}_IMAGE"] = swarm.publish(image)
    swarm.load(engine, nodes=[swarm.manager])
    running = Instance(swarm, cf, "swarmed")
    running.up(*flags)
    for node in swarm.nodes:
        wait_until(lambda node=node: _answers(running.ui(node)), 120)  # type: ignore[misc]
    running.key = sign_up(running.ui(swarm.manager))["RECOGNITION"]
    added = f"{running.ui(swarm.manager)}/api/v1/recognition/faces?subject=Grace"
    assert post_photograph(added, GRACE, key=running.key)[0] == 201
    yield running


def _answers(ui: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"{ui}/admin/status", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
