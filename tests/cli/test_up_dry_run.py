"""The operations that `--dry-run` lists are those that the same `cf up` then carries out."""

from __future__ import annotations

import hashlib
import shutil
import signal
from typing import Any

import pytest

from tests.cli.local_cf import LocalCf, eventually
from tests.cli.test_up_own_model import BUILD, NETWORK

pytestmark = pytest.mark.slow


def both(cf: LocalCf, *flags: str, build: str = "embedded", **environment: str) -> list[str]:
    """The verbs of a dry run, which are those of the real run that follows; causes and all."""
    up = ("up", build, "--launcher", "process", "--port", "auto", *flags)
    cf.env |= environment
    listed = cf.json(*up, "--dry-run")["operations"]
    done: list[dict[str, Any]] = cf.json(*up)["operations"]
    for name in environment:
        del cf.env[name]
    assert done == listed
    return [operation["verb"] for operation in done]


def test_what_a_dry_run_lists_is_done_from_the_first_start_on(local_cf: LocalCf) -> None:
    assert both(local_cf) == ["start", "check"]
    assert both(local_cf) == []
    assert both(local_cf, CF_MAX_WAIT_S="7") == ["try", "replace", "check"]
    local_cf.sweep()  # the supervisor with its engine, as at the end of a session
    assert both(local_cf, CF_MAX_WAIT_S="7") == ["start", "check"]


def test_what_must_be_prepared_is_listed_and_prepared(local_cf: LocalCf) -> None:
    # Its packages are here and the engine is of another version, as after an upgrade.
    (local_cf.data / "engine-env" / local_cf.environment.key).rename(
        local_cf.data / "engine-env" / "0123456789abcdef"
    )
    shutil.copy(NETWORK, local_cf.root / "my-model.onnx")
    digest = hashlib.sha256(NETWORK.read_bytes()).hexdigest()
    build = local_cf.root / "my-build.yaml"
    build.write_text(BUILD.replace("HASH", digest))
    assert both(local_cf, build=str(build)) == [
        "make environment",
        "prepare model",
        "start",
        "check",
    ]
    assert both(local_cf, build=str(build), CF_MAX_WAIT_S="7") == ["try", "replace", "check"]


@pytest.mark.parametrize(
    ("wanted", "verbs"),
    [({}, ["put right"]), ({"CF_MAX_WAIT_S": "7"}, ["put right", "try", "replace", "check"])],
    ids=["as before", "as the run that was killed"],
)
def test_after_a_replacement_that_was_killed(
    local_cf: LocalCf, wanted: dict[str, str], verbs: list[str]
) -> None:
    local_cf.up("--port", "auto")
    flags = ("up", "embedded", "--launcher", "process", "--port", "auto")
    process = local_cf.start(*flags, CF_MAX_WAIT_S="7")
    home = local_cf.state / "instances" / "embedded"
    assert eventually(lambda: len(list(home.glob("engine-*/state.json"))) == 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert both(local_cf, **wanted) == verbs


def test_after_a_first_start_that_was_killed(local_cf: LocalCf) -> None:
    process = local_cf.start("up", "embedded", "--launcher", "process", "--port", "auto")
    home = local_cf.state / "instances" / "embedded"
    assert eventually(lambda: bool(list(home.glob("engine-*/state.json"))))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert both(local_cf) == ["put right", "start", "check"]


def test_another_calculator_is_refused_before_any_operation(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto", "--instance", "mine")
    before = local_cf.files()
    flags = ("up", "facenet", "--launcher", "process", "--port", "auto", "--instance", "mine")
    for way in ((), ("--dry-run",)):
        refused = local_cf.json(*flags, *way, exit_code=5)["error"]
        checks = {row["check"] for row in refused["details"]["findings"]}
        assert "calculator" in checks
        assert local_cf.files() == before
    assert local_cf.status("mine")["state"] == "running"
