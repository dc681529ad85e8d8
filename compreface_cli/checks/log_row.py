"""A known message in the log of a service: what it says, and what all services have in common."""

from __future__ import annotations

from dataclasses import dataclass

from compreface_cli.errors import CfError, UnhealthyError
from compreface_cli.topics import Topic

OUT_OF_MEMORY = Topic(
    "service-out-of-memory",
    means="A service needed more memory than its container, or the machine, could give it, and "
    "the kernel killed it (SIGKILL, exit code 137).",
    why="It is started again, and killed again as soon as it has the same work.",
    see="`docker inspect CONTAINER` has `OOMKilled`, `dmesg | grep -i oom` the decision of "
    "the kernel.",
    ways=(
        "Give the engine more: CF_MEMORY_LIMIT, then `cf up` again.",
        "Lower what a Java service may take: `-Xmx` in API_JAVA_OPTS or ADMIN_JAVA_OPTS.",
        "Stop other programs on the machine, or use a larger one.",
    ),
)

KILLED = Topic(
    "service-killed",
    means="A service was killed (SIGKILL, exit code 137), and the kernel does not say that it was "
    "for want of memory.",
    why="Somebody ended it, `docker kill` for instance, or the machine had no memory left. A "
    "PostgreSQL that was killed recovers at its next start; nothing that it had confirmed is lost.",
    see="`dmesg | grep -i oom`, and `docker events --since 1h --filter event=kill`.",
    ways=(
        "Start it again: `cf restart INSTANCE`.",
        "If it is killed again, stop other programs on the machine, or use a larger one.",
    ),
)

DISK_FULL = Topic(
    "service-disk-full",
    means="A service could not write a file, since its disk is full.",
    why="PostgreSQL stops accepting changes or ends; nothing that was stored before is lost.",
    see="`df -h`, and `docker system df`.",
    ways=(
        "Free space: `docker builder prune`, `cf prune`, old logs; then `cf restart INSTANCE "
        "--all`.",
        "Never remove files of PostgreSQL by hand, nor its volume.",
    ),
)

CRASHED = Topic(
    "service-crashed",
    means="A service ended with a segmentation fault (SIGSEGV, exit code 139).",
    why="It is a fault in compiled code: a library, a driver, or defective memory.",
    see="`cf logs INSTANCE --service SERVICE` has its last lines, `dmesg` the address.",
    ways=(
        "Try the build with another runtime: CF_RUNTIME=onnxruntime, CF_PRECISION=fp32.",
        "Test the memory of the machine if it happens with several programs.",
    ),
)

WRONG_ARCHITECTURE = Topic(
    "image-architecture",
    means="The image of a service is for another processor architecture than this machine has.",
    why="Its program cannot be executed.",
    see="`docker image inspect --format '{{.Architecture}}' IMAGE`, and `uname -m`.",
    ways=(
        "Pull or build the image for this architecture.",
        "Install emulation (slow): `docker run --privileged --rm tonistiigi/binfmt --install all`.",
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A message of the `services`: text that matches `pattern` says that `says`, a clause.

    `fatal`: it ends the service or keeps it from becoming ready; else it is one of a running one.
    `error`: the kind of the error when a start fails with it.
    """

    topic: Topic
    services: tuple[str, ...]
    pattern: str
    says: str
    fatal: bool = True
    error: type[CfError] = UnhealthyError
