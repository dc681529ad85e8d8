"""Images: each one is here, can be built, or can be pulled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compreface_cli.checks.base import CONFIGURATION, FETCH, Finding, OwnedResources, fail, ok, warn
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR, LABEL_DETECTOR
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts, PullFact
from compreface_cli.plan.plan import Plan

NAME = "image"

# How the engine words it that a registry gave no answer.
_OUT_OF_REACH = (
    "dial tcp",
    "no such host",
    "server misbehaving",
    "i/o timeout",
    "deadline exceeded",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "tls handshake",
    "proxyconnect",
    "request canceled",
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or docker is None or not docker.reachable:
        return
    given = plan.image_given and not own.must_build  # it is taken as it is
    here = docker.image(plan.image)
    if here and given:
        yield misfit(plan, here.labels) or ok(NAME, f"{plan.image} is here")
    elif here:
        yield ok(NAME, f"{plan.image} is here")
    elif given and own.may_build:
        way = (
            "Correct its name, load it from a file (docker load -i FILE), or build it under that "
            f"name: cf up {plan.build} --build"
        )
        yield from _obtainable(docker, plan.image, plan.origins["image"], way)
    elif not own.may_build:
        yield fail(
            NAME,
            FETCH,
            f"the image {plan.image} is not here, and --no-build forbids to build it",
            "Leave --no-build out, then `cf up` builds it.",
        )
    else:
        yield from _obtainable(
            docker, plan.base_image, f"the base image of {plan.image}", _WAY_OF_BASE
        )
    for image in plan.stack_images.values():
        yield from _obtainable(docker, image, "an image of the full stack")


def misfit(plan: Plan, labels: Mapping[str, str]) -> Finding | None:
    """Why the image that somebody named cannot be the engine of this plan; by its labels."""
    name = f"the image {plan.image} ({plan.origins.get('image', 'default')})"
    build = labels.get(LABEL_BUILD)
    if build is None:
        return fail(
            NAME,
            CONFIGURATION,
            f"{name} is no engine that cf built: it lacks the label {LABEL_BUILD}",
            "Name one that `cf build` made, or leave the name out: then cf builds its own.",
        )
    pairs = {
        "the detector": (labels.get(LABEL_DETECTOR), plan.detector),
        "the calculator": (labels.get(LABEL_CALCULATOR), plan.calculator),
    }
    other = [
        f"{what} {has}, not {wanted}"
        for what, (has, wanted) in pairs.items()
        if has is not None and has != wanted
    ]
    if not other:
        return None
    return fail(
        NAME,
        CONFIGURATION,
        f"{name} is of the build {build}, and {plan.build} is to be started: it has "
        + " and ".join(other),
        f"Start the build that the image is of: cf up {build}. Where that build is not known, save "
        f"what `cf show {build}` prints on the machine that built it as builds/{build}.yaml.",
    )


def lacking(plan: Plan, docker: DockerFacts) -> str:
    """In one line which images are neither here nor sure to be pulled; "" when none is."""

    def absent(image: str) -> bool:
        pull = docker.pulls.get(image)
        return not docker.image(image) and (pull is None or not pull.pullable)

    missing = [name for name in plan.stack_images.values() if absent(name)]
    what = "the images of the full stack cannot be pulled"
    if not missing:
        if docker.image(plan.image) or not absent(plan.base_image):
            return ""
        missing, what = [plan.base_image], f"the base image {plan.base_image} cannot be pulled"
    pulls = [docker.pulls.get(name) for name in missing]
    far = all(pull is None or _out_of_reach(pull) for pull in pulls)
    return f"{what} ({'registry out of reach' if far else 'the registry refuses'})"


def _out_of_reach(pull: PullFact) -> bool:
    """Whether the registry itself did not answer, as far as the engine's words tell."""
    return pull.pullable is None or any(one in pull.reason.lower() for one in _OUT_OF_REACH)


_WAY = (
    "Load it from a file (docker load), build it under that name, or correct its name. "
    "The engine alone needs no other image: --services core, or --launcher process."
)


_WAY_OF_BASE = (
    "Load it from a file (docker load), or name another one with --base-image or "
    "CF_BASE_IMAGE. Without Docker the engine runs alone: --launcher process."
)


def _obtainable(docker: DockerFacts, image: str, role: str, way: str = _WAY) -> Iterator[Finding]:
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
            way,
        )
