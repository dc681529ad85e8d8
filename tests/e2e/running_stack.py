"""A running stack with a known face, for tests that change its engines under load."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.load import Load
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    free_port,
    get,
    post_photograph,
    sign_up,
)

GRACE = PORTRAITS / "grace_hopper.jpg"
ROUTES = ("/admin/status", "/api/v1/consistence/status", "/core/status")


@dataclass
class Stack:
    """A running instance of the embedded build with every service, and a face that it knows."""

    docker: Docker
    cf: Cf
    instance: str
    ui: str
    engine: str
    up: tuple[str, ...]
    key: str = ""

    def containers(self) -> dict[str, str]:
        """Service -> id and start of its container."""
        label = f"--filter=label=com.docker.compose.project=cf-{self.instance}"
        found = {}
        for name in self.docker("ps", "--all", label, "--format={{.Names}}").split():
            row = self.docker.inspect(name)
            service = row["Config"]["Labels"]["com.docker.compose.service"]
            assert service not in found, f"two containers of {service}"
            found[service] = f"{row['Id']} {row['State']['StartedAt']}"
        return found

    def engines(self) -> list[str]:
        """Names of the engines' containers that run, by number."""
        label = f"--filter=label=com.docker.compose.project=cf-{self.instance}"
        also = "--filter=label=com.docker.compose.service=compreface-core"
        names = self.docker("ps", label, also, "--format={{.Names}}").split()
        return sorted(names, key=lambda name: int(name.rpartition("-")[2]))

    def name_of(self, service: str) -> str:
        label = f"--filter=label=com.docker.compose.project=cf-{self.instance}"
        also = f"--filter=label=com.docker.compose.service=compreface-{service}"
        return self.docker("ps", "--all", label, also, "--format={{.Names}}")

    def recognising(self, connections: int) -> Load:
        """People who ask through the UI's port and the api."""
        return Load(
            f"{self.ui}/api/v1/recognition/recognize",
            GRACE,
            connections=connections,
            header={"x-api-key": self.key},
        )

    def scanning(self, connections: int) -> Load:
        """Programs that ask the engine at its own port."""
        return Load(f"{self.engine}/find_faces", GRACE, connections=connections)

    def answers(self) -> bool:
        try:
            return all(get(self.ui + route)[1].get("status") == "OK" for route in ROUTES)
        except (OSError, ValueError):
            return False

    def knows_grace(self) -> None:
        found = post_photograph(f"{self.ui}/api/v1/recognition/recognize", GRACE, key=self.key)
        assert found[0] == 200, found
        assert found[1]["result"][0]["subjects"][0]["subject"] == "Grace"


@contextmanager
def running_stack(docker: Docker, cf: Cf, *options: str) -> Iterator[Stack]:
    """A stack of the embedded build that knows Grace; it is removed at the end of the block."""
    instance, ui, engine = f"e2e-{uuid.uuid4().hex[:8]}", free_port(), free_port()
    ports = ("--port", str(ui), "--core-port", str(engine))
    up = ("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    try:
        cf.ok(*up, *options)
        stack = Stack(
            docker, cf, instance, f"http://127.0.0.1:{ui}", f"http://127.0.0.1:{engine}", up
        )
        stack.key = sign_up(stack.ui)["RECOGNITION"]
        added = f"{stack.ui}/api/v1/recognition/faces?subject=Grace"
        assert post_photograph(added, GRACE, key=stack.key)[0] == 201
        yield stack
    finally:
        docker.sweep(f"cf-{instance}")
