"""A Swarm of several nodes on this machine, with a registry that all reach; for tests.

    with ground(2) as swarm:
        reference = swarm.publish("compreface-core:x")   # from this machine's engine, by digest
        swarm.manager.docker("stack", "deploy", ...)     # or DOCKER_HOST=swarm.manager.host
        swarm.workers[0].power_off()

Each node is a Docker engine in namespaces of its own (tests/swarm/node.py). A further network
namespace holds the bridge that joins them, apart from the rules that an engine of this machine has
for forwarding. Everything lies in one temporary folder and under one name, and is removed at the
end, after a failure too; what a killed run has left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.swarm.node import Node

PREFIX = "cfsw"
REGISTRY_PORT = 5000
_PROGRAMS = ("ip", "nsenter", "unshare", "bash", "docker", "dockerd", "docker-registry")
_WAIT_S = 60.0


def lacks() -> str:
    """What this machine lacks for it; "" when nothing."""
    if os.geteuid() != 0:
        return "a Swarm of several nodes needs root"
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"a Swarm of several nodes needs {', '.join(absent)}" if absent else ""


class Ground:
    """The nodes, the first of which is the only manager, and `registry`, "HOST:PORT"."""

    def __init__(self, nodes: list[Node], registry: str) -> None:
        self.nodes, self.registry = nodes, registry

    @property
    def manager(self) -> Node:
        return self.nodes[0]

    @property
    def workers(self) -> list[Node]:
        return self.nodes[1:]

    def load(self, *images: str, nodes: list[Node] | None = None) -> None:
        """Give the nodes images of the engine that `docker` of this process uses."""
        with tempfile.TemporaryFile() as archive:
            subprocess.run(["docker", "save", *images], stdout=archive, timeout=300, check=True)
            for node in self.nodes if nodes is None else nodes:
                archive.seek(0)
                node.load(archive)

    def publish(self, image: str, name: str = "") -> str:
        """Push an image of this process's engine; "HOST:PORT/NAME@sha256:..."."""
        self.load(image, nodes=[self.manager])
        return self.push(image, name)

    def push(self, image: str, name: str = "") -> str:
        """Push an image that the manager has; its reference by digest."""
        name = name or image.rpartition("/")[2]
        there = f"{self.registry}/{name}"
        self.manager.docker("tag", image, there)
        said = self.manager.docker("push", there, timeout_s=300)
        self.manager.docker("image", "rm", "--no-prune", there)
        digest = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
        assert digest, said
        return f"{there.rpartition(':')[0]}@{digest[1]}"

    def wait_for_nodes(self, ready: int, limit_s: float = _WAIT_S) -> None:
        """Wait until the manager counts so many nodes as ready."""
        deadline = time.monotonic() + limit_s
        while True:
            said = self.manager.docker("node", "ls", "--format={{.Status}}", check=False)
            if said.split().count("Ready") == ready:
                return
            assert time.monotonic() < deadline, f"not {ready} ready nodes:\n{said}"
            time.sleep(0.5)

    def nodes_of(self, service: str) -> dict[str, int]:
        """Number of running tasks of a service by the node's name."""
        rows = self.manager.docker(
            *("service", "ps", service, "--filter=desired-state=running"),
            "--format={{.Node}} {{.CurrentState}}",
        )
        found: dict[str, int] = {}
        for row in rows.splitlines():
            node, state = row.split()[:2]
            if state == "Running":
                found[node] = found.get(node, 0) + 1
        return found


