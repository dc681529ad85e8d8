"""Facts and a plan as plain objects, for tests of what judges them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from compreface_cli.docker.containers import Container, PublishedPort
from compreface_cli.docker.image import Image
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.facts.gpu import Gpu, GpuFacts
from compreface_cli.facts.host import HostFacts, Listener, PortFact
from compreface_cli.plan.plan import Plan
from compreface_cli.plugin_table import UI_PLUGINS

V2 = frozenset({"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"})
STACK = {
    "postgres_image": "exadel/compreface-postgres-db:1.2.0",
    "admin_image": "exadel/compreface-admin:1.2.0",
    "api_image": "exadel/compreface-api:1.2.0",
    "fe_image": "exadel/compreface-fe:1.2.0",
}
CORE = "cf/embedded:0.1.0"
BASE = "python:3.11-slim"
FOLDER = "/home/u/.local/share/compreface-cli/projects/embedded"


def plan(**changes: Any) -> Plan:
    """A full stack of the embedded build under Compose, changed as told."""
    whole = Plan(
        build="embedded",
        summary="",
        detector="embedded.FaceDetector@mtcnn",
        calculator="embedded.Calculator@mobilefacenet192",
        plugins=UI_PLUGINS,
        runtime="onnxruntime",
        precision="auto",
        min_cosine=0.998,
        device="cpu",
        gpu_index=-1,
        wheels="cpu",
        base_image=BASE,
        models=(),
        max_detect_size=640,
        max_concurrency=0,
        max_wait_s=10.0,
        memory_limit="2048m",
        instance="embedded",
        launcher="compose",
        services="full",
        bind="127.0.0.1",
        port=8000,
        core_port=3000,
        image=CORE,
        stack=STACK,
    )
    return replace(whole, **changes)


def images(*names: str) -> tuple[Image, ...]:
    return tuple(Image(f"sha256:{name}", (name,), 1) for name in names)


def docker(**changes: Any) -> DockerFacts:
    """A local engine with every image and nothing else, changed as told."""
    whole = DockerFacts(
        endpoint="unix:///var/run/docker.sock",
        local=True,
        state="ok",
        client="/usr/bin/docker",
        compose_version="2.26.1",
        engine_version="26.1.5",
        architecture="amd64",
        cores=2,
        memory_total=24_000_000_000,
        root_dir="/var/lib/docker",
        root_free=80_000_000_000,
        runtimes=("runc",),
        images=images(CORE, BASE, *STACK.values()),
    )
    return replace(whole, **changes)


def remote(**changes: Any) -> DockerFacts:
    return docker(endpoint="tcp://far:2375", local=False, root_free=None, **changes)


def host(**changes: Any) -> HostFacts:
    """A machine with all that is needed and free ports, changed as told."""
    whole = HostFacts(
        system="Linux",
        distribution="Debian",
        architecture="amd64",
        python="3.11.7",
        cpu_flags=V2,
        cores=2,
        memory_total=24_000_000_000,
        memory_available=20_000_000_000,
        user="u",
        ports={
            ("127.0.0.1", number): PortFact("127.0.0.1", number, free=True)
            for number in (3000, 8000)
        },
    )
    return replace(whole, **changes)


def held(number: int, pid: int | None = 4711, process: str | None = "python3") -> PortFact:
    """A port that another process holds."""
    return PortFact(
        "127.0.0.1",
        number,
        free=False,
        error="address already in use",
        listeners=(Listener("127.0.0.1", number, pid, process),),
    )


def container(name: str = "somebody", state: str = "running", **rest: Any) -> Container:
    return Container(
        id=f"id-{name}", name=name, state=state, status=rest.pop("status", state), image="x", **rest
    )


def of_project(project: str, folder: str, name: str = "c", **rest: Any) -> Container:
    labels = {
        "com.docker.compose.project": project,
        "com.docker.compose.project.working_dir": folder,
    }
    return container(name, labels=labels, **rest)


def published(number: int, address: str = "127.0.0.1", *, held: bool = True) -> PublishedPort:
    return PublishedPort(address, number, held)


def gpu(**changes: Any) -> GpuFacts:
    """A host with a driver, one Ada card and the container toolkit, changed as told."""
    whole = GpuFacts(
        card_on_bus=True,
        driver="580.65.06",
        device_nodes=("/dev/nvidia0",),
        smi="/usr/bin/nvidia-smi",
        gpus=(Gpu(0, "RTX 4090", (8, 9), 24 * 2**30),),
        toolkit=("/usr/bin/nvidia-ctk",),
    )
    return replace(whole, **changes)


NO_GPU = GpuFacts(card_on_bus=False, driver=None, device_nodes=(), smi=None)


def facts(**parts: Any) -> Facts:
    return replace(Facts(host=host(), docker=docker()), **parts)
