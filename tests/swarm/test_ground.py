"""The ground that the tests stand on: two nodes that come, go and leave nothing."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.e2e.machine import Docker, wait_until
from tests.swarm.ground import PREFIX, ground

BASE = "python:3.11-slim-bookworm"
ASK = (
    "import socket, urllib.request\n"
    "found = {row[4][0] for row in socket.getaddrinfo('web', 8000)}\n"
    "print(len([urllib.request.urlopen(f'http://{a}:8000/', timeout=9) for a in found]))"
)


@pytest.mark.swarm
def test_two_nodes_share_a_service_and_leave_nothing(docker: Docker) -> None:
    with ground(2) as swarm:
        reference = swarm.publish(BASE)
        swarm.manager.docker("network", "create", "--driver=overlay", "net")
        swarm.manager.docker(
            *("service", "create", "--detach", "--name=web", "--network=net", "--replicas=4"),
            *("--endpoint-mode=dnsrr", reference, "python3", "-m", "http.server", "8000"),
        )
        both = {node.name: 2 for node in swarm.nodes}
        wait_until(lambda: swarm.nodes_of("web") == both, 120)
        container = swarm.manager.containers()[0]
        # Across the overlay network, so to the other node too.
        assert swarm.manager.docker("exec", container, "python3", "-c", ASK) == "4"
        swarm.workers[0].power_off()
        swarm.wait_for_nodes(1)
        swarm.workers[0].power_on()
        swarm.wait_for_nodes(2)
    name = f"{PREFIX}{os.getpid()}"
    assert not list(Path(tempfile.gettempdir()).glob(f"{name}-*"))
    assert (
        name not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    )
    assert name not in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}-*"))
