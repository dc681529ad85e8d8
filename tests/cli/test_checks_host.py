"""Docker, images, architecture, CPU flags, memory and disk; and what `--launcher auto` becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks import architecture, cpu, disk, memory
from compreface_cli.checks import docker as docker_check
from compreface_cli.checks.base import Finding, OwnedResources, size
from compreface_cli.docker.image import Image
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR, LABEL_DETECTOR
from compreface_cli.facts.docker import PullFact
from compreface_cli.facts.host import DiskFact
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import needed
from tests.cli.build_files import catalogue
from tests.cli.fake_facts import BASE, CORE, STACK, V2, docker, facts, host, images, plan, remote
from tests.cli.names import assert_named
from tests.cli.test_checks_conflicts import matching, only

FE = STACK["fe_image"]
SOCKET = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("changes", "said", "way_out"),
    [
        ({"state": "no-socket", "client": None}, "", "docs.docker.com/engine/install"),
        ({"state": "no-socket"}, SOCKET, "systemctl start docker"),
        ({"state": "refused"}, SOCKET, "systemctl start docker"),
        ({"state": "denied"}, SOCKET, "usermod -aG docker"),
        ({"state": "timeout", "error": "no answer within 5 s"}, "no answer within 5 s", "info"),
        ({"state": "error", "error": "odd"}, "odd", "DOCKER_HOST"),
    ],
)
def test_each_reason_why_docker_is_unusable_has_its_own_remedy(
    changes: dict[str, Any], said: str, way_out: str
) -> None:
    row = only("docker", "fail", checks.preflight(plan(), facts(docker=docker(**changes))))
    assert_named(row.message, said)
    assert_named(row.hint, way_out, "--launcher process")
    assert row.code == 6


@pytest.mark.parametrize("runtime", ["tensorflow", "mxnet"])
def test_a_framework_that_runs_no_network_is_a_warning(runtime: str) -> None:
    host_and_docker = facts(host=host(cpu_flags=V2 | {"avx", "avx2"}))
    row = only("runtime", "warn", checks.preflight(plan(runtime=runtime), host_and_docker))
    assert_named(row.message, f"runtime: {runtime}")
    assert_named(row.hint, runtime)


def test_a_framework_with_a_model_in_its_format_is_no_finding() -> None:
    model = replace(catalogue()["20180402-114759"], keep_source=True)
    has = plan(runtime="tensorflow", models=(model,))
    findings = checks.preflight(has, facts(host=host(cpu_flags=V2 | {"avx"})))
    assert not matching("runtime", "warn", findings)
    assert not matching("runtime", "warn", checks.preflight(plan(), facts()))


@pytest.mark.parametrize(
    ("runtime", "newest", "newer"),
    [("mxnet", "3.11.9", "3.12.1"), ("tensorflow", "3.13.5", "3.14.0")],
)
def test_a_framework_without_packages_for_this_python_is_refused(
    runtime: str, newest: str, newer: str
) -> None:
    def rows(python: str, launcher: str) -> list[Finding]:
        machine = facts(host=host(python=python, cpu_flags=V2 | {"avx", "avx2"}))
        return checks.preflight(plan(runtime=runtime, launcher=launcher), machine)

    row = only("runtime", "fail", rows(newer, "process"))
    assert_named(row.message, runtime, newer)
    assert "--launcher compose" in row.hint
    assert f"Python {newest.rsplit('.', 1)[0]}" in row.hint
    assert row.code == 3
    assert not matching("runtime", "fail", rows(newest, "process"))
    assert not matching("runtime", "fail", rows(newer, "compose"))  # an image has its own Python


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"engine_version": "20.10.24+dfsg1"}, ("Engine", "20.10.24+dfsg1", "25.0")),
        ({"engine_version": None}, ("Engine", "25.0")),
        ({"compose_version": "2.20.2"}, ("Compose", "2.20.2", "2.20.3")),
        ({"compose_version": None, "compose_error": "no plugin"}, ("Compose", "no plugin")),
    ],
)
def test_an_old_docker_or_compose_is_refused(
    changes: dict[str, Any], named: tuple[str, ...]
) -> None:
    row = only("docker", "fail", checks.preflight(plan(), facts(docker=docker(**changes))))
    assert_named(row.message, *named)
    assert row.code == 6


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("v2.26.1-4", (2, 26, 1)), ("26.1.5+dfsg1", (26, 1, 5)), ("dev", ()), (None, ())],
)
def test_versions_are_read_as_numbers(text: str | None, numbers: tuple[int, ...]) -> None:
    assert docker_check.version(text) == numbers


def test_a_process_needs_no_docker() -> None:
    wanted = plan(launcher="process", services="core", port=3000)
    for seen in (facts(docker=None), facts(docker=docker(state="refused"))):
        assert not [item for item in checks.preflight(wanted, seen) if item.level != "ok"]


def test_an_image_that_cannot_be_pulled_is_refused_with_the_registrys_error() -> None:
    less = docker(
        images=images(CORE, *(name for name in STACK.values() if name != FE)),
        pulls={FE: PullFact(FE, False, "no such host")},
    )
    row = only("image", "fail", checks.preflight(plan(), facts(docker=less)))
    assert_named(row.message, FE, "no such host")
    assert row.code == 9
    alone = checks.preflight(plan(services="core", port=3000), facts(docker=less))
    assert not matching("image", "fail", alone)


def test_an_image_that_can_be_pulled_is_fine() -> None:
    less = docker(images=images(CORE), pulls={n: PullFact(n, True) for n in STACK.values()})
    findings = checks.preflight(plan(), facts(docker=less))
    assert len(matching("image", "ok", findings)) == 5


@pytest.mark.parametrize("pulls", [{}, {BASE: PullFact(BASE, None, "no answer within 8 s")}])
def test_a_silent_registry_is_a_warning(pulls: dict[str, PullFact]) -> None:
    less = docker(images=images(*STACK.values()), pulls=pulls)
    row = only("image", "warn", checks.preflight(plan(), facts(docker=less)))
    assert_named(row.message, BASE, *(pull.reason for pull in pulls.values()))


def test_an_absent_core_image_is_built_from_a_local_base_image() -> None:
    less = docker(images=images(BASE, *STACK.values()))
    assert not matching("image", "fail", checks.preflight(plan(), facts(docker=less)))


def test_an_absent_core_image_that_may_not_be_built_is_refused() -> None:
    less = docker(images=images(BASE, *STACK.values()))
    findings = checks.preflight(plan(), facts(docker=less), OwnedResources(may_build=False))
    row = only("image", "fail", findings)
    assert "--no-build" in row.message
    assert "--no-build" in row.hint


def given(**labels: str) -> Any:
    """What is there for a user who has named the engine's image: one with these labels."""
    one = Image("sha256:1", ("corp/core:1",), 1, labels)
    return docker(images=(one, *images(BASE, *STACK.values())))


