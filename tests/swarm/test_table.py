"""The table of an instance on a Swarm: what was done, and what became of the requests meanwhile."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path

import pytest

from tests.e2e.conftest import misbehaving
from tests.e2e.machine import Docker, wait_until
from tests.swarm.stack import Instance, Row

pytestmark = pytest.mark.swarm
DOWN_S = 40.0
"""Longest time from the first to the last failed request where a node dies: the Swarm counts it as
dead after 15 s, and takes its addresses away then."""


def spread(row: Row) -> float:
    """Seconds from the first to the last failed request."""
    times = [one.at_s for _, one in row.failures]
    return max(times) - min(times) if times else 0.0


def test_one_engine_to_four_and_back(running: Instance) -> None:
    with running.load("1 engine to 4"):
        running.up("--replicas", "4")
        running.wait_for(4)
    assert running.last.failures == []
    assert len(running.swarm.nodes_of(running.service("core"))) == 2
    with running.load("4 engines to 1"):
        running.up("--replicas", "1")
        running.wait_for(1)
    assert running.last.failures == []


def test_a_new_setting(running: Instance) -> None:
    running.up("--replicas", "2")
    running.cf.environment["CF_MAX_DETECT_SIZE"] = "720"
    with running.load("a new setting, 2 engines"):
        running.up("--replicas", "2")
    assert running.state() == "completed"
    assert running.last.failures == []


def test_a_new_image(
    running: Instance, docker: Docker, embedded: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {embedded['image']}\nLABEL test={uuid.uuid4().hex}\n"
    )
    image = running.swarm.publish(docker.build(tmp_path, docker.own_name("newer")))
    with running.load("a new image, 2 engines"):
        running.up("--replicas", "2", "--image", image)
    assert running.state() == "completed"
    assert running.last.failures == []


def test_an_image_that_never_gets_healthy(running: Instance, docker: Docker) -> None:
    bad = running.swarm.publish(misbehaving(docker, "unhealthy"))
    before = running.image()
    with running.load("an image that never gets healthy, by docker service update"):
        running.swarm.manager.docker(
            *("service", "update", "--detach", "--image", bad, running.service("core"))
        )
        wait_until(lambda: running.state() == "rollback_completed", 300)
        running.wait_for(2)
    assert running.last.failures == []
    assert running.image() == before
    with running.load("the same by cf up"):
        refused = running.cf.run(*running.words("--replicas", "2", "--image", bad))
    assert refused.returncode == 8, refused.stderr
    assert running.last.failures == []
    assert running.image() == before


def test_a_node_dies_and_comes_back(running: Instance) -> None:
    manager, worker = running.swarm.nodes
    running.up("--replicas", "4")
    running.wait_for(4)
    wait_until(lambda: len(running.swarm.nodes_of(running.service("core"))) == 2, 120)
    with running.load("a node dies: at the other node's port", nodes=[manager]):
        worker.power_off()
        running.swarm.wait_for_nodes(1)
        running.wait_for(4)
        time.sleep(10)
    died = running.last
    with running.load("it comes back", nodes=[manager]):
        worker.power_on()
        running.swarm.wait_for_nodes(2)
        wait_until(lambda: running.knows_grace(worker), 180)
    assert running.last.failures == []
    assert spread(died) < DOWN_S, str(died)


def test_the_daemon_of_the_manager_is_killed_and_restarted(running: Instance) -> None:
    manager, worker = running.swarm.nodes
    with running.load("the manager's daemon is killed and started", nodes=[worker]):
        manager.stop_engine(signal.SIGKILL)
        time.sleep(5)
        manager.start_engine()
        running.swarm.wait_for_nodes(2)
        wait_until(lambda: running.knows_grace(worker), 240)
    wait_until(lambda: all(running.knows_grace(node) for node in running.swarm.nodes), 240)
    assert running.cf.ok("status")
