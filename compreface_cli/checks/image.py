"""Images: whether each is available locally, can be built, or can be pulled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compreface_cli.causes.docker import IMAGE_MISSING
from compreface_cli.checks.base import CONFIGURATION, FETCH, Finding, OwnedResources, fail, ok, warn
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR, LABEL_DETECTOR
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts, PullFact
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "image"

NOT_OURS = Topic(
    "image-not-cf",
    means="The image that the settings name was not built by `cf`.",
    why="Nothing says which detector and calculator it has, so that its embeddings could be "
    "mixed with others.",
    see="`docker image inspect NAME` shows its labels.",
    ways=(
        "Name an image that `cf build` made.",
        "Leave the name out: `cf up` builds one.",
    ),
)

OTHER = Topic(
    "image-other-build",
    means="The image that the settings name was built from another build than the one to start.",
    why="It computes other embeddings than the build promises.",
    see="`docker image inspect NAME` shows its labels.",
    ways=(
        "Start the build that it was made from, or the image alone: `cf up --image NAME`.",
        "Leave the name out: `cf up` builds one.",
    ),
)

UNCERTAIN = Topic(
    "image-uncertain",
    means="An image is not on this machine, and its registry did not say whether it can be pulled.",
    why="The start may fail at the pull. It is then rolled back.",
    see="`docker pull NAME`.",
    ways=("Pull it by hand first, or look at the network of the Docker engine.",),
)

# Parts of Docker's error messages for a registry that could not be reached.
_UNREACHABLE = (
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
    given = plan.image_given and not own.must_build  # used without a build
    local = docker.image(plan.image)
    if local and given:
        yield misfit(plan, local.labels) or ok(NAME, f"{plan.image} is available locally")
    elif local:
        yield ok(NAME, f"{plan.image} is available locally")
    elif given and own.may_build:
        hint = (
            "Correct its name, load it from a file (docker load -i FILE), or build it under that "
            f"name: cf up {plan.build} --build"
        )
        yield from _obtainable(docker, plan.image, plan.origins["image"], hint)
    elif not own.may_build:
        yield fail(
            NAME,
            FETCH,
            f"the image {plan.image} is not available locally, and --no-build forbids building it",
            "Leave out --no-build, and `cf up` builds it.",
            topic=IMAGE_MISSING,
        )
    else:
        yield from _obtainable(
            docker, plan.base_image, f"the base image of {plan.image}", _BASE_HINT
        )
    for image in plan.stack_images.values():
        yield from _obtainable(docker, image, "an image of the full stack")


def misfit(plan: Plan, labels: Mapping[str, str]) -> Finding | None:
    """Why the image that the user named is not an engine for this plan, by its labels."""
    name = f"the image {plan.image} ({plan.origins.get('image', 'default')})"
    build = labels.get(LABEL_BUILD)
    if build is None:
        return fail(
            NAME,
            CONFIGURATION,
            f"{name} is not an engine built by cf: it lacks the label {LABEL_BUILD}",
            "Name an image that `cf build` made, or leave out the name, and cf builds one.",
            topic=NOT_OURS,
        )
    pairs = {
        "detector": (labels.get(LABEL_DETECTOR), plan.detector),
        "calculator": (labels.get(LABEL_CALCULATOR), plan.calculator),
    }
    other = [
        f"its {what} is {has}, not {wanted}"
        for what, (has, wanted) in pairs.items()
        if has is not None and has != wanted
    ]
    if not other:
        return None
    return fail(
        NAME,
        CONFIGURATION,
        f"{name} was built from {build}, and the build to start is {plan.build}: "
        + " and ".join(other),
        f"Start the build that it was made from: cf up {build} --image {plan.image}. An image "
        f"whose labels describe its build needs no name, nor CF_BUILD: cf up --image {plan.image}",
        topic=OTHER,
    )


def unavailable(plan: Plan, docker: DockerFacts) -> str:
    """In one line which images are not local and perhaps cannot be pulled; "" when none is."""

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
    unreachable = all(pull is None or _unreachable(pull) for pull in pulls)
    return f"{what} ({'registry unreachable' if unreachable else 'the registry refuses'})"


def _unreachable(pull: PullFact) -> bool:
    """Whether the registry itself did not answer, by Docker's error message."""
    return pull.pullable is None or any(part in pull.reason.lower() for part in _UNREACHABLE)


_STACK_HINT = (
    "Load it from a file (docker load), build it under that name, or correct its name. "
    "The engine alone needs no other image: --services core, or --launcher process."
)
_BASE_HINT = (
    "Load it from a file (docker load), or name another one with --base-image or "
    "CF_BASE_IMAGE. Without Docker, the engine can run alone: --launcher process."
)


def _obtainable(
    docker: DockerFacts, image: str, role: str, hint: str = _STACK_HINT
) -> Iterator[Finding]:
    if docker.image(image):
        yield ok(NAME, f"{image} is available locally")
        return
    pull = docker.pulls.get(image)
    if pull is None or pull.pullable is None:
        why = pull.reason if pull else "its registry was not queried"
        yield warn(
            NAME,
            f"{image} ({role}) is not available locally, and whether it can be pulled is not "
            f"known: {why}",
            topic=UNCERTAIN,
        )
    elif pull.pullable:
        yield ok(NAME, f"{image} can be pulled")
    else:
        yield fail(
            NAME,
            FETCH,
            f"{image} ({role}) is not available locally and cannot be pulled: {pull.reason}",
            hint,
            topic=IMAGE_MISSING,
        )