def named_plan(**changes: Any) -> Plan:
    return plan(image="corp/core:1", origins={"image": "environment CF_IMAGE"}, **changes)


OF_FACENET = {
    LABEL_BUILD: "corp-faces",
    LABEL_DETECTOR: "facenet.FaceDetector",
    LABEL_CALCULATOR: "facenet.Calculator",
}


def test_a_named_image_without_an_engine_is_refused() -> None:
    row = only("image", "fail", checks.preflight(named_plan(), facts(docker=given())))
    assert_named(row.message, "corp/core:1", "environment CF_IMAGE", LABEL_BUILD)
    assert row.code == 3
    assert not matching("image", "fail", checks.preflight(plan(), facts(docker=given())))


def test_a_named_image_of_another_build_is_refused_with_its_build() -> None:
    seen = facts(docker=given(**OF_FACENET))
    row = only("image", "fail", checks.preflight(named_plan(), seen))
    assert_named(row.message, "corp/core:1", "corp-faces", *OF_FACENET.values())
    assert_named(row.message, plan().build, plan().detector, plan().calculator)
    assert_named(row.hint, "cf up --image corp/core:1", "cf up corp-faces --image corp/core:1")
    assert row.code == 3
    same = named_plan(detector="facenet.FaceDetector", calculator="facenet.Calculator")
    assert not matching("image", "fail", checks.preflight(same, seen))
    built = checks.preflight(named_plan(), seen, OwnedResources(must_build=True))
    assert not matching("image", "fail", built), "it is built again under that name"


