"""What the Docker engine is and holds, by read-only questions with bounded waits."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

PROJECT_LABEL = "com.docker.compose.project"
VOLUME_LABEL = "com.docker.compose.volume"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
DEFAULT_HOST = "unix:///var/run/docker.sock"

ANSWER_S = 5  # a healthy engine answers in milliseconds
PULL_S = 8  # a registry is asked through the engine; longer than this is "not known"
_INSPECTED = 200  # containers that do not run are asked one by one, so their number is bounded

State = Literal["ok", "no-socket", "denied", "refused", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A host port of a container; `held` is False when it is taken only at the next start."""

    address: str  # "" means all addresses
    port: int
    held: bool = True


@dataclass(frozen=True, slots=True)
class Container:
    """A container; `state` is Docker's word: running, restarting, exited, created, paused, dead."""

    id: str
    name: str
    state: str
    status: str  # "Up 3 minutes (healthy)", "Restarting (3) 2 seconds ago"
    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PublishedPort, ...] = ()
    volumes: tuple[str, ...] = ()  # names of mounted volumes

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT_LABEL)

    @property
    def folder(self) -> str | None:
        """The folder from which Compose started it."""
        return self.labels.get(FOLDER_LABEL)

    @property
    def active(self) -> bool:
        """It runs, or Docker will start it again by itself."""
        return self.state in ("running", "restarting", "paused")


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT_LABEL)


@dataclass(frozen=True, slots=True)
class Network:
    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT_LABEL)


@dataclass(frozen=True, slots=True)
class LocalImage:
    id: str
    tags: tuple[str, ...]
    size: int
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PullFact:
    """Whether a registry offers an image; `pullable` is None when it did not answer in time."""

    image: str
    pullable: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """One look at the engine; sizes in bytes. Beyond `state`, empty unless `state` is `ok`."""

    endpoint: str
    local: bool  # the engine's paths and ports are this host's
    state: State
    error: str = ""
    client: str | None = None  # path of the `docker` program
    compose_version: str | None = None
    compose_error: str = ""
    engine_version: str | None = None
    api_version: str | None = None
    architecture: str | None = None
    cores: int | None = None
    memory_total: int | None = None
    root_dir: str | None = None
    root_free: int | None = None  # None: the engine is remote, or this user may not look
    runtimes: tuple[str, ...] = ()
    cdi_dirs: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] | None = None  # None: this engine does not list them
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    networks: tuple[Network, ...] = ()
    images: tuple[LocalImage, ...] = ()
    pulls: Mapping[str, PullFact] = field(default_factory=dict)

    @property
    def reachable(self) -> bool:
        return self.state == "ok"

    def image(self, reference: str) -> LocalImage | None:
        """The local image of that name (`:latest` when it names no tag), or None."""
        wanted = with_tag(reference)
        return next((item for item in self.images if wanted in item.tags), None)


def gather(images: Iterable[str] = (), *, environ: Mapping[str, str] | None = None) -> DockerFacts:
    """Look at the engine that the `docker` client would use.

    Those of `images` that are absent are looked up in their registry.

    Never raises for an engine that is out of reach: `state` and `error` say why.
    """
    variables = os.environ if environ is None else environ
    host = endpoint(variables)
    local = host.startswith(("unix://", "npipe://"))
    base: dict[str, Any] = {"endpoint": host, "local": local, **_client(variables)}
    state, error = _reach(host)
    if state != "ok":
        return DockerFacts(state=state, error=error, **base)
    import docker.errors
    import requests

    try:
        return _ask(host, variables, tuple(images), base)
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as raised:
        # The SDK wraps what happened into one kind of error, so its words must tell.
        words = str(raised)
        if isinstance(raised, requests.exceptions.Timeout) or "timed out" in words.lower():
            return DockerFacts(state="timeout", error=f"no answer within {ANSWER_S} s", **base)
        denied = "permission denied" in words.lower()
        return DockerFacts(state="denied" if denied else "error", error=words, **base)


