"""Services that cannot use their database: why, in `cf status`, and the archive about them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    free_port,
    post_photograph,
    sign_up,
    sql,
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


def test_services_that_cannot_use_the_database_are_told_with_their_reason(
    docker: Docker,
    cf: Cf,
    instance: str,
    embedded: dict[str, Any],
    stack: dict[str, str],
    status: Callable[[], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """A password with all that Compose, YAML and a shell could take for their own works first."""
    password = "p$a\"ss #1'x ${y} %z"
    cf.environment |= {**stack, "CF_POSTGRES_PASSWORD": password}
    ports = ("--port", str(free_port()), "--core-port", str(free_port()))
    cf.ok("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    ui = f"http://127.0.0.1:{ports[1]}"
    keys = sign_up(ui)
    added = post_photograph(
        f"{ui}/api/v1/recognition/faces?subject=Jane%20Roe",
        PORTRAITS / "grace_hopper.jpg",
        key=keys["RECOGNITION"],
    )
    assert added[0] == 201
    admin = f"cf-{instance}-compreface-admin-1"
    assert docker.inspect(admin)["State"]["Health"]["Status"] == "healthy"

    def again() -> None:
        docker("restart", "--time=1", admin)

    sql(instance, "update databasechangeloglock set locked = true, lockedby = 'gone (1.2.3.4)'")
    again()
    stuck = becomes(status, "starting", "schema-lock")
    assert_named(stuck["reason"]["line"], "Waiting for changelog lock")
    sql(instance, "update databasechangeloglock set locked = false, lockedby = null")

    sql(instance, "alter user postgres password 'another'")
    again()
    refused = becomes(status, "crash-looping", "database-password")
    assert_named(refused["detail"], "admin", "[database-password]")
    log = cf.ok("logs", instance, "--explain", "--tail", "1000")
    assert_named(log, "admin: ", "[database-password]", "[schema-lock]")

    archive = tmp_path / "a.tar.gz"
    cf.ok("support", instance, "-o", str(archive))
    with tarfile.open(archive) as opened:
        files = {
            member.name.partition("/")[2]: opened.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in opened
        }
    everything = "".join(files.values())
    secrets = {password, "Jane", *keys.values()}
    assert not {secret for secret in secrets if secret in everything}
    assert_named(files["logs/postgres.log"], "password authentication failed")
    assert json.loads(files["contents.json"])["subjects"] == 1
    assert_named(files["project/compose.yaml"], "compreface-postgres-db")
    assert "project/.env" not in files