def test_a_named_image_that_does_not_exist_is_refused_and_not_built_under_its_name() -> None:
    pulls = {"corp/core:1": PullFact("corp/core:1", False, "manifest unknown")}
    seen = facts(docker=docker(images=images(BASE, *STACK.values()), pulls=pulls))
    row = only("image", "fail", checks.preflight(named_plan(), seen))
    assert_named(row.message, "corp/core:1", "environment CF_IMAGE", "manifest unknown")
    assert "cf up embedded --build" in row.hint
    assert row.code == 9
    assert not matching(
        "image", "fail", checks.preflight(named_plan(), seen, OwnedResources(must_build=True))
    )
    pulls = {"corp/core:1": PullFact("corp/core:1", True)}
    seen = facts(docker=docker(images=images(*STACK.values()), pulls=pulls))
    assert not matching("image", "fail", checks.preflight(named_plan(), seen))


def test_the_architecture_of_the_engine_that_will_run_counts() -> None:
    seen = facts(host=host(architecture="riscv64"))
    assert not matching("architecture", "fail", checks.preflight(plan(), seen))
    wanted = plan(launcher="process", services="core", port=3000)
    row = only("architecture", "fail", checks.preflight(wanted, seen))
    assert "riscv64" in row.message
    assert row.code == 7


def test_cuda_wheels_exist_for_amd64_alone() -> None:
    assert architecture.judge("arm64").level == "ok"
    row = architecture.judge("arm64", "cuda")
    assert row.level == "fail"
    assert (row.code, row.hint != architecture.judge("riscv64").hint) == (7, True)


@pytest.mark.parametrize("lost", sorted(V2))
def test_each_flag_of_the_runtime_is_required_and_named(lost: str) -> None:
    row = only("cpu", "fail", checks.preflight(plan(), facts(host=host(cpu_flags=V2 - {lost}))))
    assert_named(row.message, lost)
    assert not [flag for flag in V2 - {lost} if flag in row.message.replace(lost, "")]
    assert row.code == 7


@pytest.mark.parametrize(
    ("runtime", "flags", "level"),
    [
        ("onnxruntime", V2, "ok"),
        ("tensorflow", V2, "fail"),
        ("tensorflow", V2 | {"avx"}, "ok"),
        ("mxnet", V2 | {"avx"}, "fail"),
        ("mxnet", V2 | {"avx", "avx2"}, "ok"),
        ("onnxruntime", None, "warn"),
    ],
)
def test_runtimes_differ_in_the_flags_they_need(
    runtime: str, flags: frozenset[str] | None, level: str
) -> None:
    assert cpu.judge(flags, runtime, "amd64").level == level


def test_arm_needs_no_flags() -> None:
    assert needed("mxnet", "arm64") == ()
    assert cpu.judge(frozenset(), "onnxruntime", "arm64").level == "ok"


def test_the_flags_of_a_remote_docker_host_are_unknown() -> None:
    old = host(cpu_flags=frozenset())
    row = only("cpu", "warn", checks.preflight(plan(), facts(docker=remote(), host=old)))
    assert "sse4_2" in row.hint
    arm = checks.preflight(plan(), facts(docker=remote(architecture="arm64"), host=old))
    assert not [item for item in arm if item.check == "cpu"]


@pytest.mark.parametrize(
    ("total", "available", "level"),
    [
        (None, None, "warn"),
        (500_000_000, 400_000_000, "fail"),
        (2_000_000_000, 400_000_000, "warn"),
        (2_000_000_000, 700_000_000, "ok"),
        (2_000_000_000, None, "ok"),
    ],
)
def test_too_little_memory_is_refused_and_too_little_available_is_a_warning(
    total: int | None, available: int | None, level: str
) -> None:
    assert memory.judge(total, available, memory.ENGINE).level == level