def endpoint(environ: Mapping[str, str]) -> str:
    """The engine's address, by the client's own order: variables, current context, default."""
    if environ.get("DOCKER_HOST"):
        return environ["DOCKER_HOST"]
    folder = Path(
        environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "~")).expanduser() / ".docker"
    )
    name = environ.get("DOCKER_CONTEXT") or _json(folder / "config.json").get("currentContext")
    if not name or name == "default":
        return DEFAULT_HOST
    for meta in (folder / "contexts" / "meta").glob("*/meta.json"):
        context = _json(meta)
        if context.get("Name") == name:
            return str(context.get("Endpoints", {}).get("docker", {}).get("Host") or DEFAULT_HOST)
    return DEFAULT_HOST


def with_tag(reference: str) -> str:
    """`name` -> `name:latest`; a reference with a tag or digest stays."""
    last = reference.rpartition("/")[2]
    return reference if ":" in last or "@" in last else f"{reference}:latest"


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _client(environ: Mapping[str, str]) -> dict[str, Any]:
    """The `docker` program and its Compose plugin."""
    program = shutil.which("docker", path=environ.get("PATH"))
    if program is None:
        return {"client": None, "compose_error": "the docker program is not installed"}
    try:
        run = subprocess.run(
            [program, "compose", "version", "--short"],
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            env=dict(environ),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as raised:
        return {"client": program, "compose_error": str(raised)}
    if run.returncode != 0 or not run.stdout.strip():
        return {"client": program, "compose_error": run.stderr.strip() or "no Compose plugin"}
    return {"client": program, "compose_version": run.stdout.strip().removeprefix("v")}


def _reach(host: str) -> tuple[State, str]:
    """Whether something accepts connections; the SDK's wrapped errors tell no cases apart."""
    parts = urlsplit(host)
    if parts.scheme == "unix":
        path = parts.path
        if not os.path.exists(path):
            return "no-socket", f"{path} does not exist"
        target: Any = path
        family = socket.AF_UNIX
    elif parts.scheme in ("tcp", "http", "https") and parts.hostname:
        target = (parts.hostname, parts.port or 2375)
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
    else:
        return "ok", ""  # ssh and pipes: the SDK's answer is the first one
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_S)
            probe.connect(target)
    except PermissionError:
        return "denied", f"permission denied on {target}"
    except ConnectionRefusedError:
        return "refused", f"nothing answers at {host}"
    except TimeoutError:
        return "timeout", f"no connection within {ANSWER_S} s"
    except OSError as raised:
        return "error", f"{host}: {raised.strerror or raised}"
    return "ok", ""


def _ask(
    host: str, environ: Mapping[str, str], images: tuple[str, ...], base: dict[str, Any]
) -> DockerFacts:
    with client(host, environ, ANSWER_S) as api:
        version = api.version(api_version=False)
        info = api.info()
        local = bool(base["local"])
        found = tuple(_image(row) for row in api.images())
        present = {tag for item in found for tag in item.tags}
        absent = tuple(name for name in images if with_tag(name) not in present)
        root = info.get("DockerRootDir")
        devices = info.get("DiscoveredDevices")
        return DockerFacts(
            state="ok",
            engine_version=version.get("Version"),
            api_version=version.get("ApiVersion"),
            architecture=version.get("Arch"),
            cores=info.get("NCPU"),
            memory_total=info.get("MemTotal"),
            root_dir=root,
            root_free=_free(root) if local and root else None,
            runtimes=tuple(info.get("Runtimes") or ()),
            cdi_dirs=tuple(info.get("CDISpecDirs") or ()),
            cdi_devices=None if devices is None else tuple(row.get("ID", "") for row in devices),
            containers=_containers(api),
            volumes=tuple(
                Volume(row["Name"], row.get("Labels") or {})
                for row in api.volumes().get("Volumes") or ()
            ),
            networks=tuple(
                Network(row["Id"], row["Name"], row.get("Labels") or {}) for row in api.networks()
            ),
            images=found,
            pulls=_pulls(host, environ, absent),
            **base,
        )