@contextmanager
def ground(count: int = 2) -> Iterator[Ground]:
    """A Swarm of `count` nodes with a registry; a test is skipped by name where it cannot run."""
    if reason := lacks():
        pytest.skip(reason)
    _sweep()
    name = f"{PREFIX}{os.getpid()}"
    with ExitStack() as undo:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(_remove_cgroups, name)
        network = _network()
        here = str(network[1])
        hub = f"{name}-hub"
        _ip("netns", "add", hub)
        undo.callback(_ip, "netns", "delete", hub, check=False)
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "link", "set", "br0", "up")
        _ip("link", "add", name, "type", "veth", "peer", "name", "here", "netns", hub)
        undo.callback(_ip, "link", "delete", name, check=False)
        _ip("-n", hub, "link", "set", "here", "master", "br0", "up")
        _ip("address", "add", f"{here}/24", "dev", name)
        _ip("link", "set", name, "up")
        nodes = []
        for number in range(1, count + 1):
            node = Node(f"{name}-{number}", str(network[10 + number]), folder / f"node{number}",
                        str(network))  # fmt: skip
            _ip("netns", "add", node.namespace)
            undo.callback(_ip, "netns", "delete", node.namespace, check=False)
            port = f"port{number}"
            _ip("-n", hub, "link", "add", port, "type", "veth",
                "peer", "name", "eth0", "netns", node.namespace)  # fmt: skip
            _ip("-n", hub, "link", "set", port, "master", "br0", "up")
            _ip("-n", node.namespace, "address", "add", f"{node.address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", node.namespace, "link", "set", device, "up")
            # dockerd takes no pool of addresses without a route to compare it with
            _ip("-n", node.namespace, "route", "add", "default", "via", here)
            nodes.append(node)
        registry = undo.enter_context(_registry(folder, here))
        for node in nodes:
            undo.callback(node.power_off)
            node.start()
        swarm = Ground(nodes, registry)
        _join(swarm)
        yield swarm


def _join(swarm: Ground) -> None:
    manager = swarm.manager
    manager.docker("swarm", "init", f"--advertise-addr={manager.address}")
    token = manager.docker("swarm", "join-token", "--quiet", "worker").splitlines()[-1]
    for node in swarm.workers:
        node.docker(
            *("swarm", "join", f"--advertise-addr={node.address}", f"--token={token}"),
            f"{manager.address}:2377",
        )
    swarm.wait_for_nodes(len(swarm.nodes))


@contextmanager
def _registry(folder: Path, address: str) -> Iterator[str]:
    place = f"{address}:{REGISTRY_PORT}"
    (folder / "registry.yml").write_text(
        f"version: 0.1\nhttp: {{addr: '{place}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
    )
    with (folder / "registry.log").open("w") as log:
        child = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + _WAIT_S
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://{place}/v2/", timeout=3):
                break
            assert child.poll() is None, (folder / "registry.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the registry is not up"
            time.sleep(0.1)
        yield place
    finally:
        child.terminate()
        child.wait(20)


def _network() -> ipaddress.IPv4Network:
    """A network of this machine's that nothing here has yet."""
    routes = _ip("-4", "route", "show", "table", "all")
    taken = [
        ipaddress.ip_network(word, strict=False)
        for line in routes.splitlines()
        for word in line.split()[:2]
        if re.fullmatch(r"[0-9.]+(/\d+)?", word)
    ]
    for _ in range(200):
        chosen = ipaddress.IPv4Network(
            f"10.{random.randint(200, 250)}.{random.randint(0, 255)}.0/24"
        )
        if not any(chosen.overlaps(each) for each in taken if isinstance(each, type(chosen))):
            return chosen
    raise AssertionError("no free network")


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _remove_cgroups(name: str) -> None:
    """Remove the groups that engines which were killed have left."""
    for top in Path("/sys/fs/cgroup").glob(f"**/{name}-*"):
        for folder in sorted((p for p in top.glob("**") if p.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _sweep() -> None:
    """Remove what a run that was killed has left: its processes have ended with it."""
    listed = {line.split()[0] for line in _ip("netns", "list").splitlines() if line}
    folders = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"))
    owners = {re.match(rf"{PREFIX}(\d+)-", each) for each in listed | {p.name for p in folders}}
    for pid in {match[1] for match in owners if match}:
        if Path(f"/proc/{pid}").exists():
            continue
        for each in listed:
            if each.startswith(f"{PREFIX}{pid}-"):
                _ip("netns", "delete", each, check=False)
        for folder in folders:
            if folder.name.startswith(f"{PREFIX}{pid}-"):
                shutil.rmtree(folder, ignore_errors=True)
        _remove_cgroups(f"{PREFIX}{pid}")
