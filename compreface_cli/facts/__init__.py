"""What is so on this host and its Docker engine: one frozen `Facts`, gathered by questions."""

from __future__ import annotations

from dataclasses import dataclass

from compreface_cli.facts.database import DatabaseFacts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.facts.gpu import GpuFacts, ProbeFact
from compreface_cli.facts.host import HostFacts


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the checks judge; None: not asked, because nothing depends on it."""

    host: HostFacts
    docker: DockerFacts | None = None
    gpu: GpuFacts | None = None
    probe: ProbeFact | None = None
    database: DatabaseFacts | None = None  # what the volume holds, where that decides something


@dataclass(frozen=True, slots=True)
class Questions:
    """What to ask: ports as (address, port), folders whose disk matters, images, the NVIDIA side.

    Images that are not here are looked up in their registry. Of `probe_images` the first that is
    here is started once with GPU `gpu_index`, then removed.
    """

    ports: tuple[tuple[str, int], ...] = ()
    paths: tuple[str, ...] = ()
    docker: bool = True
    images: tuple[str, ...] = ()
    gpu: bool = False
    probe_images: tuple[str, ...] = ()
    gpu_index: int = 0


def gather(questions: Questions) -> Facts:
    """Ask the host and, where wanted, Docker and the NVIDIA side; every wait is bounded."""
    from compreface_cli.facts import docker as engine
    from compreface_cli.facts import gpu as nvidia
    from compreface_cli.facts import host

    host_facts = host.gather(questions.ports, questions.paths)
    docker_facts = engine.gather(questions.images) if questions.docker else None
    if docker_facts is None and any(one.maybe_dockers for one in host_facts.ports.values()):
        docker_facts = engine.gather()  # to name the container
    gpu_facts = nvidia.gather() if questions.gpu else None
    probe = None
    if docker_facts is not None and docker_facts.reachable:
        here = (name for name in questions.probe_images if docker_facts.image(name))
        image = next(here, None)
        if image is not None:
            probe = nvidia.probe(image, questions.gpu_index)
    return Facts(host_facts, docker_facts, gpu_facts, probe)