@contextmanager
def client(host: str, environ: Mapping[str, str], timeout: int) -> Iterator[Any]:
    """The SDK's low-level client in the engine's own API version; closed when the block ends."""
    import docker
    from docker.constants import DEFAULT_DOCKER_API_VERSION
    from docker.utils import kwargs_from_env

    options: dict[str, Any] = {
        "base_url": host,
        **kwargs_from_env(environment={**environ, "DOCKER_HOST": host}),
        "timeout": timeout,
        "use_ssh_client": host.startswith("ssh://"),
    }
    # The SDK's own `auto` leaves its socket open when the engine does not answer.
    with closing(docker.APIClient(version=DEFAULT_DOCKER_API_VERSION, **options)) as first:
        version = first.version(api_version=False)["ApiVersion"]
    with closing(docker.APIClient(version=version, **options)) as api:
        yield api


def _containers(api: Any) -> tuple[Container, ...]:
    import docker.errors

    found = []
    inspected = 0
    for row in api.containers(all=True):
        ports = {
            PublishedPort(item.get("IP", ""), item["PublicPort"])
            for item in row.get("Ports") or ()
            if item.get("PublicPort") and item.get("Type") == "tcp"
        }
        if row.get("State") != "running" and inspected < _INSPECTED:
            # A container between two starts lists no ports, but takes them again.
            inspected += 1
            try:
                ports |= _configured_ports(api.inspect_container(row["Id"]))
            except docker.errors.NotFound:
                continue  # removed since the list was made
        found.append(
            Container(
                id=row["Id"],
                name=(row.get("Names") or [row["Id"][:12]])[0].lstrip("/"),
                state=row.get("State", ""),
                status=row.get("Status", ""),
                image=row.get("Image", ""),
                labels=row.get("Labels") or {},
                ports=tuple(sorted(ports, key=lambda item: (item.port, item.address))),
                volumes=tuple(
                    item["Name"] for item in row.get("Mounts") or () if item.get("Type") == "volume"
                ),
            )
        )
    return tuple(found)


def _configured_ports(inspected: Mapping[str, Any]) -> set[PublishedPort]:
    bindings = (inspected.get("HostConfig") or {}).get("PortBindings") or {}
    return {
        PublishedPort(item.get("HostIp", ""), int(item["HostPort"]), held=False)
        for inside, items in bindings.items()
        if inside.endswith("/tcp")
        for item in items or ()
        if item.get("HostPort", "").isdigit()
    }


def _image(row: Mapping[str, Any]) -> LocalImage:
    return LocalImage(
        id=row["Id"],
        tags=tuple(row.get("RepoTags") or ()) + tuple(row.get("RepoDigests") or ()),
        size=int(row.get("Size") or 0),
        labels=row.get("Labels") or {},
    )


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def _pulls(host: str, environ: Mapping[str, str], images: tuple[str, ...]) -> dict[str, PullFact]:
    """Ask the registries, through the engine that would pull, all at once."""
    if not images:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=len(images)) as pool:
        facts = pool.map(lambda image: _pull(host, environ, image), images)
        return {fact.image: fact for fact in facts}


def _pull(host: str, environ: Mapping[str, str], image: str) -> PullFact:
    import docker.errors
    import requests

    try:
        with client(host, environ, PULL_S) as api:
            api.inspect_distribution(with_tag(image))
    except requests.exceptions.Timeout:
        return PullFact(image, None, f"its registry gave no answer within {PULL_S} s")
    except docker.errors.APIError as raised:
        return PullFact(image, False, raised.explanation or str(raised))
    except (docker.errors.DockerException, requests.exceptions.RequestException) as raised:
        return PullFact(image, None, str(raised))
    return PullFact(image, True)
