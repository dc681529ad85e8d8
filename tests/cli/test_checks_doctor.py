"""The rows of `cf doctor` for given facts: their levels and the exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks.base import Finding
from compreface_cli.checks.machine import Environment, Machine
from compreface_cli.facts.gpu import Gpu
from compreface_cli.facts.host import DiskFact, PortFact
from tests.cli.fake_facts import (
    NO_GPU,
    container,
    docker,
    facts,
    gpu,
    held,
    host,
    published,
    remote,
)
from tests.cli.names import assert_named
from tests.cli.test_checks_conflicts import matching, only, ports

DONE = Environment("/data/engine-env/abc")


def rows(**changes: Any) -> list[Finding]:
    seen = Machine(facts=changes.pop("facts", facts(gpu=NO_GPU)), environment=DONE)
    return checks.doctor(replace(seen, **changes))


def test_a_suitable_machine_has_only_good_rows() -> None:
    of = rows()
    assert {row.level for row in of} == {"ok"}
    assert checks.exit_code(of) == 0


def test_the_exit_code_is_the_smallest_of_the_failed_rows() -> None:
    of = [
        Finding("a", "fail", "", "", 9),
        Finding("b", "fail", "", "", 7),
        Finding("c", "warn", ""),
    ]
    assert checks.exit_code(of) == 7


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "denied"},
        {"state": "no-socket", "client": None},
        {"engine_version": "20.10.1"},
        {"compose_version": None},
    ],
)
def test_missing_docker_is_a_warning_since_the_process_launcher_needs_none(
    changes: dict[str, Any],
) -> None:
    of = rows(facts=facts(docker=docker(**changes)))
    assert only("docker", "warn", of).code == 0
    assert checks.exit_code(of) == 0


def test_without_facts_about_docker_and_gpu_there_are_no_rows_of_them() -> None:
    of = rows(facts=facts(docker=None))
    assert not [row for row in of if row.check in ("docker", "gpu")]


def test_an_old_python_fails() -> None:
    row = only("python", "fail", rows(facts=facts(host=host(python="3.10.4"))))
    assert_named(row.message, "3.10.4", "3.11")


def test_a_cpu_without_the_flags_fails() -> None:
    of = rows(facts=facts(host=host(cpu_flags=frozenset())))
    assert checks.exit_code(of) == 7


@pytest.mark.parametrize(("total", "level"), [(10**8, "fail"), (10**9, "warn"), (10**10, "ok")])
def test_memory_for_the_engine_alone_is_a_warning(total: int, level: str) -> None:
    small = host(memory_total=total, memory_available=total)
    assert only("memory", level, rows(facts=facts(host=small)))


def test_disks_of_our_folder_and_of_docker_are_rows() -> None:
    full = DiskFact("/data", "/data", 10, 10**12)
    of = rows(facts=facts(host=host(disks={"/data": full}), docker=docker(root_free=10)))
    assert "/data" in only("disk", "fail", of).message
    assert "Docker's root" in only("disk", "warn", of).message


@pytest.mark.parametrize(
    ("nvidia", "level", "named"),
    [
        (NO_GPU, "ok", "NVIDIA"),
        (replace(NO_GPU, card_on_bus=True), "warn", "/dev/nvidia0"),
        (gpu(gpus=(), smi_error="mismatch"), "warn", "mismatch"),
        (gpu(gpus=(Gpu(0, "old", (5, 0), 1),)), "warn", "5.0"),
        (gpu(gpus=(Gpu(2, "GTX", (6, 1), 1),)), "ok", "cuda12-legacy"),
    ],
)
def test_a_faulty_gpu_is_a_warning_and_no_gpu_is_fine(nvidia: Any, level: str, named: str) -> None:
    first = next(row for row in rows(facts=facts(gpu=nvidia)) if row.check == "gpu")
    assert first.level == level
    assert_named(first.message, named)


def test_the_toolkit_is_a_row_if_docker_is_local() -> None:
    unknown = only("gpu", "warn", rows(facts=facts(gpu=gpu())))
    assert_named(unknown.hint, "nvidia-ctk runtime configure")
    known = facts(gpu=gpu(), docker=docker(runtimes=("nvidia",)))
    assert only("gpu", "warn", rows(facts=known)).hint == ""
    assert not matching("gpu", "warn", rows(facts=facts(gpu=gpu(), docker=remote())))


def test_a_port_of_an_own_instance_is_fine() -> None:
    of = rows(facts=facts(host=ports(held(3000))), instances={3000: "embedded"})
    assert_named(matching("port", "ok", of)[0].message, 3000, "embedded")


def test_the_engines_port_in_use_fails_and_the_uis_warns() -> None:
    of = rows(facts=facts(host=ports(held(3000), held(8000))))
    failed = only("port", "fail", of)
    assert_named(failed.message, "python3", "pid 4711")
    assert_named(failed.hint, "--core-port auto")
    assert "8000" in only("port", "warn", of).message
    assert checks.exit_code(of) == 4


def test_a_port_of_a_container_or_of_an_unseen_process_names_its_holder() -> None:
    other = container("shop", "restarting", ports=(published(8000, held=False),))
    stopped = container("old", "exited", ports=(published(3000, held=False),))
    unseen = PortFact("127.0.0.1", 3000, free=False, error="address already in use")
    of = rows(facts=facts(host=ports(unseen), docker=docker(containers=(other, stopped))))
    assert_named(only("port", "fail", of).message, 3000)
    assert "pid" not in only("port", "fail", of).message
    assert_named(only("port", "warn", of).message, 8000, "container shop", "restarting")


def test_a_privileged_port_differs_from_one_that_is_held() -> None:
    low = PortFact("127.0.0.1", 80, free=False, denied=True, error="Permission denied")
    foreign = PortFact("1.2.3.4", 81, free=False, error="Cannot assign requested address")
    of = rows(facts=facts(host=ports(low, foreign)))
    assert_named(only("port", "warn", of).message, 80, "Permission denied")
    assert_named(only("port", "fail", of).message, 81, "1.2.3.4", "Cannot assign")


def test_a_port_without_a_purpose_has_a_row_too() -> None:
    free = PortFact("127.0.0.1", 9, free=True)
    assert_named(matching("port", "ok", rows(facts=facts(host=ports(free))))[-1].message, 9)


def test_models_are_named_and_a_damaged_one_fails() -> None:
    assert only("models", "ok", rows())
    of = rows(models={"b": "here", "a": "here", "c": "damaged", "d": "missing"})
    assert_named(only("models", "ok", of).message, "a, b")
    assert_named(only("models", "fail", of).message, "model c")
    assert checks.exit_code(of) == 9
    assert not matching("models", "ok", rows(models={"c": "damaged"}))


@pytest.mark.parametrize(
    ("environment", "engine", "level", "code"),
    [
        (Environment("/e"), docker(), "ok", 0),
        (Environment(None), docker(), "ok", 0),
        (Environment("/e", "no module"), docker(), "fail", 1),
        (Environment(None, "its parts are gone"), docker(), "fail", 1),
        (Environment(None, can_be_made=False), docker(), "warn", 0),
        (Environment(None, can_be_made=False), docker(state="refused"), "fail", 3),
        (Environment(None, can_be_made=False), None, "fail", 3),
    ],
)
def test_the_engines_environment(
    environment: Environment, engine: Any, level: str, code: int
) -> None:
    row = only("engine", level, rows(environment=environment, facts=facts(docker=engine)))
    assert row.code == code
    assert "None" not in row.message + row.hint


def test_files_that_cannot_be_read_are_warnings() -> None:
    row = only("files", "warn", rows(broken={"the build x": "of another kind"}))
    assert_named(row.message, "the build x", "of another kind")
