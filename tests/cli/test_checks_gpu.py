"""A GPU that was asked for: the four ways it can be absent, and the wheels of each card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks.gpu import wheel_row
from compreface_cli.facts.gpu import Gpu, GpuFacts, ProbeFact
from tests.cli.fake_facts import NO_GPU, docker, facts, gpu, plan, remote
from tests.cli.names import assert_named
from tests.cli.test_checks_conflicts import matching, only

WANTED = plan(device="cuda", gpu_index=0, wheels="cuda13")
WORKS = ProbeFact("img", True)
BROKEN = ProbeFact("img", False, 'could not select device driver "nvidia"')


def levels(seen: Any, wanted: Any = WANTED) -> list[str]:
    return [item.level for item in checks.preflight(wanted, seen) if item.check == "gpu"]


def card(capability: tuple[int, int], driver: str = "580.1") -> GpuFacts:
    return gpu(driver=driver, gpus=(Gpu(0, "card", capability, 2**33),))


@pytest.mark.parametrize(
    ("capability", "driver", "row"),
    [
        ((5, 2), 580, "cpu"),
        ((6, 0), 580, "cuda12-legacy"),
        ((6, 1), 525, "cuda12-legacy"),
        ((7, 0), 580, "cuda12-legacy"),
        ((7, 5), 580, "cuda13"),
        ((7, 5), 579, "cuda12"),
        ((8, 6), 580, "cuda13"),
        ((8, 9), 525, "cuda12"),
        ((8, 9), 524, "cpu"),
        ((9, 0), 580, "cuda13"),
        ((10, 0), 580, "cuda12"),
        ((10, 3), 590, "cuda12"),
        ((12, 0), 580, "cuda13"),
        ((12, 1), 580, "cuda12"),
    ],
)
def test_the_wheels_of_each_card(capability: tuple[int, int], driver: int, row: str) -> None:
    assert wheel_row(capability, driver) == row


def test_a_cpu_build_has_no_findings_about_the_gpu() -> None:
    assert levels(facts(gpu=NO_GPU), plan()) == []


def test_a_gpu_with_driver_toolkit_and_a_probe_that_starts_is_fine() -> None:
    assert levels(facts(gpu=gpu(), probe=WORKS)) == ["ok", "ok"]


def test_without_a_driver_the_message_says_whether_there_is_a_card() -> None:
    said = set()
    for on_bus in (False, True):
        findings = checks.preflight(WANTED, facts(gpu=replace(NO_GPU, card_on_bus=on_bus)))
        driver, toolkit = matching("gpu", "fail", findings)
        assert_named(driver.message, "/dev/nvidia0")
        assert_named(driver.hint, 580)
        assert_named(toolkit.message, "nvidia-ctk")
        assert driver.code == 7
        said.add(driver.message)
    assert len(said) == 2


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (gpu(gpus=(), smi_error="Driver/library version mismatch"), "version mismatch"),
        (gpu(gpus=(), smi=None, driver=None), "nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_answer_is_refused_with_its_error(
    seen: GpuFacts, words: str
) -> None:
    row = only("gpu", "fail", checks.preflight(WANTED, facts(gpu=seen, probe=WORKS)))
    assert_named(row.message, words)


def test_an_index_without_a_card_names_the_cards() -> None:
    wanted = plan(device="cuda", gpu_index=3, wheels="cuda13")
    row = only("gpu", "fail", checks.preflight(wanted, facts(gpu=gpu(), probe=WORKS)))
    assert_named(row.message, "GPU 3", "0 (RTX 4090)")


def test_no_toolkit_says_how_to_install_it() -> None:
    row = only("gpu", "fail", checks.preflight(WANTED, facts(gpu=gpu(toolkit=()))))
    assert_named(row.message, "nvidia-ctk")
    assert_named(row.hint, "install-guide")


@pytest.mark.parametrize(
    "engine",
    [
        docker(),
        docker(cdi_dirs=("/etc/cdi",)),
        docker(cdi_dirs=("/etc/cdi",), cdi_devices=("vendor.com/net=0",)),
    ],
)
def test_an_unconfigured_toolkit_comes_with_the_command_that_configures_it(engine: Any) -> None:
    row = only("gpu", "fail", checks.preflight(WANTED, facts(gpu=gpu(), docker=engine)))
    assert row.code == 7
    assert_named(row.hint, "nvidia-ctk runtime configure")


@pytest.mark.parametrize(
    ("seen", "engine"),
    [
        (gpu(), docker(runtimes=("runc", "nvidia"))),
        (gpu(cdi_files=("/etc/cdi/nvidia.yaml",)), docker(cdi_dirs=("/etc/cdi",))),
        (gpu(), docker(cdi_dirs=("/etc/cdi",), cdi_devices=("nvidia.com/gpu=0",))),
    ],
)
def test_a_configured_toolkit_without_a_probe_is_a_warning(seen: GpuFacts, engine: Any) -> None:
    assert levels(facts(gpu=seen, docker=engine)) == ["ok", "warn"]


@pytest.mark.parametrize(
    ("seen", "way_out"), [(gpu(), "nvidia-ctk runtime"), (gpu(gpus=()), "driver")]
)
def test_a_failed_probe_is_refused_with_dockers_error(seen: GpuFacts, way_out: str) -> None:
    engine = docker(runtimes=("nvidia",))
    rows = matching(
        "gpu", "fail", checks.preflight(WANTED, facts(gpu=seen, docker=engine, probe=BROKEN))
    )
    assert_named(rows[-1].message, BROKEN.image, BROKEN.error)
    assert way_out in rows[-1].hint


@pytest.mark.parametrize(
    ("seen", "named", "way_out"),
    [
        (card((5, 2)), ("5.2", "6.0"), "--cpu"),
        (card((8, 6), "470.1"), ("470.1", "525"), "580"),
        (card((8, 6), "[N/A]"), ("[N/A]", "525"), "580"),
        (card((6, 1)), ("6.1", "cuda13", "cuda12-legacy"), "CF_WHEELS=cuda12-legacy"),
        (card((8, 6), "535.1"), ("535.1", "cuda13", "cuda12"), "580"),
    ],
)
def test_a_card_or_driver_too_old_for_the_wheels_is_refused(
    seen: GpuFacts, named: tuple[str, ...], way_out: str
) -> None:
    row = only("gpu", "fail", checks.preflight(WANTED, facts(gpu=seen, probe=WORKS)))
    assert_named(row.message, *named)
    assert_named(row.hint, way_out)


def test_wheels_of_an_older_cuda_run_under_a_newer_driver() -> None:
    wanted = replace(WANTED, wheels="cuda12")
    assert levels(facts(gpu=gpu(), probe=WORKS), wanted) == ["ok", "ok"]


def test_a_process_needs_a_driver_and_no_toolkit() -> None:
    wanted = replace(WANTED, launcher="process", services="core", port=3000)
    assert levels(facts(gpu=gpu(toolkit=())), wanted) == ["ok"]


def test_without_docker_only_the_driver_is_judged() -> None:
    assert levels(facts(gpu=gpu(toolkit=()), docker=docker(state="refused"))) == ["ok"]


def test_a_host_without_gpu_facts_is_a_warning() -> None:
    assert levels(facts()) == ["warn"]


@pytest.mark.parametrize(("probe", "level"), [(None, "warn"), (WORKS, "ok"), (BROKEN, "fail")])
def test_for_a_remote_docker_engine_only_a_probe_counts(
    probe: ProbeFact | None, level: str
) -> None:
    assert levels(facts(docker=remote(), gpu=NO_GPU, probe=probe)) == [level]
