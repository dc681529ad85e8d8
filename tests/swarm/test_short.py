"""The short form of the table: engines are added, changed and removed on two nodes under load.

`make swarm` has the rest: four engines, another image, an image that never gets healthy, a dead
node and a dead daemon.
"""

from __future__ import annotations

from tests.swarm.stack import Instance


def test_no_request_fails_while_engines_come_change_and_go(running: Instance) -> None:
    with running.load("1 engine to 3"):
        running.up("--replicas", "3")
        running.wait_for(3)
    assert running.last.failures == []
    assert len(running.swarm.nodes_of(running.service("core"))) == 2, "on both nodes"
    running.cf.environment["CF_MAX_DETECT_SIZE"] = "700"
    with running.load("a new setting, then 3 engines to 1"):
        running.up("--replicas", "3")
        assert running.state() == "completed"
        running.up("--replicas", "1")
        running.wait_for(1)
    assert running.last.failures == []
    assert all(running.knows_grace(node) for node in running.swarm.nodes)
