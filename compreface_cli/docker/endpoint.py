"""The address of the Docker engine, resolved as the `docker` program does it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine's address; `tls`: whether it uses TLS; `error`: why no address is known."""

    host: str
    tls: bool = False
    error: str = ""

    @property
    def local(self) -> bool:
        """Whether the engine runs on this host, so that its paths and ports are this host's.

        True also for an address that is not known, since nothing says that it is elsewhere.
        """
        return bool(self.error) or self.host.startswith(("unix://", "npipe://"))


def current(environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The engine that DOCKER_HOST, DOCKER_CONTEXT or the current context names, in this order.

    As in docker 28 (cli/command/cli.go, resolveContextName): a context that does not exist is an
    error, and DOCKER_TLS_VERIFY applies only without a context.
    """
    if host := environ.get("DOCKER_HOST"):
        host = host if "://" in host else f"tcp://{host}"
        return Endpoint(host, tls=bool(environ.get("DOCKER_TLS_VERIFY")))
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "~")) / ".docker")
    folder = folder.expanduser()
    name = environ.get("DOCKER_CONTEXT") or _json(folder / "config.json").get("currentContext")
    if not name or name == "default":
        return Endpoint(DEFAULT_HOST)
    import hashlib  # late: `cf list-builds` starts quickly

    digest = hashlib.sha256(str(name).encode()).hexdigest()
    meta = _json(folder / "contexts" / "meta" / digest / "meta.json")
    engine = meta.get("Endpoints", {}).get("docker")
    if engine is None:
        return Endpoint(f"context {name}", error=f"the Docker context {name} does not exist")
    has_keys = (folder / "contexts" / "tls" / digest / "docker").is_dir()
    tls = has_keys or bool(engine.get("SkipTLSVerify"))
    return Endpoint(engine.get("Host") or DEFAULT_HOST, tls)


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
