"""Disk space: where Docker keeps images and volumes, and where `cf` keeps its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from compreface_cli.causes.docker import DISK_FULL
from compreface_cli.checks.base import (
    CONFIGURATION,
    HARDWARE,
    Finding,
    OwnedResources,
    as_warning,
    fail,
    ok,
    size,
    warn,
)
from compreface_cli.checks.machine import Machine
from compreface_cli.config import paths
from compreface_cli.config.paths import WAY_OUT
from compreface_cli.facts import Facts
from compreface_cli.facts.host import DiskFact
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "disk"

UNWRITABLE = Topic(
    "folder-unwritable",
    means="A folder in which `cf` keeps its data cannot be written by this user.",
    why="Records, projects and models could not be stored.",
    see="`ls -ld FOLDER`, and `mount | grep FOLDER` for a read-only disk.",
    ways=(
        "Set HOME, or XDG_DATA_HOME, XDG_STATE_HOME and XDG_CACHE_HOME, to folders that this "
        "user can write.",
        "Give the folder to the user: `sudo chown -R $USER FOLDER`.",
    ),
)

FULL = Topic(
    "disk-full",
    means="Almost no space is left where `cf` keeps its data.",
    why="Files could not be written, and what runs soon fails too.",
    see="`df -h`, and `du -xh FOLDER | sort -h | tail`.",
    ways=(
        "`cf prune` removes unused images, environments and models.",
        "Set XDG_DATA_HOME (or the variable that the message names) to a folder on a larger disk.",
    ),
)

LOW = Topic(
    "disk-low",
    means="Little space is left where `cf` keeps its data.",
    why="An environment of the engine with its models takes up to 1 GB.",
    see="`df -h`.",
    ways=("`cf prune` removes unused images, environments and models.",),
)

DOCKER_UNKNOWN = Topic(
    "docker-disk-unknown",
    means="The free space at the folder where Docker keeps images and volumes is not known.",
    why="If it is full, builds and the database fail.",
    see="On the host of the Docker engine: `df -h /var/lib/docker`.",
    ways=("Nothing needs to be done if there is enough.",),
)

# What a build takes: the base image, the layers and the build cache.
# The wheels of CUDA and cuDNN take 3 GB.
CPU_BUILD = 1_500_000_000
CUDA_BUILD = 10_000_000_000
STACK_IMAGE = 600_000_000  # one of upstream's images, unpacked
REST = 200_000_000  # a fresh database and logs
DATA_FOLDER = 1_000_000_000  # the engine's environment and the models
LITTLE = 200_000_000  # below this even an instance that has all its files soon fills the disk


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    yield from judge_folders(facts.host.disks.values())
    docker = facts.docker
    if plan.launcher == "process" or docker is None or not docker.reachable:
        return
    needed = REST
    if not docker.image(plan.image):
        needed += CUDA_BUILD if plan.device == "cuda" else CPU_BUILD
    needed += STACK_IMAGE * sum(1 for name in plan.stack_images.values() if not docker.image(name))
    yield judge_root(docker.root_dir, docker.root_free, docker.local, needed)


def judge_folders(disks: Iterable[DiskFact]) -> Iterator[Finding]:
    """Each folder that cannot be written, and the free space of each disk, once."""
    facts = list(disks)
    for fact in facts:
        if fact.refused:
            message = f"{fact.path} cannot be written: {fact.refused}"
            yield fail(
                NAME,
                CONFIGURATION,
                message,
                WAY_OUT,
                topic=UNWRITABLE,
            )
    one_each = {fact.device: fact for fact in reversed(facts) if not fact.refused}
    for fact in one_each.values():
        yield judge_folder(fact.path, fact.free)


def judge_folder(path: str, free: int) -> Finding:
    way = paths.room(Path(path))
    if free < LITTLE:
        return fail(
            NAME,
            HARDWARE,
            f"only {size(free)} are free at {path}",
            way,
            topic=FULL,
        )
    if free < DATA_FOLDER and paths.moved_by(Path(path)) != "TMPDIR":
        return warn(
            NAME,
            f"only {size(free)} are free at {path}; an engine's environment with its models takes "
            f"up to {size(DATA_FOLDER)}",
            way,
            topic=LOW,
        )
    return ok(NAME, f"{size(free)} free at {path}")


def judge_root(root: str | None, free: int | None, local: bool, needed: int) -> Finding:
    where = f"Docker's root {root}" if root else "Docker's root"
    if free is None:
        why = "this user may not read it" if local else "the engine is on another host"
        return warn(
            NAME,
            f"the free space at {where} is not known ({why}); {size(needed)} are needed",
            "On that host: df -h " + (root or "/var/lib/docker"),
            topic=DOCKER_UNKNOWN,
        )
    if free < needed:
        return fail(
            NAME,
            HARDWARE,
            f"only {size(free)} are free at {where}; {size(needed)} are needed",
            "See what uses the space: docker system df. "
            "Empty the build cache: docker builder prune",
            topic=DISK_FULL,
        )
    return ok(NAME, f"{size(free)} free at {where}")


def doctor(machine: Machine) -> Iterator[Finding]:
    facts = machine.facts
    yield from judge_folders(facts.host.disks.values())
    if facts.docker is not None and facts.docker.reachable:
        docker = facts.docker
        root = judge_root(docker.root_dir, docker.root_free, docker.local, REST + CPU_BUILD)
        yield as_warning(root)  # an image that is built already needs no more space
