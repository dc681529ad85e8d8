"""The name of an image in a registry: what the user reads, and where it is on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_WIRE = "registry-1.docker.io"
# The key of Docker Hub in config.json; docker/cli, cli/config/configfile.
_HUB_KEY = "https://index.docker.io/v1/"


class Image(Protocol):
    """An image by digest; `models.sources.Source` of the kind oci is one."""

    @property
    def registry(self) -> str:
        """Host, with the port if it is not the scheme's own."""

    @property
    def repository(self) -> str: ...

    @property
    def digest(self) -> str:
        """`sha256:` and 64 hexadecimal digits: that of the manifest."""

    @property
    def layer(self) -> str:
        """A part of the command that made the layer; empty: any layer."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image by digest, with Docker's rules for the names of Docker Hub applied."""

    registry: str
    repository: str
    digest: str
    layer: str = ""

    @classmethod
    def of(cls, image: Image) -> Reference:
        registry, repository = image.registry.lower(), image.repository
        if registry in _HUB_NAMES:
            registry = DOCKER_HUB
            repository = repository if "/" in repository else f"library/{repository}"
        return cls(registry, repository, image.digest, image.layer)

    @property
    def name(self) -> str:
        """For messages and for `docker pull`."""
        return f"{self.short}@{self.digest}"

    @property
    def short(self) -> str:
        return f"{self.registry}/{self.repository}"

    @property
    def hub(self) -> bool:
        return self.registry == DOCKER_HUB

    @property
    def host(self) -> str:
        """The host and port that answers the registry's protocol."""
        return _HUB_WIRE if self.hub else self.registry

    @property
    def login(self) -> str:
        """The argument of `docker login`; empty for Docker Hub, its default."""
        return "" if self.hub else self.registry


def config_keys(host: str) -> tuple[str, ...]:
    """The keys under which `docker login` may have kept the credentials of a host."""
    if host in _HUB_NAMES:
        return (_HUB_KEY, "index.docker.io", DOCKER_HUB, _HUB_WIRE)
    return (host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/")


def loopback(host: str) -> bool:
    """Whether `HOST[:PORT]` is this machine, where Docker allows plain HTTP."""
    name = bare(host)
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def bare(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
