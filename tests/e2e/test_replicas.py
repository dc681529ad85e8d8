"""Several engines of one stack: their number changes under load, and no request fails."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import Cf, Docker, wait_until
from tests.e2e.running_stack import Stack, running_stack


@pytest.fixture(scope="module")
def running(
    docker: Docker,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    cf = Cf(tmp_path_factory.mktemp("replicas"))
    cf.environment |= stack
    with running_stack(docker, cf) as standing:
        yield standing


def under_load(running: Stack, what: str, change: Callable[[], object]) -> None:
    """Change something while eight connections recognise and two ask the engine; none fails."""
    people, programs = running.recognising(8), running.scanning(2)
    people.start()
    programs.start()
    began = time.monotonic()
    try:
        people.answered(20)
        change()
        people.answered(20)
    finally:
        results = people.stop(), programs.stop()
    took_s = time.monotonic() - began
    for name, result in zip(("api", "engine's port"), results, strict=True):
        print(
            f"| {what}, {name} | {result.sent} | {result.failed} | "
            f"{result.slowest_s:.1f} | {took_s:.0f} |"
        )
        assert result.failed == 0, str(result)
    running.knows_grace()


def metrics(running: Stack) -> dict[int, float]:
    """Number of each engine -> photographs that it has answered, by its own `/metrics`."""
    (row,) = json.loads(running.cf.ok("status", running.instance, "--json"))["instances"]
    (core,) = (each for each in row["services"] if each["name"] == "core")
    answered = {}
    for each in core["replicas"]:
        assert (each["state"], each["healthy"]) == ("running", True), each
        with urllib.request.urlopen(each["metrics"], timeout=10) as answer:
            lines = answer.read().decode()
        counted = re.findall(r'^compreface_requests_total\{.*status="200".*\} (\S+)$', lines, re.M)
        answered[each["number"]] = sum(map(float, counted))
    return answered


def test_the_number_of_engines_changes_without_a_failed_request(running: Stack) -> None:
    cf, up = running.cf, running.up
    cf.environment["CF_CPUS"] = "none"  # a share would change with the number
    planned = json.loads(cf.ok(*up, "--replicas", "3", "--dry-run", "--json"))
    verbs = [(each["verb"], each["target"]) for each in planned["operations"]]
    assert ("add engine", "engine 2") in verbs
    assert ("add engine", "engine 3") in verbs
    assert len(running.engines()) == 1
    (first,) = running.engines()

    under_load(running, "1 to 3 engines", lambda: cf.ok(*up, "--replicas", "3"))
    assert len(running.engines()) == 3
    assert first in running.engines(), "the running engine stays"
    assert_named(cf.ok("status", running.instance), "core 3", "/metrics")
    before = metrics(running)
    people = running.recognising(8)
    people.start()
    people.answered(60)
    people.stop()
    spread = {number: metrics(running)[number] - count for number, count in before.items()}
    print(f"requests by engine: {spread}")
    assert min(spread.values()) > 0, spread
    assert json.loads(cf.ok(*up, "--replicas", "3", "--json"))["change"] == "already running"

    under_load(running, "3 to 2 engines", lambda: cf.ok(*up, "--replicas", "2"))
    assert len(running.engines()) == 2
    both = set(running.engines())
    cf.environment["CF_MAX_DETECT_SIZE"] = "700"
    under_load(running, "a setting of 2 engines", lambda: cf.ok(*up, "--replicas", "2"))
    assert len(running.engines()) == 2
    assert not both & set(running.engines())
    both = set(running.engines())
    under_load(running, "restart of 2 engines", lambda: cf.ok("restart", running.instance))
    assert len(running.engines()) == 2
    assert not both & set(running.engines())
    del cf.environment["CF_CPUS"]
    under_load(running, "2 engines with their shares", lambda: cf.ok(*up, "--replicas", "2"))
    shares = [running.docker.inspect(name)["HostConfig"]["NanoCpus"] for name in running.engines()]
    assert len(shares) == 2
    assert min(shares) > 0
    assert sum(shares) <= 1e9 * int(running.docker("info", "--format={{.NCPU}}"))
    under_load(running, "2 engines to 1", lambda: cf.ok(*up))
    assert len(running.engines()) == 1


def test_a_killed_run_leaves_what_the_next_one_puts_right(running: Stack, tmp_path: Path) -> None:
    cf, up = running.cf, running.up
    cf.ok(*up, "--replicas", "2")
    before = running.engines()
    cf.environment["CF_MAX_DETECT_SIZE"] = "720"
    with (tmp_path / "output").open("w") as output:
        run = cf.start(*up, "--replicas", "3", output=output)
        # until the first of them has ended
        wait_until(lambda: not set(before) <= set(running.engines()), timeout_s=120)
        run.send_signal(signal.SIGKILL)
        run.wait()
    running.knows_grace()
    cf.ok(*up, "--replicas", "3")
    assert len(running.engines()) == 3
    assert len(metrics(running)) == 3
    running.knows_grace()


def test_an_engine_that_is_gone_is_noticed_and_replaced(running: Stack) -> None:
    cf, up = running.cf, running.up
    cf.ok(*up, "--replicas", "2")
    gone = running.engines()[-1]
    running.docker("rm", "--force", gone)
    assert cf.run("status", running.instance).returncode == 8
    assert_named(cf.run("status", running.instance).stdout, "1 of 2")
    cf.ok(*up, "--replicas", "2")
    assert len(running.engines()) == 2
    assert cf.run("status", running.instance).returncode == 0
