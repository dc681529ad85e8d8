"""Passwords of a stack with a real PostgreSQL: replaced while it runs, and whatever is killed."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.deploy.rotation import PENDING
from compreface_cli.project.writer import read_env
from tests.cli.names import assert_named
from tests.e2e.conftest import up_core
from tests.e2e.load import Load
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph, sign_up, sql

GRACE = PORTRAITS / "grace_hopper.jpg"
# Runs cf, and kills it as soon as the named function has returned for the first time.
KILLED = """
import os, signal, sys
from compreface_cli import cli
from compreface_cli.deploy import rotation, running
place, name = sys.argv.pop(1).rsplit(".", 1)
owner = eval(place)
whole = getattr(owner, name)
def last(*arguments, **named):
    whole(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, last)
cli.main()
"""


@dataclass
class Stack:
    """A running instance with one stored face."""

    cf: Cf
    docker: Docker
    instance: str
    up: tuple[str, ...]
    ui: str
    key: str

    @property
    def env(self) -> Path:
        return self.cf.project(self.instance) / ".env"

    @property
    def password(self) -> str:
        return read_env(self.env)["POSTGRES_PASSWORD"]

    def container(self, service: str) -> dict[str, Any]:
        return self.docker.inspect(f"cf-{self.instance}-compreface-{service}-1")

    def accepts(self, password: str) -> bool:
        """Whether the database's user can log in with the password, over the network."""
        container = self.container("postgres-db")["Id"]
        inside = "exec psql -h $(hostname -i) -U $POSTGRES_USER -d $POSTGRES_DB -c 'select 1'"
        done = subprocess.run(
            ["docker", "exec", f"--env=PGPASSWORD={password}", container, "sh", "-c", inside],
            capture_output=True,
            timeout=30,
            check=False,
        )
        return done.returncode == 0

    def recognises(self) -> bool:
        url = f"{self.ui}/api/v1/recognition/recognize"
        status, answer = post_photograph(url, GRACE, key=self.key)
        return status == 200 and answer["result"][0]["subjects"][0]["subject"] == "Grace"

    def assert_whole(self, before: str) -> None:
        """The password is another one, and only that; nothing of the change is left."""
        assert self.password != before
        assert self.accepts(self.password)
        assert not self.accepts(before)
        for service in ("postgres-db", "admin", "api"):
            assert f"POSTGRES_PASSWORD={self.password}" in self.container(service)["Config"]["Env"]
        assert stat.S_IMODE(self.env.stat().st_mode) == 0o600
        assert not (self.env.parent / PENDING).exists()
        assert self.cf.run("status", self.instance).returncode == 0
        assert self.recognises()


