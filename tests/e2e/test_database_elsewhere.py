"""The stack on a PostgreSQL elsewhere, over TLS: Debian's, which no container runs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from compreface_cli.project.writer import read_env
from tests.cli.names import assert_named
from tests.debian_postgres import BIN, NAME, PASSWORD, USER, Server, serving
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph, sign_up, wait_until

PHOTOGRAPH = PORTRAITS / "astronaut.png"
NEW_PASSWORD = "Zq7+vK/9xW=elsewhere-0002"


class Stack(NamedTuple):
    cf: Cf
    docker: Docker
    instance: str
    up: tuple[str, ...]
    server: Server
    url: Path  # the file with the address
    key: str

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.up[self.up.index('--port') + 1]}/api/v1/recognition"

    def recognised(self) -> str:
        status, answer = post_photograph(f"{self.api}/recognize", PHOTOGRAPH, key=self.key)
        if status != 200:
            return str(status)
        return str(answer["result"][0]["subjects"][0]["subject"])

    def content(self) -> str:
        """A digest of all that the database holds."""
        return digest(self.server)


def digest(server: Server) -> str:
    environment = {"PGPASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"}
    words = [str(BIN / "pg_dump"), "--dbname", server.url("")]
    done = subprocess.run(words, env=environment, capture_output=True, timeout=60, check=True)
    # psql's guard has another word in each dump
    text = re.sub(rb"^\\(un)?restrict .*$", b"", done.stdout, flags=re.M)
    return hashlib.sha256(text).hexdigest()


def written(path: Path, server: Server, password: str) -> Path:
    path.write_text(server.url(f":{quote(password, safe='')}") + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def running(
    docker: Docker,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    cf = Cf(tmp_path_factory.mktemp("elsewhere"))
    instance = f"e2e-{uuid.uuid4().hex[:8]}"
    with serving() as server:
        url = written(cf.here / "url", server, PASSWORD)
        cf.environment |= stack | {"CF_DATABASE_URL_FILE": str(url)}
        up = (
            *("up", "embedded", "--launcher", "compose", "--instance", instance),
            *("--port", str(free_port()), "--core-port", str(free_port())),
        )
        try:
            cf.ok(*up)
            key = sign_up(f"http://127.0.0.1:{up[up.index('--port') + 1]}")["RECOGNITION"]
            yield Stack(cf, docker, instance, up, server, url, key)
        finally:
            docker.sweep(f"cf-{instance}")


def test_the_services_work_on_it_over_tls_and_nothing_of_it_is_here(running: Stack) -> None:
    added = post_photograph(f"{running.api}/faces?subject=Eileen", PHOTOGRAPH, key=running.key)
    assert added[0] == 201, added
    assert running.recognised() == "Eileen"
    clients = running.server.sql(
        "select count(*), bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid)"
        f" where usename = '{USER}'"
    )
    assert clients.endswith("|t")
    things = running.docker.things_of(f"cf-{running.instance}")
    assert not [thing for thing in things if "postgres" in thing]
    status = json.loads(running.cf.ok("status", running.instance, "--json"))["instances"][0]
    assert status["database_address"] == f"{running.server.host}:{running.server.port}/{NAME}"
    assert [row["level"] for row in status["database"]] == []
    assert {service["name"] for service in status["services"]} == {"core", "admin", "api", "fe"}


def test_it_stays_the_instances_own_without_the_setting(running: Stack) -> None:
    running.cf.environment.pop("CF_DATABASE_URL_FILE")
    try:
        again = json.loads(running.cf.ok(*running.up, "--json"))
        assert again["change"] == "already running"
    finally:
        running.cf.environment["CF_DATABASE_URL_FILE"] = str(running.url)


def test_another_instance_on_it_is_refused(running: Stack) -> None:
    other = [*running.up]
    other[other.index("--instance") + 1] = "another"
    for flag in ("--port", "--core-port"):
        other[other.index(flag) + 1] = str(free_port())
    refused = running.cf.run(*other, "--json")
    assert refused.returncode == 4, refused.stderr
    findings = json.loads(refused.stdout)["error"]["details"]["findings"]
    assert [row["id"] for row in findings] == ["elsewhere-in-use"]
    assert not running.cf.project("another").exists()
    # Nor does another user, who has no record of the first one.
    stranger = Cf(running.cf.here / "stranger")
    stranger.environment |= running.cf.environment
    refused = stranger.run(*other, "--dry-run", "--json")
    assert refused.returncode == 4, refused.stderr


def test_each_command_on_its_data_says_what_does_it_instead(running: Stack) -> None:
    address = f"{running.server.host}:{running.server.port}/{NAME}"
    for line in (
        f"data backup {running.instance}",
        f"data repair {running.instance}",
        f"data clean {running.instance}",
        f"data delete {running.instance}",
        f"data migrate {running.instance} --to mnet25-mobilefacenet",
        f"secrets rotate {running.instance} --database",
        f"upgrade {running.instance} --to 1.2.0",
        f"rollback {running.instance}",
        f"release {running.instance}",
    ):
        before = running.content()
        done = running.cf.run(*line.split())
        assert done.returncode in (2, 3, 4), (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert running.content() == before
        assert PASSWORD not in done.stdout + done.stderr
        print(line, done.returncode, done.stderr)
    refused = running.cf.run("data", "backup", running.instance)
    assert_named(refused.stderr, address, "pg_dump")
    running.cf.ok("data", "list")


def test_a_restart_of_the_database_is_survived(running: Stack) -> None:
    folder = running.server.folder
    running.server.program("pg_ctl", "-D", str(folder / "data"), "-m", "fast", "-w", "stop")
    sick = running.cf.run("status", running.instance, "--json")
    assert sick.returncode == 8
    (row,) = json.loads(sick.stdout)["instances"][0]["database"]
    assert row["id"] == "elsewhere-unreachable"
    refused = running.cf.run("restart", running.instance, "--all")
    assert refused.returncode == 8, refused.stderr
    started = ("-D", str(folder / "data"), "-w", "-l", str(folder / "log"), "start")
    running.server.program("pg_ctl", *started)
    running.cf.ok("restart", running.instance, "--all")
    assert running.recognised() == "Eileen"


def test_a_new_password_is_taken_and_a_wrong_one_refused(running: Stack) -> None:
    running.server.sql(f"alter role {USER} password '{NEW_PASSWORD}'", "postgres")
    try:
        refused = running.cf.run(*running.up, "--bind", "0.0.0.0", "--json")
        assert refused.returncode == 3, refused.stderr
        findings = json.loads(refused.stdout)["error"]["details"]["findings"]
        assert "elsewhere-login" in [row["id"] for row in findings]
        written(running.url, running.server, NEW_PASSWORD)
        running.cf.ok(*running.up)
        env = read_env(running.cf.project(running.instance) / ".env")
        assert env["POSTGRES_PASSWORD"] == NEW_PASSWORD
        wait_until(lambda: running.recognised() == "Eileen")
    finally:
        running.server.sql(f"alter role {USER} password '{PASSWORD}'", "postgres")
        written(running.url, running.server, PASSWORD)
    running.cf.ok(*running.up)
    assert running.recognised() == "Eileen"


def test_another_calculator_is_refused_before_anything_is_made(running: Stack) -> None:
    other = [*running.up]
    other[1] = "facenet"
    refused = running.cf.run(*other, "--dry-run", "--json")
    assert refused.returncode == 5, refused.stderr
    assert running.recognised() == "Eileen"


def test_down_leaves_it_as_it_is_and_up_finds_the_faces_again(running: Stack) -> None:
    before = running.content()
    stopped = json.loads(running.cf.ok("down", running.instance, "--volumes", "--json"))
    assert "volume" not in json.dumps(stopped.get("kept", {}))
    assert running.content() == before
    assert running.docker.things_of(f"cf-{running.instance}") == []
    running.cf.ok(*running.up)
    assert running.recognised() == "Eileen"
    running.cf.ok("down", running.instance)
    running.cf.ok("rm", running.instance, "--confirm", running.instance)
    assert running.content() == before
