"""Checks: what stands in the way of a plan on this host, and whether a machine is fit.

A check is one file, and a line in each list that runs it: `UP` before a start and in its dry run,
`BUILD` before an image is built, `DOCTOR` in `cf doctor`. It judges what `facts` has gathered and
asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from compreface_cli.checks import (
    architecture,
    bind,
    cpu,
    disk,
    docker,
    environment,
    files,
    gpu,
    image,
    memory,
    model_files,
    port,
    project,
    python,
    runtime,
    ui,
    volume,
)
from compreface_cli.checks.base import Finding, Level, OtherInstance, OwnedResources
from compreface_cli.checks.launcher import Choice, choose
from compreface_cli.checks.machine import Machine
from compreface_cli.errors import PreflightError
from compreface_cli.facts import Facts, Questions
from compreface_cli.plan.plan import Plan, with_launcher

__all__ = [
    "BUILD",
    "DOCTOR",
    "UP",
    "Choice",
    "Finding",
    "Level",
    "OtherInstance",
    "OwnedResources",
    "build",
    "choose",
    "doctor",
    "exit_code",
    "preflight",
    "questions",
    "raise_for",
]


class Check(Protocol):
    def __call__(self, plan: Plan, facts: Facts, own: OwnedResources) -> Iterable[Finding]: ...


class MachineCheck(Protocol):
    def __call__(self, machine: Machine) -> Iterable[Finding]: ...


# Each in the order of its report.
UP: tuple[Check, ...] = (
    docker.check,
    port.check,
    bind.check,
    project.check,
    volume.check,
    image.check,
    architecture.check,
    runtime.check,
    cpu.check,
    gpu.check,
    memory.check,
    disk.check,
    ui.check,
)
BUILD: tuple[Check, ...] = (docker.check, image.check, architecture.check, disk.check)
DOCTOR: tuple[MachineCheck, ...] = (
    python.doctor,
    architecture.doctor,
    cpu.doctor,
    memory.doctor,
    disk.doctor,
    docker.doctor,
    gpu.doctor,
    port.doctor,
    files.instances,
    files.settings,
    model_files.doctor,
    environment.doctor,
    files.unreadable,
)


def questions(plan: Plan, folders: Iterable[str | Path] = ()) -> Questions:
    """What the checks of this plan and `choose` must know; `folders`: where `cf` will write."""
    process = plan.launcher == "process"
    ports = port.published(plan)
    if plan.launcher == "auto" and isinstance(plan.core_port, int):
        ports.append(("--port", plan.bind, plan.core_port))  # if it becomes a process
    cuda = plan.device == "cuda"
    return Questions(
        ports=tuple((address, number) for _, address, number in ports if 1 <= number <= 65535),
        paths=tuple(str(folder) for folder in folders),
        docker=not process,
        images=() if process else (plan.image, plan.base_image, *plan.stack_images.values()),
        gpu=cuda,
        probe_images=() if process or not cuda else (plan.image, plan.base_image),
        gpu_index=max(plan.gpu_index, 0),
    )


def preflight(plan: Plan, facts: Facts, own: OwnedResources | None = None) -> list[Finding]:
    """Every finding of every check, ok ones too; launcher `auto` is judged as what it becomes."""
    mine = own or OwnedResources()
    settled = (
        with_launcher(plan, choose(plan, facts, mine).kind) if plan.launcher == "auto" else plan
    )
    return [finding for check in UP for finding in check(settled, facts, mine)]


def build(plan: Plan, facts: Facts, own: OwnedResources) -> list[Finding]:
    """Every finding about the image of a plan: whether it can be built here."""
    return [finding for check in BUILD for finding in check(plan, facts, own)]


def doctor(machine: Machine) -> list[Finding]:
    """One row for each thing that was looked at."""
    return [finding for check in DOCTOR for finding in check(machine)]


def exit_code(findings: Sequence[Finding]) -> int:
    """The smallest code of those that failed, 0 when none did."""
    return min((finding.code for finding in findings if finding.level == "fail"), default=0)


def raise_for(findings: Sequence[Finding]) -> None:
    """Raise one PreflightError with every failed finding, and the smallest of their exit codes."""
    failed = [finding for finding in findings if finding.level == "fail"]
    if not failed:
        return
    count = "one thing stands" if len(failed) == 1 else f"{len(failed)} things stand"
    lines = [f"{count} in the way; nothing was created"]
    for finding in failed:
        lines.append(f"  - {finding.message}")
        if finding.hint:
            lines.append(f"    {finding.hint}")
    raise PreflightError(
        "\n".join(lines),
        codes=tuple(finding.code for finding in failed),
        details={"findings": [finding.as_dict() for finding in findings if finding.level != "ok"]},
    )
