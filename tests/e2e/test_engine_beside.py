"""The engine of another build runs beside an instance, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import resources
from compreface_cli.data import recompute
from compreface_cli.deploy.beside import engine_beside
from compreface_cli.docker import containers
from compreface_cli.docker.labels import LABEL_TRIAL
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import UnhealthyError
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import asked_for
from compreface_cli.terminal.output import Output
from tests.e2e.conftest import misbehaving
from tests.e2e.machine import Docker, wait_until


def plan_of(instance: str, **more: Any) -> Plan:
    flags = {"build": "embedded", "instance": instance, "launcher": "compose", **more}
    return asked_for(flags)[0]


def beside(instance: str) -> list[str]:
    return [each.id for each in containers.listed(f"{LABEL_TRIAL}={instance}")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_it_answers_for_the_block_and_is_gone_afterwards(
    docker: Docker, embedded: dict[str, Any], instance: str
) -> None:
    portrait = resources.portrait().read_bytes()
    plan = plan_of(instance, rate_limit=1.0)  # a limit for callers from outside
    with engine_beside(plan, Output(quiet=True)) as endpoint, EngineClient(endpoint.url) as client:
        assert len(beside(instance)) == 1
        pictures = [(number, portrait) for number in range(8)]
        looked = [each for _, each in recompute.several(client, pictures)]
    assert {each.kind for each in looked} == {"one face"}
    assert len({each.faces[0].embedding for each in looked}) == 1
    assert beside(instance) == []
    assert docker("network", "ls", "-q", "--filter", f"name=cf-{instance}") == ""


def test_an_engine_that_answers_wrongly_is_removed_with_its_reason(
    docker: Docker, embedded: dict[str, Any], instance: str
) -> None:
    image = misbehaving(docker, "crash")
    with pytest.raises(UnhealthyError) as failed:
        with engine_beside(plan_of(instance, image=image), Output(quiet=True), Options(build=None)):
            raise AssertionError("it is no engine")
    assert failed.value.details["log"]
    assert beside(instance) == []


def test_what_a_killed_run_leaves_goes_with_the_next(
    docker: Docker, embedded: dict[str, Any], instance: str
) -> None:
    script = (
        "from tests.e2e.test_engine_beside import *\n"
        f"with engine_beside(plan_of({instance!r}), Output(quiet=True)):\n"
        "    print('here', flush=True); import time; time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"here\n"
        os.kill(run.pid, signal.SIGKILL)
    (left,) = beside(instance)
    with engine_beside(plan_of(instance), Output(quiet=True)):
        (now,) = beside(instance)
        assert now != left
    wait_until(lambda: not beside(instance))
