"""Why an instance does not run well: real crash loops, and a late engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.conftest import misbehaving, up_core
from tests.e2e.machine import (
    Cf,
    Docker,
    free_port,
    wait_until,
)


@pytest.fixture
def status(cf: Cf, instance: str) -> Callable[[], dict[str, Any]]:
    """What `cf status --json` says of the instance."""

    def look() -> dict[str, Any]:
        document = json.loads(cf.run("status", instance, "--json").stdout)
        (row,) = document["instances"]
        return dict(row)

    return look


def becomes(status: Callable[[], dict[str, Any]], state: str, id_: str) -> dict[str, Any]:
    """The status once it is in that state for that reason."""
    seen: list[dict[str, Any]] = []

    def there() -> bool:
        seen[:] = [status()]
        return seen[0]["state"] == state and (seen[0]["reason"] or {}).get("id") == id_

    try:
        wait_until(there, timeout_s=120)
    except AssertionError:
        raise AssertionError(f"{state} {id_}: {seen[0]['state']} {seen[0]['reason']}") from None
    return seen[0]


def test_an_engine_in_a_crash_loop_is_told_with_its_reason(
    docker: Docker,
    cf: Cf,
    instance: str,
    embedded: dict[str, Any],
    status: Callable[[], dict[str, Any]],
) -> None:
    cf.ok(*up_core(instance, free_port()))
    folder = cf.project(instance)
    compose = folder / "compose.yaml"
    override = folder / "compose.override.yaml"
    override.write_text("services: {compreface-core: {image: '${ENGINE:?}'}}\n")

    def run(image: str, limits: str = "") -> None:
        override.write_text(
            f"services: {{compreface-core: {{image: '{image}', read_only: false{limits}}}}}\n"
        )
        files = (f"--file={compose}", f"--file={override}", f"--project-directory={folder}")
        docker("compose", f"--project-name=cf-{instance}", *files, "up", "-d", "--no-build")

    run(misbehaving(docker, "hungry"), ", mem_limit: 64m, memswap_limit: 64m")
    hungry = becomes(status, "crash-looping", "service-out-of-memory")
    assert_named(hungry["detail"], "[service-out-of-memory]")
    assert hungry["services"][0]["restarts"] > 0

    run(misbehaving(docker, "sigill"))
    assert_named(becomes(status, "crash-looping", "cpu-instructions")["detail"], "132")
    told = cf.run("status", instance)
    assert told.returncode == 8
    assert_named(told.stdout, "crash-looping", "[cpu-instructions]")

    run(misbehaving(docker, "no-model"))
    missing = becomes(status, "crash-looping", "engine-model-missing")
    assert_named(missing["reason"]["line"], "model.json does not exist")
    log = cf.ok("logs", instance, "--explain")
    assert log.count("[engine-model-missing]") == 1, "once, however often the line is repeated"
    noted = json.loads(cf.ok("logs", instance, "--explain", "--json"))["notes"]
    assert [note["id"] for note in noted] == ["engine-model-missing"]
    docker("stop", f"cf-{instance}-compreface-core-1")  # or it starts again and logs anew
    time.sleep(2)
    assert json.loads(cf.ok("logs", instance, "--json"))["lines"]
    assert json.loads(cf.ok("logs", instance, "--since", "1s", "--json"))["lines"] == []

    run(misbehaving(docker, "late"))
    late = becomes(status, "slow", "engine-late")
    assert_named(late["detail"], "[engine-late]")
    assert cf.run("status", instance).returncode == 0
