"""The likely cause of a failure: what programs write and how they end, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from compreface_cli.errors import (
    CfError,
    ConflictError,
    DockerError,
    FetchError,
    HardwareError,
    UnhealthyError,
)

Writer: TypeAlias = Literal["docker", "service", "pip"]


@dataclass(frozen=True, slots=True)
class Cause:
    """What it means when text of `writer` matches `pattern`; `hint`: what to do.

    docker: the docker program, with what BuildKit, pip and apt say in a build; service: the log of
    an engine or another service; pip: the engine's environment.
    """

    writer: Writer
    pattern: str
    error: type[CfError]
    what: str
    hint: str = ""


# Of one writer the first that matches counts.
_CAUSES: tuple[Cause, ...] = (
    Cause(
        "docker",
        r"the Docker context \S+ does not exist|context \S+: context not found",
        DockerError,
        "the Docker context does not exist",
        "`docker context ls` lists them; choose one: docker context use NAME (and see "
        "DOCKER_CONTEXT).",
    ),
    Cause(
        "docker",
        r"Cannot connect to the Docker daemon|error during connect|daemon is not running",
        DockerError,
        "the Docker engine does not answer",
        "Start it (systemctl start docker); DOCKER_HOST and `docker context ls` show which engine "
        "is used. Without it: cf up --launcher process.",
    ),
    Cause(
        "docker",
        r"permission denied while trying to connect|dial unix .*: connect: permission denied",
        DockerError,
        "this user may not use Docker",
        "Add the user to the group `docker` and log in again, or use --launcher process.",
    ),
    Cause(
        "docker",
        r"no space left on device|disk quota exceeded|\[Errno 28\]",
        DockerError,
        "the disk of the Docker engine is full",
        "`docker system df` shows what takes the space; `docker builder prune` frees caches.",
    ),
    Cause(
        "docker",
        r"port is already allocated|address already in use|ports are not available",
        ConflictError,
        "a port is taken",
        "Choose another one: --port N or --port auto (and --core-port).",
    ),
    Cause(
        "docker",
        r'container name "[^"]*" is already in use',
        ConflictError,
        "a container of that name exists",
        "`docker ps -a` shows it. Rename or remove it, or choose --instance NAME.",
    ),
    Cause(
        "docker",
        r"could not select device driver|unknown or invalid runtime name|nvidia-container-cli|"
        r"gathering device information|CDI device injection failed",
        HardwareError,
        "Docker cannot give a GPU to a container",
        "`cf doctor` says what is missing; a build with device: cpu needs no GPU.",
    ),
    Cause(
        "docker",
        r"Range of CPUs is from",
        HardwareError,
        "more CPUs are asked for than there are",
        "Lower `cpus` in compose.override.yaml.",
    ),
    Cause(
        "docker",
        r"DO NOT MATCH THE HASHES|Hash Sum mismatch",
        FetchError,
        "a downloaded package is not the expected one (its hash differs)",
        "A proxy or a mirror may change files; try again, or use another package index.",
    ),
    Cause(
        "docker",
        r"failed to resolve source metadata|pull access denied|manifest unknown|manifest for \S+ "
        r"not found|No such image|failed to do request|registry.*no such host|"
        r"Get \"https?://[^\"]*/v2/",
        FetchError,
        "an image can neither be found here nor be pulled",
        "Check the network and the name, or load it by hand: docker load -i FILE.",
    ),
    Cause(
        "docker",
        r"temporary failure (in name resolution|resolving)|name or service not known|"
        r"Could not resolve|No matching distribution found|Failed to establish a new connection|"
        r"Connection (refused|reset|timed out)|Network is unreachable|Read timed out|"
        r"Max retries exceeded|Unable to connect to|Unable to fetch|Failed to fetch",
        FetchError,
        "the network failed: a package could not be downloaded",
        "Check the network of the Docker engine and its DNS, then run the command again.",
    ),
    Cause(
        "docker",
        r"Client\.Timeout|no answer within|context deadline exceeded|"
        r"Unavailable desc = error reading from server",
        DockerError,
        "the Docker engine stopped answering",
        "See the engine's own log (journalctl -u docker), then run the command again.",
    ),
    Cause(
        "docker",
        r"is unhealthy|application not healthy|exited \(\d+\)|didn't complete successfully",
        UnhealthyError,
        "a service did not become healthy",
        "Its log lines say why.",
    ),
    Cause(
        "service",
        r"address already in use|port .* is (taken|in use)",
        ConflictError,
        "another program took the port",
    ),
    Cause(
        "service",
        r"illegal instruction|SIGILL|exit code 132",
        UnhealthyError,
        "this CPU lacks an instruction",
    ),
    Cause("service", r"no space left", UnhealthyError, "the disk is full"),
    Cause(
        "service",
        r"out of memory|MemoryError|SIGKILL|exit code 137",
        UnhealthyError,
        "memory ran out",
    ),
    Cause(
        "service",
        r"CUDA|libcudart|cudnn",
        UnhealthyError,
        "the GPU cannot be used; `cf doctor` says more",
    ),
    Cause("service", r"No such file|FileNotFoundError", UnhealthyError, "a file is missing"),
    Cause("service", r"^compreface-engine: ", UnhealthyError, "the engine refused its settings"),
    Cause(
        "pip",
        r"No space left",
        CfError,
        "the disk is full: the engine's environment needs about 500 MB",
    ),
    Cause(
        "pip",
        r"DO NOT MATCH THE HASHES",
        FetchError,
        "a package has another hash than the one this cf pins; nothing was kept",
        "A proxy or a mirror may change files; try again, or use another package index.",
    ),
)
_EXIT_CODES = {
    126: "its program may not be executed",
    127: "its program does not exist in the image",
    132: "an illegal instruction: this processor lacks one that the program needs",
    137: "killed, mostly for want of memory",
    139: "a segmentation fault",
    143: "stopped by SIGTERM",
}


def of(writer: Writer, text: str) -> Cause | None:
    """The likely cause of what that program wrote; None when it is not known."""
    for cause in _CAUSES:
        if cause.writer == writer and re.search(cause.pattern, text, re.IGNORECASE | re.MULTILINE):
            return cause
    return None


def exit_code(code: int) -> str:
    """How a container ended, in words: `exit code 139: a segmentation fault`."""
    meaning = _EXIT_CODES.get(code)
    return f"exit code {code}" + (f": {meaning}" if meaning else "")
