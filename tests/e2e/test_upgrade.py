"""`cf upgrade` and `cf rollback` on a stack of stand-ins, one of which changes the schema."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import (
    PORTRAITS,
    REGISTRY,
    STANDINS,
    TAG,
    Cf,
    Docker,
    free_port,
    post_photograph,
    sign_up,
    sql,
)
from tests.shared import shared

LATER, BROKEN, SLOW = (f"{what}-{TAG}" for what in ("later", "broken", "slow"))
CHANGE = "1.3.0 add-note-to-subject"


@pytest.fixture(scope="module")
def versions(docker: Docker, stack: dict[str, str]) -> None:
    """Images of later versions: the admin of each adds a change set to the schema."""
    dump = f"--build-context=dump={shared('contract', 'stack')}"

    def build(name: str, tag: str, *arguments: str) -> None:
        docker.build(STANDINS, f"{REGISTRY}{name}:{tag}", f"--target={name}", *arguments)

    for tag, behaviour in ((LATER, "well"), (BROKEN, "broken"), (SLOW, "slow")):
        build("compreface-admin", tag, "--build-arg=VERSION=1.3.0", dump)
        build("compreface-api", tag, f"--build-arg=BEHAVIOUR={behaviour}")
        build("compreface-fe", tag)


@dataclass
class Stack:
    """An instance with faces."""

    cf: Cf
    name: str
    ui: str
    command: tuple[str, ...]
    key: str = ""

    def add(self, subject: str) -> None:
        url = f"{self.ui}/api/v1/recognition/faces?subject={subject}"
        status, answer = post_photograph(url, PORTRAITS / "astronaut.png", key=self.key)
        assert status == 201, answer

    def sees(self, subject: str) -> bool:
        url = f"{self.ui}/api/v1/recognition/recognize?prediction_count=9"
        status, answer = post_photograph(url, PORTRAITS / "astronaut.png", key=self.key)
        assert status == 200, answer
        return subject in [each["subject"] for each in answer["result"][0]["subjects"]]

    def subjects(self) -> list[str]:
        return sql(
            self.name,
            "select s.subject_name from public.subject s join public.embedding e"
            f" on e.subject_id = s.id where s.api_key = '{self.key}' order by 1",
        ).splitlines()

    def migrated(self) -> bool:
        ids = "select count(*) from public.databasechangelog where id = 'add-note-to-subject'"
        return sql(self.name, ids) == "1"

    def killed(self, *arguments: str, at: str) -> str:
        """Run, and kill it at the line with these words; `cf status` then names the command."""
        code, said = self.cf.interrupted(
            *arguments, when=lambda line: at in line, number=signal.SIGKILL
        )
        assert code == -signal.SIGKILL, said
        status = self.cf.run("status", self.name)
        assert status.returncode == 8, status.stdout
        assert_named(status.stdout, f"cf {' '.join(arguments)}")
        return said


@pytest.fixture
def up(
    cf: Cf, instance: str, embedded: dict[str, Any], stack: dict[str, str], versions: None
) -> Stack:
    cf.environment |= stack
    port = str(free_port())
    ports = ("--port", port, "--core-port", str(free_port()))
    command = ("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    cf.ok(*command)
    running = Stack(cf, instance, f"http://127.0.0.1:{port}", command)
    running.key = sign_up(running.ui)["RECOGNITION"]
    running.add("Eileen")
    return running


def test_versions_change_with_a_check_and_go_back_with_the_data(up: Stack, docker: Docker) -> None:
    cf = up.cf
    for tag, limit in ((BROKEN, "60"), (SLOW, "30")):
        failed = cf.run("upgrade", up.name, "--to", tag, "--timeout", limit, "--json")
        assert failed.returncode == 8, failed.stdout
        assert json.loads(failed.stdout)["error"]["details"]["back"] is True
        assert not up.migrated()
        assert up.subjects() == ["Eileen"]
        assert up.sees("Eileen")
        assert cf.run("status", up.name).returncode == 0

    shown = json.loads(cf.ok("upgrade", up.name, "--to", LATER, "--dry-run", "--json"))
    assert {step["service"] for step in shown["versions"]} == {"admin", "api", "fe"}
    assert {each["service"] for each in shown["away"]} == {"admin", "api", "fe"}
    done = json.loads(cf.ok("upgrade", up.name, "--to", LATER, "--json"))
    assert (done["change"], done["recognised"]["subject"]) == ("upgraded", "Eileen")
    assert Path(done["backup"]).is_file()
    assert up.migrated()
    up.add("Later")

    # An older admin is not started on it, neither on the running stack nor after a stop.
    older = cf.run(*up.command, "--json")
    assert older.returncode == 5, older.stdout
    assert CHANGE in older.stdout
    cf.ok("down", up.name)
    older = cf.run(*up.command, "--json")
    assert older.returncode == 5, older.stdout
    assert CHANGE in older.stdout
    newer = {f"CF_{part}_VERSION": LATER for part in ("ADMIN", "API", "FE")}
    old = dict(cf.environment)
    for part in newer:
        del cf.environment[part]
    cf.ok(*up.command)  # the versions that the upgrade has chosen are kept
    cf.environment |= old
    assert up.sees("Later")

    refused = cf.run("rollback", up.name, "--json")
    assert refused.returncode == 5, refused.stdout
    details = json.loads(refused.stdout)["error"]["details"]
    assert details["change_sets"] == [CHANGE]
    assert details["faces_since"] == 1
    back = json.loads(cf.ok("rollback", up.name, "--restore-backup", "--json"))
    assert back["change"] == "rolled back"
    assert back["put_back"]["carried"]["added"] == 1
    assert not up.migrated()
    assert up.subjects() == ["Eileen", "Later"]
    assert up.sees("Later")
    kept = json.loads(cf.ok("data", "clean", up.name, "--yes", "--json"))["databases"]
    assert back["put_back"]["kept"] in kept
    assert json.loads(cf.ok("data", "clean", up.name, "--json"))["change"] == "nothing"

    # Another major version of PostgreSQL is no upgrade.
    cf.environment["CF_POSTGRES_IMAGE"] = other_postgres(docker, up.cf.here)
    refused = cf.run("upgrade", up.name, "--json")
    assert refused.returncode == 5, refused.stdout
    assert json.loads(refused.stdout)["error"]["details"] == {"here": 15, "there": 16}


def other_postgres(docker: Docker, folder: Path) -> str:
    """An image whose PostgreSQL says that it is of version 16."""
    (folder / "Dockerfile").write_text(
        f"FROM {REGISTRY}compreface-postgres-db:{TAG}\n"
        "RUN mv /usr/lib/postgresql/15/bin/postgres /usr/lib/postgresql/15/bin/real && printf"
        " '#!/bin/sh\\necho \"postgres (PostgreSQL) 16.1\"\\n' >"
        " /usr/lib/postgresql/15/bin/postgres"
        " && chmod +x /usr/lib/postgresql/15/bin/postgres\n"
    )
    return docker.build(folder, docker.own_name("postgres-16"))


def test_runs_that_are_killed_are_put_right_by_the_same_command(up: Stack) -> None:
    later = ("upgrade", up.name, "--to", LATER)
    up.killed(*later, at="backing up")
    up.killed(*later, at="Waiting for the engine's answer")
    assert up.migrated()
    refused = up.cf.run(*up.command)  # the older admin, which must not start on it
    assert refused.returncode == 5, refused.stderr
    up.killed(*later, at="restoring")  # what was killed before is put right first
    assert up.subjects() == ["Eileen"]
    up.cf.ok(*later)
    assert up.migrated()
    assert up.subjects() == ["Eileen"]
    assert up.sees("Eileen")

    up.add("Later")
    back = ("rollback", up.name, "--restore-backup")
    for at in ("restoring", "The database is as in"):
        up.killed(*back, at=at)
    up.cf.ok(*back)
    broken = ("upgrade", up.name, "--to", BROKEN)
    up.killed(*broken, at="restoring")  # when it goes back by itself
    assert up.cf.run(*broken).returncode == 8
    assert not up.migrated()
    assert up.subjects() == ["Eileen", "Later"]
    assert up.sees("Later")
    assert up.cf.run("status", up.name).returncode == 0
