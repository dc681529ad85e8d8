"""Facts about the Docker engine and its objects, by read-only queries with timeouts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from compreface_cli.docker import cli, client, containers, endpoint, image
from compreface_cli.docker.client import NoAnswerError
from compreface_cli.docker.containers import Container
from compreface_cli.docker.image import Image
from compreface_cli.docker.labels import PROJECT, STACK
from compreface_cli.errors import CfError

ANSWER_S = 5.0  # timeout; a healthy engine answers in milliseconds
PULL_S = 8.0  # timeout for a registry, which is asked through the engine

_LIMITS = {"MemoryLimit": "memory", "PidsLimit": "processes"}
_PROXIES = {"http": "HttpProxy", "https": "HttpsProxy", "no": "NoProxy"}

State: TypeAlias = Literal["ok"] | client.State


@dataclass(frozen=True, slots=True)
class Labelled:
    """A volume or a network."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT)

    @property
    def stack(self) -> str | None:
        return self.labels.get(STACK)


@dataclass(frozen=True, slots=True)
class PullFact:
    """Whether a registry offers an image; `pullable` is None when it did not answer in time."""

    image: str
    pullable: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """The state of the engine; sizes in bytes. Facts about it are empty unless `state` is `ok`."""

    endpoint: str
    local: bool  # the engine's paths and ports are this host's
    state: State
    error: str = ""
    client: str | None = None  # path of the `docker` program
    compose_version: str | None = None
    compose_error: str = ""
    compose_v1: str | None = None  # version of an old `docker-compose`, if only that is here
    engine_version: str | None = None
    architecture: str | None = None
    cores: int | None = None
    memory_total: int | None = None
    root_dir: str | None = None
    root_free: int | None = None  # None: the engine is remote, or the folder is not accessible
    runtimes: tuple[str, ...] = ()
    rootless: bool = False
    user_namespaces: bool = False  # userns-remap
    selinux: bool = False  # it labels its containers
    no_limits: tuple[str, ...] = ()  # what it cannot limit: "memory", "processes"
    proxies: Mapping[str, str] = field(default_factory=dict)  # http, https, no
    cdi_dirs: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] | None = None  # None: this engine does not list them
    containers: tuple[Container, ...] = ()
    volumes: tuple[Labelled, ...] = ()
    networks: tuple[Labelled, ...] = ()
    images: tuple[Image, ...] = ()
    pulls: Mapping[str, PullFact] = field(default_factory=dict)

    @property
    def reachable(self) -> bool:
        return self.state == "ok"

    def image(self, reference: str) -> Image | None:
        """The local image of that name (`:latest` when it names no tag) or id, or None."""
        names = {reference, with_tag(reference)}
        return next(
            (item for item in self.images if names & {item.id, *item.tags, *item.digests}), None
        )


def gather(images: Iterable[str] = ()) -> DockerFacts:
    """Query the engine that the `docker` program uses.

    Those of `images` that are not local are looked up in their registry. For an engine that cannot
    be reached, `state` and `error` say why; nothing is raised.
    """
    at = endpoint.current()
    base: dict[str, Any] = {"endpoint": at.host, "local": at.local}
    try:
        version = client.get("version", timeout_s=ANSWER_S)
        return _ask(version, tuple(images), {**base, **_program()})
    except NoAnswerError as silent:
        return DockerFacts(state=silent.state, error=silent.reason, **base, **_program())


def with_tag(reference: str) -> str:
    """The reference with its default tag: `name` -> `name:latest`."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"


def _program() -> dict[str, Any]:
    """The facts about the `docker` program and its Compose plugin."""
    program = shutil.which("docker")
    if program is None:
        return {"client": None, "compose_error": "the docker program is not installed"}
    words = ("compose", "version", "--short")
    try:
        version = cli.run(*words, doing="ask for Compose", timeout_s=ANSWER_S).strip()
    except CfError as failed:
        error = "\n".join(failed.details.get("output") or [failed.message])
        return {"client": program, "compose_error": error, "compose_v1": _compose_v1()}
    if not version:
        error = "no Compose plugin"
        return {"client": program, "compose_error": error, "compose_v1": _compose_v1()}
    return {"client": program, "compose_version": version.removeprefix("v")}


def _compose_v1() -> str | None:
    """The version of the program `docker-compose` if it is of the old version 1."""
    import subprocess

    program = shutil.which("docker-compose")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "version", "--short"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.strip()
    return version if version.startswith("1.") else None


def _ask(
    version: Mapping[str, Any], images: tuple[str, ...], base: Mapping[str, Any]
) -> DockerFacts:
    def ask(*path: str) -> Any:
        return client.get(*path, timeout_s=ANSWER_S)

    info = ask("info")
    present = tuple(image.listed(timeout_s=ANSWER_S))
    names = {name for item in present for name in (*item.tags, *item.digests)}
    root = info.get("DockerRootDir")
    devices = info.get("DiscoveredDevices")
    options = info.get("SecurityOptions") or ()
    security = {part for option in options for part in str(option).split(",")}
    return DockerFacts(
        state="ok",
        engine_version=version.get("Version"),
        architecture=version.get("Arch"),
        cores=info.get("NCPU"),
        memory_total=info.get("MemTotal"),
        root_dir=root,
        root_free=_free(root) if base["local"] and root else None,
        runtimes=tuple(info.get("Runtimes") or ()),
        rootless="name=rootless" in security,
        user_namespaces="name=userns" in security,
        selinux="name=selinux" in security,
        no_limits=tuple(what for key, what in _LIMITS.items() if info.get(key) is False),
        proxies={key: str(info[name]) for key, name in _PROXIES.items() if info.get(name)},
        cdi_dirs=tuple(info.get("CDISpecDirs") or ()),
        cdi_devices=None if devices is None else tuple(row.get("ID", "") for row in devices),
        containers=tuple(containers.listed(timeout_s=ANSWER_S)),
        volumes=_labelled(ask("volumes").get("Volumes")),
        networks=_labelled(ask("networks")),
        images=present,
        pulls=_pulls(tuple(name for name in images if with_tag(name) not in names)),
        **base,
    )


def _labelled(rows: Iterable[Mapping[str, Any]] | None) -> tuple[Labelled, ...]:
    return tuple(Labelled(row["Name"], row.get("Labels") or {}) for row in rows or ())


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _pulls(images: tuple[str, ...]) -> dict[str, PullFact]:
    """Look up the images in their registries through the engine, in parallel."""
    if not images:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=len(images)) as pool:
        return {fact.image: fact for fact in pool.map(_pull, images)}


def _pull(image: str) -> PullFact:
    try:
        client.get("distribution", with_tag(image), "json", timeout_s=PULL_S)
    except NoAnswerError as failed:
        if failed.state == "timeout":
            return PullFact(image, None, f"its registry gave no answer within {PULL_S:g} s")
        return PullFact(image, False if failed.status else None, failed.reason)
    return PullFact(image, True)
