"""Facts about the Swarm that the Docker engine belongs to, and about the kernel of its node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compreface_cli.docker import client, endpoint, stack
from compreface_cli.docker.client import NoAnswerError
from compreface_cli.docker.labels import STACK
from compreface_cli.docker.stack import Node

_IPVS = Path("/proc/net/ip_vs")  # there once the kernel's module is, which the engine loads


@dataclass(frozen=True, slots=True)
class SwarmFacts:
    """The Swarm as this engine knows it; `state` as Docker has it: inactive, pending, active, ...

    Nodes and stacks are known to a manager alone.
    """

    state: str
    manager: bool = False
    error: str = ""  # why it does not answer, such as a manager without the others
    node: str = ""  # id of this engine's node
    nodes: tuple[Node, ...] = ()
    stacks: tuple[str, ...] = ()  # names of the stacks that run
    ipvs: bool | None = None  # of this node's kernel; None: another machine's, not known

    @property
    def several(self) -> bool:
        return len(self.nodes) > 1


def gather() -> SwarmFacts | None:
    """The Swarm of the engine that the `docker` program uses; None where the engine is silent."""
    try:
        info = client.get("info", timeout_s=5.0).get("Swarm") or {}
    except NoAnswerError:
        return None
    state = str(info.get("LocalNodeState") or "inactive")
    manager = bool(info.get("ControlAvailable"))
    ipvs = _IPVS.exists() if endpoint.current().local else None
    here = SwarmFacts(state, manager, str(info.get("Error") or ""), str(info.get("NodeID") or ""))
    if state != "active" or not manager:
        return SwarmFacts(state, manager, here.error, here.node, ipvs=ipvs)
    try:
        nodes = tuple(stack.nodes())
        rows = client.get("services", timeout_s=10.0)
    except NoAnswerError as silent:
        return SwarmFacts(state, manager, silent.reason, here.node, ipvs=ipvs)
    labels = [row["Spec"].get("Labels") or {} for row in rows or ()]
    stacks = {each[STACK] for each in labels if STACK in each}
    return SwarmFacts(state, manager, "", here.node, nodes, tuple(sorted(stacks)), ipvs)