def test_the_full_stack_needs_more_memory_than_the_engine() -> None:
    small = host(memory_total=2_000_000_000, memory_available=1_900_000_000)
    assert only("memory", "fail", checks.preflight(plan(), facts(host=small)))
    alone = checks.preflight(plan(services="core", port=3000), facts(host=small))
    assert only("memory", "ok", alone)


def test_the_memory_of_a_remote_docker_host_counts() -> None:
    small = remote(memory_total=1_000_000_000)
    assert only("memory", "fail", checks.preflight(plan(), facts(docker=small)))


def test_too_little_disk_at_dockers_root_says_what_is_needed() -> None:
    full = docker(root_free=300_000_000, images=images(BASE), pulls={})
    row = only("disk", "fail", checks.preflight(plan(), facts(docker=full)))
    assert_named(row.message, "300 MB", "/var/lib/docker", "4.1 GB")
    assert row.code == 7


def test_a_gpu_image_needs_far_more_disk() -> None:
    wanted = plan(device="cuda", gpu_index=0, services="core", port=3000)
    less = docker(images=images(BASE), root_free=5_000_000_000)
    row = only("disk", "fail", checks.preflight(wanted, facts(docker=less)))
    assert "10.2 GB" in row.message


def test_local_images_need_no_disk_space() -> None:
    little = docker(root_free=300_000_000)
    assert only("disk", "ok", checks.preflight(plan(), facts(docker=little)))


@pytest.mark.parametrize(
    "engine", [remote(), docker(root_free=None)], ids=["remote", "not readable"]
)
def test_unknown_free_space_at_dockers_root_is_a_warning(engine: Any) -> None:
    row = only("disk", "warn", checks.preflight(plan(), facts(docker=engine)))
    assert_named(row.message, "/var/lib/docker", "200 MB")


def test_an_unknown_docker_root_gives_a_default_path_in_the_hint() -> None:
    row = disk.judge_root(None, None, False, 1)
    assert row.level == "warn"
    assert "None" not in row.message
    assert "/var/lib/docker" in row.hint


@pytest.mark.parametrize(
    ("free", "level"), [(10_000_000, "fail"), (500_000_000, "warn"), (2_000_000_000, "ok")]
)
def test_the_disk_of_cfs_own_folders_counts(free: int, level: str) -> None:
    seen = host(disks={"/data": DiskFact("/data", "/", free, 10**12)})
    wanted = plan(launcher="process", services="core", port=3000)
    assert only("disk", level, checks.preflight(wanted, facts(host=seen)))


