"""Facts about this host and its Docker engine, which the checks judge: `Facts`, `gather`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compreface_cli.facts.cgroup import Limits
from compreface_cli.facts.database import DatabaseFacts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.facts.gpu import GpuFacts, ProbeFact
from compreface_cli.facts.host import HostFacts
from compreface_cli.facts.network import NetworkFacts
from compreface_cli.facts.swarm import SwarmFacts

if TYPE_CHECKING:  # it loads OpenSSL
    from compreface_cli.facts.database_elsewhere import Elsewhere
    from compreface_cli.facts.tls import TlsFacts


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of the checks; None: not gathered, because nothing depends on it."""

    host: HostFacts
    docker: DockerFacts | None = None
    gpu: GpuFacts | None = None
    probe: ProbeFact | None = None
    database: DatabaseFacts | None = None  # the content of the instance's volume
    # Build -> its calculator, of all builds; only where the content of the volume matters.
    calculators: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFacts | None = None
    elsewhere: Elsewhere | None = None  # the database of a plan that has none of its own
    network: NetworkFacts | None = None
    swarm: SwarmFacts | None = None
    own_group: Limits | None = None  # of the control group of this process
    containers_group: Limits | None = None  # of the one in which a local Docker makes its own


@dataclass(frozen=True, slots=True)
class Questions:
    """What to gather: ports as (address, port), disks of folders, Docker, images, the GPU.

    Images that are not local are looked up in their registry. The first local one of `probe_images`
    is started once with GPU `gpu_index`, then removed.
    """

    ports: tuple[tuple[str, int], ...] = ()
    paths: tuple[str, ...] = ()
    docker: bool = True
    images: tuple[str, ...] = ()
    gpu: bool = False
    probe_images: tuple[str, ...] = ()
    gpu_index: int = 0
    tls: tuple[str, str] | None = None  # certificate and key
    swarm: bool = False


def gather(questions: Questions) -> Facts:
    """Gather the facts that answer the questions; every query has a timeout."""
    from compreface_cli.facts import cgroup, host, network, swarm, tls
    from compreface_cli.facts import docker as engine
    from compreface_cli.facts import gpu as nvidia

    host_facts = host.gather(questions.ports, questions.paths)
    docker_facts = engine.gather(questions.images) if questions.docker else None
    if docker_facts is None and any(port.maybe_dockers for port in host_facts.ports.values()):
        docker_facts = engine.gather()  # to name the container
    gpu_facts = nvidia.gather() if questions.gpu else None
    probe = None
    if docker_facts is not None and docker_facts.reachable:
        here = (name for name in questions.probe_images if docker_facts.image(name))
        image = next(here, None)
        if image is not None:
            probe = nvidia.probe(image, questions.gpu_index)
    pair = tls.look(*questions.tls) if questions.tls else None
    return Facts(
        host_facts,
        docker_facts,
        gpu_facts,
        probe,
        tls=pair,
        network=network.gather(),
        swarm=swarm.gather() if questions.swarm else None,
        own_group=cgroup.of_process(),
        containers_group=cgroup.of_containers(),
    )
