"""Checks: whether a plan can run on this host, and whether the host is suitable at all.

A check is a pure function in a file of its own, and a line in each list that runs it: `UP` before a
start and in its dry run, `BESIDE` before an engine runs beside another, `BUILD` before an image is
built, `DOCTOR` in `cf doctor`. It judges the facts that `facts` gathered and does no I/O itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from compreface_cli.checks import (
    apis,
    architecture,
    bind,
    browser_port,
    cgroup,
    cpu,
    database_elsewhere,
    disk,
    docker,
    dollar,
    environment,
    files,
    gpu,
    image,
    ipv6,
    memory,
    model_files,
    port,
    project,
    proxy,
    python,
    replicas,
    rootless,
    runtime,
    selinux,
    swarm,
    tls,
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
    "BESIDE",
    "BUILD",
    "DOCTOR",
    "UP",
    "Choice",
    "Finding",
    "Level",
    "OtherInstance",
    "OwnedResources",
    "beside",
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
    swarm.check,
    rootless.check,
    port.check,
    browser_port.check,
    ipv6.check,
    bind.check,
    apis.check,
    replicas.check,
    dollar.check,
    project.check,
    volume.check,
    database_elsewhere.check,
    image.check,
    proxy.check,
    architecture.check,
    runtime.check,
    cpu.check,
    gpu.check,
    memory.check,
    cgroup.check,
    disk.check,
    selinux.check,
    tls.check,
    ui.check,
)
BESIDE: tuple[Check, ...] = (
    docker.check,
    image.check,
    architecture.check,
    runtime.check,
    cpu.check,
    gpu.check,
    memory.check,
    disk.check,
)
BUILD: tuple[Check, ...] = (
    docker.check,
    image.check,
    proxy.check,
    architecture.check,
    disk.check,
)
DOCTOR: tuple[MachineCheck, ...] = (
    python.doctor,
    architecture.doctor,
    cpu.doctor,
    memory.doctor,
    cgroup.doctor,
    disk.doctor,
    docker.doctor,
    rootless.doctor,
    selinux.doctor,
    proxy.doctor,
    gpu.doctor,
    port.doctor,
    files.instances,
    files.settings,
    model_files.doctor,
    environment.doctor,
    files.unreadable,
)


def questions(plan: Plan, folders: Iterable[str | Path] = ()) -> Questions:
    """The facts that the checks of this plan and `choose` need; `folders`: where `cf` writes."""
    process = plan.launcher == "process"
    ports = port.published(plan)
    if plan.launcher == "auto" and isinstance(plan.core_port, int):
        ports.append(("--port", plan.bind, plan.core_port))  # if it becomes a process
    cuda = plan.device == "cuda"
    return Questions(
        ports=tuple(
            (at, number)
            for _, address, number in ports
            if 1 <= number <= 65535
            # Beside 127.0.0.1 the other address of localhost.
            for at in ((address, ipv6.LOCAL) if address == port.LOOPBACK else (address,))
        ),
        paths=tuple(str(folder) for folder in folders),
        docker=not process,
        images=() if process else (plan.image, plan.base_image, *plan.stack_images.values()),
        gpu=cuda,
        probe_images=() if process or not cuda else (plan.image, plan.base_image),
        gpu_index=max(plan.gpu_index, 0),
        swarm=plan.launcher == "swarm",
        tls=(plan.tls_cert, plan.tls_key) if plan.tls_cert and plan.tls_key else None,
    )


def preflight(plan: Plan, facts: Facts, own: OwnedResources | None = None) -> list[Finding]:
    """All findings of all checks in `UP`, "ok" included; launcher `auto` is settled first."""
    owned = own or OwnedResources()
    settled = (
        with_launcher(plan, choose(plan, facts, owned).kind) if plan.launcher == "auto" else plan
    )
    return [finding for check in UP for finding in check(settled, facts, owned)]


def beside(plan: Plan, facts: Facts, own: OwnedResources) -> list[Finding]:
    """All findings on whether the plan's engine can run on this host beside what runs here."""
    return [finding for check in BESIDE for finding in check(plan, facts, own)]


def build(plan: Plan, facts: Facts, own: OwnedResources) -> list[Finding]:
    """All findings on whether the plan's image can be built on this host."""
    return [finding for check in BUILD for finding in check(plan, facts, own)]


def doctor(machine: Machine) -> list[Finding]:
    """The rows of `cf doctor`, one for each item that was checked."""
    return [finding for check in DOCTOR for finding in check(machine)]


def exit_code(findings: Sequence[Finding]) -> int:
    """The smallest exit code of the failed findings, 0 when none failed."""
    return min((finding.code for finding in findings if finding.level == "fail"), default=0)


def raise_for(findings: Sequence[Finding]) -> None:
    """Raise one PreflightError that lists all failed findings, with their smallest exit code."""
    failed = [finding for finding in findings if finding.level == "fail"]
    if not failed:
        return
    count = "1 problem" if len(failed) == 1 else f"{len(failed)} problems"
    lines = [f"{count} found; nothing was created"]
    for finding in failed:
        lines.append(f"  - {finding.tagged}")
        if finding.hint:
            lines += [f"    {line}" for line in finding.hint.splitlines()]
    raise PreflightError(
        "\n".join(lines),
        codes=tuple(finding.code for finding in failed),
        topics=[finding.topic for finding in failed if finding.topic],
        details={"findings": [finding.as_dict() for finding in findings if finding.level != "ok"]},
    )