def test_a_full_disk_names_the_variable_that_moves_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    for name in ("DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    wanted = plan(launcher="process", services="core", port=3000)
    for variable, path in {
        "TMPDIR": tmp_path / "temporary",
        "XDG_DATA_HOME": tmp_path / "DATA" / "compreface-cli",
        "XDG_STATE_HOME": tmp_path / "STATE" / "compreface-cli" / "logs",
        "XDG_CACHE_HOME": tmp_path / "CACHE" / "compreface-cli",
    }.items():
        full = host(disks={str(path): DiskFact(str(path), "/", 10, 10**12)})
        row = only("disk", "fail", checks.preflight(wanted, facts(host=full)))
        assert_named(row.hint, variable)
    full = host(disks={"/mnt": DiskFact("/mnt", "/", 10, 10**12)})
    row = only("disk", "fail", checks.preflight(wanted, facts(host=full)))
    assert row.hint
    assert "XDG" not in row.hint


def test_two_folders_on_one_disk_are_one_finding() -> None:
    full = {path: DiskFact(path, "/", 10, 10**12, device=7) for path in ("/data", "/state")}
    other = {"/mnt": DiskFact("/mnt", "/mnt", 10**10, 10**12, device=8)}
    wanted = plan(launcher="process", services="core", port=3000)
    findings = checks.preflight(wanted, facts(host=host(disks={**full, **other})))
    assert "/data" in only("disk", "fail", findings).message
    assert "/mnt" in only("disk", "ok", findings).message


def test_sizes_are_written_with_units() -> None:
    assert (size(300_000_000), size(1_500_000_000)) == ("300 MB", "1.5 GB")


def test_a_launcher_that_was_chosen_is_kept() -> None:
    choice = checks.choose(plan(launcher="process"), facts())
    assert (choice.kind, choice.leaves_out) == ("process", "")


def test_auto_is_compose_if_all_images_are_available() -> None:
    choice = checks.choose(plan(launcher="auto"), facts())
    assert choice.kind == "compose"
    assert "unix:///var/run/docker.sock" in choice.reason


@pytest.mark.parametrize(
    ("engine", "named"),
    [
        (None, "Docker"),
        (docker(state="denied"), SOCKET),
        (docker(engine_version="20.10.1"), "20.10.1"),
        (
            docker(
                images=images(CORE), pulls={n: PullFact(n, False, "gone") for n in STACK.values()}
            ),
            "refuses",
        ),
        (
            docker(
                images=images(CORE), pulls={n: PullFact(n, None, "silence") for n in STACK.values()}
            ),
            "unreachable",
        ),
    ],
)
def test_auto_is_a_process_otherwise_with_the_reason_and_what_is_left_out(
    engine: Any, named: str
) -> None:
    choice = checks.choose(plan(launcher="auto"), facts(docker=engine))
    assert choice.kind == "process"
    assert_named(choice.reason, named)
    assert "database" in choice.leaves_out


def test_auto_without_permission_to_build_names_the_flag() -> None:
    engine = docker(images=images(BASE, *STACK.values()))
    choice = checks.choose(
        plan(launcher="auto"), facts(docker=engine), OwnedResources(may_build=False)
    )
    assert choice.kind == "process"
    assert "--no-build" in choice.reason
    assert "registry" not in choice.reason


def test_dockers_error_is_in_the_detail_and_not_in_the_reason() -> None:
    error = 'Get "https://r/v2/": dial tcp: lookup r on 192.0.2.1:53: server misbehaving'
    engine = docker(
        images=images(CORE), pulls={n: PullFact(n, False, error) for n in STACK.values()}
    )
    choice = checks.choose(plan(launcher="auto"), facts(docker=engine))
    assert_named(choice.reason, "unreachable")
    assert "dial tcp" not in choice.reason
    assert "dial tcp" in choice.detail
    alone = docker(images=(), pulls={BASE: PullFact(BASE, False, error)})
    choice = checks.choose(plan(launcher="auto", services="core"), facts(docker=alone))
    assert_named(choice.reason, BASE, "unreachable")
    assert "dial tcp" not in choice.reason


def test_an_engine_as_a_process_lacks_only_the_start_after_a_reboot() -> None:
    choice = checks.choose(plan(launcher="auto", services="core"), facts(docker=None))
    assert "reboot" in choice.leaves_out


def test_auto_is_judged_as_what_it_becomes() -> None:
    gone = facts(docker=docker(state="refused"))
    findings = checks.preflight(plan(launcher="auto"), gone)
    assert not [item for item in findings if item.level == "fail"]


def test_questions_of_auto_cover_both_launchers() -> None:
    asked = checks.questions(plan(launcher="auto"), ["/data"])
    assert {number for _, number in asked.ports} == {3000, 8000}
    assert asked.paths == ("/data",)
    assert set(asked.images) == {CORE, BASE, *STACK.values()}
    assert asked.docker
    assert not asked.gpu


def test_a_process_has_no_questions_about_docker() -> None:
    asked = checks.questions(plan(launcher="process", services="core", port=3000))
    assert (asked.docker, asked.images, asked.probe_images) == (False, (), ())


def test_a_gpu_build_has_its_card_probed() -> None:
    asked = checks.questions(plan(device="cuda", gpu_index=1))
    assert asked.gpu
    assert asked.gpu_index == 1
    assert asked.probe_images == (CORE, BASE)


def test_a_build_has_only_the_checks_that_concern_an_image() -> None:
    wanted, here = plan(launcher="compose"), facts(docker=docker(images=images(BASE)))
    findings = checks.build(wanted, here, OwnedResources(must_build=True))
    assert {finding.check for finding in findings} == {"docker", "image", "architecture", "disk"}
    absent = checks.build(
        wanted, facts(docker=docker(state="refused")), OwnedResources(must_build=True)
    )
    assert "docker" in {finding.check for finding in absent if finding.level == "fail"}
