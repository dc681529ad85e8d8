"""Facts about NVIDIA cards, driver and container toolkit of this host, and a probe container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compreface_cli.docker import cli
from compreface_cli.docker.labels import LABEL_PROBE
from compreface_cli.errors import CfError

_NVIDIA = "0x10de"  # PCI vendor number
_SMI_S = 10.0  # the first call after a boot loads the driver
_PROBE_S = 30
_QUERY = "index,name,compute_cap,driver_version,memory.total"
_TOOLS = ("nvidia-ctk", "nvidia-container-runtime-hook", "nvidia-container-cli")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card; `capability` is the compute capability (major, minor), `memory` in bytes."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """The NVIDIA cards and software of this host; irrelevant for a remote Docker engine."""

    card_on_bus: bool  # a card is installed, with or without a driver
    driver: str | None  # "580.65.06"
    device_nodes: tuple[str, ...]
    smi: str | None  # path of nvidia-smi
    smi_error: str = ""
    gpus: tuple[Gpu, ...] = ()
    toolkit: tuple[str, ...] = ()  # paths of the toolkit's programs
    cdi_files: tuple[str, ...] = ()  # CDI descriptions of NVIDIA devices

    @property
    def driver_major(self) -> int | None:
        match = re.match(r"\d+", self.driver or "")
        return int(match.group()) if match else None


@dataclass(frozen=True, slots=True)
class ProbeFact:
    """The result of starting a container of `image` with the GPU."""

    image: str
    works: bool
    error: str = ""


def gather(environ: Mapping[str, str] | None = None, *, root: Path = Path("/")) -> GpuFacts:
    """Look for cards, driver and toolkit; `root` is the folder with /proc, /sys, /dev and /etc."""
    variables = os.environ if environ is None else environ
    search = variables.get("PATH")
    smi = shutil.which("nvidia-smi", path=search)
    gpus, driver, error = _smi(smi, variables) if smi else ((), None, "")
    tools = tuple(path for name in _TOOLS if (path := shutil.which(name, path=search)))
    return GpuFacts(
        card_on_bus=_card_on_bus(root),
        driver=driver or _driver(root),
        device_nodes=tuple(
            f"/dev/{path.name}" for path in sorted((root / "dev").glob("nvidia[0-9]*"))
        ),
        smi=smi,
        smi_error=error,
        gpus=gpus,
        toolkit=tools,
        cdi_files=tuple(
            str(path)
            for folder in ("etc/cdi", "var/run/cdi")
            for path in sorted((root / folder).glob("*"))
            if path.suffix in (".yaml", ".json") and "nvidia" in path.name
        ),
    )


def probe(image: str, index: int) -> ProbeFact:
    """Start `true` from a local image with GPU `index`, then remove the container.

    A registered runtime or a CDI folder does not show that the toolkit works; this does.
    """
    try:
        cli.run(
            *("run", "--rm", "--pull=never", "--network=none", "--entrypoint=/bin/true"),
            *(f"--label={LABEL_PROBE}=gpu", f"--gpus=driver=nvidia,device={index}", image),
            doing="start a container with the GPU",
            timeout_s=_PROBE_S,
        )
    except CfError as failed:
        return ProbeFact(image, False, "\n".join(failed.details.get("output") or [failed.message]))
    return ProbeFact(image, True)


def _smi(program: str, environ: Mapping[str, str]) -> tuple[tuple[Gpu, ...], str | None, str]:
    """The cards and the driver version from nvidia-smi, and its error message."""
    try:
        run = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SMI_S,
            env=dict(environ),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as raised:
        return (), None, str(raised)
    if run.returncode != 0:
        return (), None, (run.stdout.strip() or run.stderr.strip() or f"exit {run.returncode}")
    gpus = []
    driver = None
    for line in run.stdout.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        capability = re.fullmatch(r"(\d+)\.(\d+)", cells[2]) if len(cells) == 5 else None
        if capability is None:
            continue
        driver = cells[3]
        memory = re.match(r"\d+", cells[4])  # MiB; "[N/A]" on cards that share the host's memory
        gpus.append(
            Gpu(
                index=int(cells[0]),
                name=cells[1],
                capability=(int(capability[1]), int(capability[2])),
                memory=int(memory.group()) * 2**20 if memory else 0,
            )
        )
    return tuple(gpus), driver, "" if gpus else f"no card in its answer: {run.stdout.strip()!r}"


def _driver(root: Path) -> str | None:
    """The version of the loaded kernel module."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    match = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return match.group(1) if match else None


def _card_on_bus(root: Path) -> bool:
    """Whether the PCI bus has a display or 3D controller (class 03) of NVIDIA."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith("0x03"):
            return True
    return False