@pytest.fixture(scope="module")
def running(
    docker: Docker,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    cf = Cf(tmp_path_factory.mktemp("secrets"))
    cf.environment |= stack
    instance, port = f"e2e-{uuid.uuid4().hex[:8]}", free_port()
    ports = ("--port", str(port), "--core-port", str(free_port()))
    up = ("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    try:
        cf.ok(*up)
        ui = f"http://127.0.0.1:{port}"
        key = sign_up(ui)["RECOGNITION"]
        added = post_photograph(f"{ui}/api/v1/recognition/faces?subject=Grace", GRACE, key=key)
        assert added[0] == 201, added
        yield Stack(cf, docker, instance, up, ui, key)
    finally:
        docker.sweep(f"cf-{instance}")


def test_a_new_database_password_while_the_stack_runs_and_while_it_is_stopped(
    running: Stack,
) -> None:
    """Neither password gets into an output or the server's log, whatever that logs."""
    cf, instance, first = running.cf, running.instance, running.password
    sql(instance, "alter system set log_statement = 'all'; select pg_reload_conf()")
    stays = {each: running.container(each)["State"]["StartedAt"] for each in ("core", "fe")}
    rehearsed = json.loads(cf.ok("secrets", "rotate", instance, "--dry-run", "--json"))
    assert [each["service"] for each in rehearsed["away"]] == ["postgres", "admin", "api"]
    assert running.password == first

    following = ["docker", "logs", "--follow", running.container("postgres-db")["Id"]]
    with subprocess.Popen(following, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as log:
        done = cf.run("secrets", "rotate", instance)
        assert done.returncode == 0, done.stderr
        logs = log.communicate(timeout=30)[0].decode()  # until its container is removed
    running.assert_whole(first)
    second = running.password
    for service, since in stays.items():
        assert running.container(service)["State"]["StartedAt"] == since
    said = "".join((logs, done.stdout, done.stderr))
    assert "alter user" in logs.lower()  # the server's log has the statement
    assert first not in said
    assert second not in said
    cf.ok(*running.up)  # the project is as `up` would write it
    assert running.password == second

    listed = json.loads(cf.ok("secrets", "list", instance, "--json"))
    assert [each["name"] for each in listed["secrets"]] == ["postgres_password"]
    assert listed["secrets"][0]["file"] == str(running.env)
    assert second not in cf.ok("secrets", "list", instance)
    assert cf.ok("secrets", "list", instance, "--show", "postgres_password").strip() == second
    assert cf.run("secrets", "list", instance, "--show", "nothing").returncode == 2

    cf.environment["CF_POSTGRES_PASSWORD"] = second
    refused = cf.run("secrets", "rotate", instance)
    assert refused.returncode == 3
    assert_named(refused.stderr, "CF_POSTGRES_PASSWORD")
    del cf.environment["CF_POSTGRES_PASSWORD"]

    cf.ok("down", instance)
    cf.ok("secrets", "rotate", instance)
    assert running.password != second
    assert running.docker.things_of(f"cf-{instance}") == [f"cf-{instance}_postgres-data"]
    cf.ok(*running.up)
    running.assert_whole(second)


def test_new_api_keys_without_a_failed_request(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    """The engine in its container reads them again, with the old ones until they are dropped."""
    old, file = "the-key-of-an-old-client", cf.here / "keys.txt"
    file.write_text(f"{old}\n")
    cf.environment["CF_API_KEYS_FILE"] = "keys.txt"
    port = free_port()
    up = up_core(instance, port)
    cf.ok(*up)
    container = docker.inspect(f"cf-{instance}-compreface-core-1")
    url = f"http://127.0.0.1:{port}/find_faces"
    rotate = ("secrets", "rotate", instance, "--api-keys")
    with Load(url, GRACE, connections=4, header={"X-Api-Key": old}) as asking:
        cf.ok(*rotate)
        asking.answered(5)
    assert asking.result.failed == 0, asking.result
    new = file.read_text().split()[0]
    with Load(url, GRACE, connections=4, header={"X-Api-Key": new}) as asking:
        assert json.loads(cf.ok(*rotate, "--drop-old", "--json"))["old"] == 0
        asking.answered(5)
    assert asking.result.failed == 0, asking.result
    assert post_photograph(url, GRACE, key=old)[0] == 401
    assert json.loads(cf.ok(*up, "--json"))["change"] == "already running"
    after = docker.inspect(f"cf-{instance}-compreface-core-1")
    assert after["State"]["StartedAt"] == container["State"]["StartedAt"]
    assert cf.run("scan", str(GRACE), "--instance", instance).returncode == 0


# After each of these `cf` is killed, and then run again: the rotation, or `cf up`.
KILLS = (
    ("rotation.writer.write_whole", "rotate"),
    ("rotation._alter", "up"),
    ("rotation.writer.set_env", "rotate"),
    ("rotation._stop", "up"),
    ("rotation._prove", "rotate"),
)


def test_a_rotation_killed_at_any_point_is_healed(running: Stack, tmp_path: Path) -> None:
    cf, instance = running.cf, running.instance
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    rotate = ("secrets", "rotate", instance)
    for function, healing in KILLS:
        before = running.password
        killed = subprocess.run(
            [sys.executable, str(script), function, *rotate],
            cwd=cf.here,
            env=cf._environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert killed.returncode == -9, killed.stderr
        told = cf.run("status", instance)
        assert told.returncode == 8
        assert_named(told.stdout, "cf secrets rotate")
        healed = cf.run(*(running.up if healing == "up" else rotate))
        assert healed.returncode == 0, healed.stderr
        running.assert_whole(before)
