"""Runs the engine of a plan on a free loopback port, beside whatever runs, until a block ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from compreface_cli import checks, facts, leftovers
from compreface_cli.checks import model_files
from compreface_cli.cleanup import CleanUp
from compreface_cli.deploy import fetching, observe, preflight, running, steps
from compreface_cli.deploy.build import build_image
from compreface_cli.engine import known_answer
from compreface_cli.errors import UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers.launcher import LaunchInputs
from compreface_cli.plan.operations import Options, builds
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output

_FOLDER = "cf-beside-"  # prefix of the folders that its project and image are written to
# Limits for callers from outside; `cf` itself asks as fast as the engine answers.
_FOR_CALLERS = ("CF_RATE_LIMIT", "CF_RATE_BURST")


@contextmanager
def engine_beside(plan: Plan, out: Output, options: Options | None = None) -> Iterator[Endpoint]:
    """The engine of `plan` in a container of its own, once it has given its known answer.

    Makes what is missing (models, image), which stays for later runs unless the engine fails.
    Nothing of an instance is touched; the container goes at the block's end, and after a `kill -9`
    at the next start, stop or trial of an instance of this name, so hold that instance's lock.
    Raises PreflightError before anything is made, UnhealthyError when the engine does not answer or
    answers wrongly, and as `fetching.fetched` and `docker.image.build` do.
    """
    wanted = options or Options()
    alone = _alone(plan)
    _check(alone, wanted, out)
    alone, _ = fetching.fetched(alone, out, wanted.accept_hash)
    with CleanUp(out.note) as undo:
        run = steps.Preparation(alone, wanted, out, undo, undo)
        if alone.models and not alone.image_alone:
            steps.prepare_models(run, [model.name for model in alone.models])
        answer = steps.answer(run)
        image = _image(run, answer)
        with leftovers.folder(_FOLDER) as folder:
            deployment = _deployment(alone, folder, image, undo, out)
            limit_s = wanted.timeout_s or running.TIMEOUT_S["compose"]
            with _started(deployment, answer, limit_s, out) as endpoint:
                undo.commit()  # what was made is proven
                yield endpoint


def _alone(plan: Plan) -> Plan:
    """The plan of its engine alone, without keys, on a port that Docker chooses."""
    limits = {key: value for key, value in plan.engine_limits.items() if key not in _FOR_CALLERS}
    return replace(
        plan,
        services="core",
        launcher="compose",
        bind="127.0.0.1",
        port=3000,
        core_port=3000,
        secrets={},
        engine_limits=limits,
    )


def _check(plan: Plan, options: Options, out: Output) -> None:
    """Raise one report of all that prevents this engine from running here."""
    checks.raise_for(model_files.out_of_reach(plan))
    with out.waiting("Checking this machine"):
        seen = facts.gather(replace(checks.questions(plan), ports=()))
        own = checks.OwnedResources(
            may_build=options.build is not False, must_build=options.build is True
        )
        findings = checks.beside(plan, seen, own)
    preflight.say([finding for finding in findings if finding.level == "warn"], out)
    checks.raise_for(findings)


def _image(run: steps.Preparation, answer: known_answer.KnownAnswer) -> str:
    """Id of the engine's image, which is built or pulled where it is missing or outdated."""
    from compreface_cli.docker import image
    from compreface_cli.project import writer
    from compreface_cli.project.targets import compose as target

    plan = run.plan
    if not builds(plan, run.options):
        steps.pull_images(run, [plan.image])
        return image.id_of(plan.image)
    models = observe.model_folders(plan)
    with leftovers.folder(_FOLDER) as folder:
        writer.write(target.render(plan, models), folder)
        force = run.options.build is True
        made = build_image(plan, folder, answer, out=run.out, undo=run.images, force=force)
    return made.id


def _deployment(plan: Plan, folder: Path, image: str, undo: CleanUp, out: Output) -> Deployment:
    from compreface_cli.project import writer
    from compreface_cli.project.targets import compose as target

    writer.write(target.render(plan, with_models=False), folder)
    endpoint = Endpoint(plan.bind, int(plan.port))
    inputs = LaunchInputs(endpoint, folder=folder, image=image)
    return running.launcher("compose").prepare(plan, inputs, undo, out.note)


@contextmanager
def _started(
    deployment: Deployment, answer: known_answer.KnownAnswer, limit_s: float, out: Output
) -> Iterator[Endpoint]:
    deadline = time.monotonic() + limit_s
    with running.launcher("compose").trial(deployment, out.note) as (endpoint, look):
        with out.waiting("Waiting for the engine beside"):
            try:
                known_answer.wait(endpoint, look, deadline)
                known_answer.check(endpoint, answer, deadline)
            except UnhealthyError as error:
                raise running.explain(error, deployment, trial=True) from error
        yield endpoint
