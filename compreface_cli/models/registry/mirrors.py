"""The addresses that an image is asked for at, in order: mirrors first, then the registry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compreface_cli.models.registry.reference import Reference, bare, loopback

VARIABLE = "CF_REGISTRY_MIRROR"
_SYSTEM = Path("/etc/docker/daemon.json")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that may have the image. `url`: of the repository, without a final slash."""

    url: str  # SCHEME://HOST[:PORT]/v2/REPOSITORY
    host: str
    repository: str
    mirror: bool = False
    insecure: bool = False  # plain HTTP, or a certificate that is not checked, is allowed

    @property
    def plain(self) -> Endpoint:
        """The same over plain HTTP."""
        _, _, rest = self.url.partition("://")
        return Endpoint(f"http://{rest}", self.host, self.repository, self.mirror, self.insecure)


def endpoints(
    reference: Reference, environ: Mapping[str, str] = os.environ, system: Path = _SYSTEM
) -> list[Endpoint]:
    """The endpoints for an image.

    Mirrors hold for Docker Hub only, as Docker's own do: that of CF_REGISTRY_MIRROR, then
    `registry-mirrors` of Docker's settings. An address may have a path, which is put before the
    repository's name. Registries on this machine may use plain HTTP. Raises ValueError for an
    invalid CF_REGISTRY_MIRROR; Docker itself reports what is wrong in its settings.
    """
    settings = list(_daemon_settings(environ, system))
    insecure = [name for one in settings for name in _texts(one, "insecure-registries")]
    made: list[Endpoint] = []
    if reference.hub:
        own = environ.get(VARIABLE, "")
        if fault := mirror_fault(own):
            raise ValueError(fault)
        addresses = [own] if own else []
        for address in (text for one in settings for text in _texts(one, "registry-mirrors")):
            if not mirror_fault(address):
                addresses.append(address)
        for address in dict.fromkeys(address.rstrip("/") for address in addresses):
            made.append(_mirror(address, reference.repository, insecure))
    host = reference.host
    url = f"https://{host}/v2/{reference.repository}"
    made.append(Endpoint(url, host, reference.repository, insecure=_insecure(host, insecure)))
    return made


def mirror_fault(address: str) -> str:
    """Why this address cannot be a mirror; empty if it can, and for none."""
    if not address:
        return ""
    try:
        parts = urlsplit(address)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        return f"the address cannot be read: {error}"
    if not address.startswith(("https://", "http://")) or not host:
        return "an address must begin with https:// or http:// and name a host"
    if parts.username or parts.password:
        return "an address holds no user name and password; use docker login"
    if parts.query or parts.fragment:
        return "an address of a mirror has neither a query nor a fragment"
    return ""


def _mirror(address: str, repository: str, insecure: list[str]) -> Endpoint:
    parts = urlsplit(address)
    inside = "/".join(filter(None, (parts.path.strip("/"), repository)))
    url = f"{parts.scheme}://{parts.netloc}/v2/{inside}"
    return Endpoint(url, parts.netloc, inside, True, _insecure(parts.netloc, insecure))


def _insecure(host: str, names: list[str]) -> bool:
    """Whether Docker would do without TLS: this machine, a listed host or a listed network."""
    return loopback(host) or any(name in (host, bare(host)) or _in(host, name) for name in names)


def _in(host: str, network: str) -> bool:
    try:
        return ip_address(bare(host)) in ip_network(network, strict=False)
    except ValueError:
        return False


def _daemon_settings(environ: Mapping[str, str], system: Path) -> Iterator[dict[str, Any]]:
    """Docker's settings on this machine, and those of this user's rootless Docker."""
    home = Path(environ.get("HOME") or "~").expanduser()
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    for path in (system, user / "docker" / "daemon.json"):
        try:
            with path.open("rb") as stream:
                document = json.loads(stream.read(_MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield document


def _texts(document: Mapping[str, Any], key: str) -> list[str]:
    values = document.get(key)
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
