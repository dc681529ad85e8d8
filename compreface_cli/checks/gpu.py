"""GPU of a build for CUDA: driver, card and container toolkit, and which wheels run on which card.

The table of wheels follows the compute capabilities that their machine code is compiled for.
onnxruntime-gpu 1.31 (CUDA 13) holds 7.5, 8.0, 8.6, 8.9, 9.0a and 12.0a, without PTX.
onnxruntime-gpu 1.26 (CUDA 12) holds 6.0 to 9.0a, and the PTX of 9.0.
cuDNN from 9.11 on has nothing below 7.5. CUDA 13 needs driver 580, CUDA 12 needs 525.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from compreface_cli.causes.docker import GPU_REFUSED
from compreface_cli.checks.base import HARDWARE, Finding, OwnedResources, as_warning, fail, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.facts.gpu import Gpu, GpuFacts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "gpu"

NOT_ASKED = Topic(
    "gpu-unknown",
    means="The NVIDIA driver of this host was not queried.",
    why="Whether the build can use a GPU shows only at the start.",
    see="`nvidia-smi`.",
    ways=("Nothing needs to be done unless the start fails.",),
)

NO_DRIVER = Topic(
    "gpu-no-driver",
    means="The build computes on a GPU, and this machine has no NVIDIA driver.",
    why="The engine would end at its start.",
    see="`nvidia-smi`, and `lspci | grep -i nvidia` for the card itself.",
    ways=(
        "Install driver 580 or newer.",
        "Use a build without a GPU: `cf list-builds --cpu`.",
    ),
)

DRIVER_SILENT = Topic(
    "gpu-driver-silent",
    means="An NVIDIA driver is installed and does not answer.",
    why="Mostly its kernel module and its libraries have different versions after an update.",
    see="`nvidia-smi` prints the reason; `dmesg | grep -i nvrm`.",
    ways=(
        "Reboot.",
        "Install the driver again.",
    ),
)

NO_CARD = Topic(
    "gpu-no-such-card",
    means="There is no GPU of the index that was asked for.",
    why="The engine would end at its start.",
    see="`nvidia-smi -L` lists the cards with their indexes.",
    ways=("Choose one of them: `--gpu-index N`.",),
)

TOO_OLD = Topic(
    "gpu-too-old",
    means="The card or its driver is older than all packages of ONNX Runtime with CUDA support.",
    why="No package has code for the card, or its CUDA needs a newer driver.",
    see="`nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv`.",
    ways=(
        "Update the driver.",
        "Use a build without a GPU: `cf list-builds --cpu`.",
    ),
)

WHEELS = Topic(
    "gpu-wheels",
    means="The packages that were chosen (`wheels`) have no code for this card or driver.",
    why="The engine would end with `no kernel image is available`.",
    see="`nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv`.",
    ways=("Set CF_WHEELS as the message says, or leave it out, and `cf` chooses.",),
)

NO_TOOLKIT = Topic(
    "gpu-no-toolkit",
    means="Docker cannot give a container a GPU without the NVIDIA container toolkit, which is "
    "not installed.",
    why="The container would not start.",
    see="`nvidia-ctk --version`.",
    ways=(
        "Install the toolkit; the message has the address.",
        "Run the engine as a local process: `--launcher process`.",
    ),
)

NOT_CONFIGURED = Topic(
    "gpu-docker-unconfigured",
    means="The NVIDIA container toolkit is installed, and Docker does not use it.",
    why="The container would not start.",
    see="`docker info | grep -i -A2 -E 'runtimes|cdi'`.",
    ways=(
        "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`.",
    ),
)

UNPROVEN = Topic(
    "gpu-unproven",
    means="Docker is configured for the GPU, and no container has proven it, since no image is "
    "here yet.",
    why="If it fails, the start is rolled back.",
    see="`docker run --rm --gpus all IMAGE nvidia-smi`.",
    ways=("Nothing needs to be done unless the start fails.",),
)

WheelRow = Literal["cpu", "cuda13", "cuda12", "cuda12-legacy"]

CUDA13_DRIVER = 580
CUDA12_DRIVER = 525
_CONFIGURE = (
    "Run: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
)
_CPU = "Or use a CPU build: cf list-builds --cpu"
_INSTALL = (
    "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"
)


def wheel_row(capability: tuple[int, int], driver: int) -> WheelRow:
    """The wheels for that compute capability and major driver version; `cpu`: none fit."""
    if capability < (6, 0) or driver < CUDA12_DRIVER:
        return "cpu"
    if capability < (7, 5):
        return "cuda12-legacy"
    in_cuda13 = capability[0] in (7, 8, 9) or capability == (12, 0)
    return "cuda13" if in_cuda13 and driver >= CUDA13_DRIVER else "cuda12"


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    if plan.device != "cuda":
        return
    in_docker = plan.launcher != "process"
    docker = facts.docker if facts.docker is not None and facts.docker.reachable else None
    if in_docker and docker is not None and not docker.local:
        yield _remote(facts)
        return
    if facts.gpu is None:
        yield warn(
            NAME,
            "the NVIDIA driver of this host was not queried",
            topic=NOT_ASKED,
        )
        return
    troubles = (driver_trouble(facts.gpu, index) for index in plan.gpus)
    trouble = next(filter(None, troubles), None)
    if trouble is None:
        cards = {gpu.index: gpu for gpu in facts.gpu.gpus}
        for index in plan.gpus:
            yield card_finding(facts.gpu, cards[index], plan.wheels)
    else:
        yield trouble
    if in_docker and docker is not None:
        yield toolkit_finding(facts.gpu, docker, facts, has_driver=trouble is None)


def driver_trouble(gpu: GpuFacts, index: int) -> Finding | None:
    """No driver, a driver that does not answer, or no card of that index; None: all present."""
    if gpu.driver is None and gpu.smi is None and not gpu.device_nodes:
        card_state = (
            "A card is on the PCI bus, without a driver."
            if gpu.card_on_bus
            else "No card was detected."
        )
        return fail(
            NAME,
            HARDWARE,
            "the build needs a GPU, and there is no NVIDIA driver "
            f"(no nvidia-smi, no /dev/nvidia0). {card_state}",
            f"Install driver {CUDA13_DRIVER} or newer. {_CPU}",
            topic=NO_DRIVER,
        )
    if not gpu.gpus:
        why = gpu.smi_error or "nvidia-smi is not installed"
        return fail(
            NAME,
            HARDWARE,
            f"the NVIDIA driver {gpu.driver or 'of unknown version'} does not answer: {why}",
            f"Run nvidia-smi; after a driver update a reboot is needed. {_CPU}",
            topic=DRIVER_SILENT,
        )
    if all(card.index != index for card in gpu.gpus):
        present = ", ".join(f"{card.index} ({card.name})" for card in gpu.gpus)
        return fail(
            NAME,
            HARDWARE,
            f"there is no GPU {index}; this host has {present}",
            "Choose one of them with --gpu-index.",
            topic=NO_CARD,
        )
    return None


def card_finding(gpu: GpuFacts, card: Gpu, wheels: str) -> Finding:
    """Whether the wheels of the build run on this card with this driver."""
    capability = f"{card.capability[0]}.{card.capability[1]}"
    shown = f"GPU {card.index} ({card.name}, compute capability {capability}, driver {gpu.driver})"
    fits = wheel_row(card.capability, gpu.driver_major or 0)
    if fits == "cpu":
        old_card = card.capability < (6, 0)
        return fail(
            NAME,
            HARDWARE,
            f"{shown} is too old: "
            + (
                "no wheel has code below 6.0"
                if old_card
                else f"CUDA 12 needs driver {CUDA12_DRIVER}"
            ),
            _CPU if old_card else f"Update the driver to {CUDA13_DRIVER} or newer. {_CPU}",
            topic=TOO_OLD,
        )
    # A newer driver runs wheels of an older CUDA; a card that their machine code lacks does not.
    if wheels in (fits, "cpu") or (wheels, fits) == ("cuda12", "cuda13"):
        return ok(NAME, shown)
    return fail(
        NAME,
        HARDWARE,
        f"{shown} cannot run the {wheels} wheels; it needs the {fits} wheels",
        f"Choose them: CF_WHEELS={fits}"
        + (
            f", or update the driver to {CUDA13_DRIVER}"
            if wheels == "cuda13" and wheel_row(card.capability, CUDA13_DRIVER) == "cuda13"
            else ""
        )
        + ".",
        topic=WHEELS,
    )


def toolkit_finding(
    gpu: GpuFacts, docker: DockerFacts, facts: Facts, *, has_driver: bool
) -> Finding:
    """Whether Docker can give a container the GPU: the toolkit is installed, and Docker uses it."""
    if facts.probe is not None and facts.probe.works:
        return ok(NAME, f"a container of {facts.probe.image} starts with the GPU")
    if not gpu.toolkit and not gpu.cdi_files:
        return fail(
            NAME,
            HARDWARE,
            "Docker cannot give a container a GPU: the NVIDIA container toolkit is not installed "
            "(no nvidia-ctk, no nvidia-container-runtime-hook)",
            f"Install it: {_INSTALL}",
            topic=NO_TOOLKIT,
        )
    configured = "nvidia" in docker.runtimes or (docker.cdi_dirs and _cdi_known(gpu, docker))
    if not configured:
        return fail(
            NAME,
            HARDWARE,
            "the NVIDIA container toolkit is installed, but Docker is not configured for it "
            "(no nvidia runtime, no CDI device)",
            _CONFIGURE,
            topic=NOT_CONFIGURED,
        )
    if facts.probe is not None:
        return fail(
            NAME,
            HARDWARE,
            f"a container of {facts.probe.image} does not start with the GPU: {facts.probe.error}",
            _CONFIGURE if has_driver else "Repair the driver first.",
            topic=GPU_REFUSED,
        )
    return warn(
        NAME,
        "Docker is configured for the NVIDIA toolkit; whether a container starts with the GPU "
        "is known only after the first start",
        topic=UNPROVEN,
    )


def _cdi_known(gpu: GpuFacts, docker: DockerFacts) -> bool:
    """By the CDI devices that a newer engine lists; for an older one, by the files alone."""
    if docker.cdi_devices is not None:
        return any("nvidia.com/gpu" in device for device in docker.cdi_devices)
    return bool(gpu.cdi_files)


def _remote(facts: Facts) -> Finding:
    if facts.probe is None:
        return warn(
            NAME,
            "the Docker engine is on another host: whether it can give a container a GPU "
            "is known only after the first start",
            topic=UNPROVEN,
        )
    if facts.probe.works:
        return ok(NAME, f"a container of {facts.probe.image} starts with the GPU")
    return fail(
        NAME,
        HARDWARE,
        f"the Docker engine's host cannot start a container with a GPU: {facts.probe.error}",
        f"Install the driver and the container toolkit there: {_INSTALL} {_CPU}",
        topic=GPU_REFUSED,
    )


def doctor(machine: Machine) -> Iterator[Finding]:
    """The NVIDIA rows; no build is chosen, so failures are warnings and no GPU is fine."""
    facts, gpu = machine.facts, machine.facts.gpu
    if gpu is None:
        return
    if gpu.driver is None and gpu.smi is None and not gpu.device_nodes and not gpu.card_on_bus:
        yield ok(NAME, "no NVIDIA card; the CPU builds need none")
        return
    trouble = driver_trouble(gpu, gpu.gpus[0].index if gpu.gpus else 0)
    if trouble is not None:
        yield as_warning(trouble)
        return
    for card in gpu.gpus:
        wheels = wheel_row(card.capability, gpu.driver_major or 0)
        row = card_finding(gpu, card, wheels)
        fits = replace(row, message=f"{row.message}: wheels of {wheels}")
        yield as_warning(row) if row.level == "fail" else fits
    if facts.docker is not None and facts.docker.reachable and facts.docker.local:
        yield as_warning(toolkit_finding(gpu, facts.docker, facts, has_driver=True))
