"""Images: each one is here, can be built, or can be pulled."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import FETCH, Finding, Own, fail, ok, warn
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.plan import Plan

NAME = "image"


def check(plan: Plan, facts: Facts, own: Own) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or docker is None or not docker.reachable:
        return
    if docker.image(plan.image):
        yield ok(NAME, f"{plan.image} is here")
    elif not own.may_build:
        yield fail(
            NAME,
            FETCH,
            f"the image {plan.image} is not here, and --no-build forbids to build it",
            f"Build it first: cf build {plan.build}",
        )
    else:
        yield from _obtainable(docker, plan.base_image, f"the base image of {plan.image}")
    for image in plan.stack_images.values():
        yield from _obtainable(docker, image, "an image of the full stack")


def _obtainable(docker: DockerFacts, image: str, role: str) -> Iterator[Finding]:
    if docker.image(image):
        yield ok(NAME, f"{image} is here")
        return
    pull = docker.pulls.get(image)
    if pull is None or pull.pullable is None:
        why = pull.reason if pull else "its registry was not asked"
        yield warn(
            NAME, f"{image} ({role}) is not here, and whether it can be pulled is not known: {why}"
        )
    elif pull.pullable:
        yield ok(NAME, f"{image} can be pulled")
    else:
        yield fail(
            NAME,
            FETCH,
            f"{image} ({role}) is not here and cannot be pulled: {pull.reason}",
            "Load it from a file (docker load), build it under that name, or correct its name. "
            "The engine alone needs no other image: --services core, or --launcher process.",
        )
