"""Carries out the operations of `cf up`: a function for each verb, which registers its undo first.

`PREPARING` creates all that a start needs, `LAUNCHING` starts and checks it. A function gets the
targets of all consecutive operations with its verb.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from compreface_cli import resources
from compreface_cli.checks import raise_for
from compreface_cli.checks.image import misfit
from compreface_cli.cleanup import CleanUp
from compreface_cli.config import paths
from compreface_cli.deploy import changes, image_alone, observe, running, takeover
from compreface_cli.deploy.previous import Previous
from compreface_cli.deploy.run_record import RunRecord
from compreface_cli.engine import check as engine_check
from compreface_cli.engine import known_answer, venv
from compreface_cli.errors import FetchError, UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers.launcher import Launcher, LaunchInputs
from compreface_cli.plan.operations import Operation, Options, Verb
from compreface_cli.plan.plan import Plan
from compreface_cli.project.targets.compose import ENV_FILE, TLS_CERT
from compreface_cli.project.writer import read_env
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.docker.image import Image
    from compreface_cli.launchers.swap import Successor


@dataclass(frozen=True, slots=True)
class Preparation:
    """The state that the steps before a start share."""

    plan: Plan
    options: Options
    out: Output
    undo: CleanUp
    images: CleanUp  # undone once no container of this run is left

    def environment(self, row: str) -> Path:
        """The interpreter of the environment for that row of the wheel table."""
        env = venv.ensure(
            paths.engine_environments_dir(),
            venv.inputs(row),
            report=self.out.note,
            progress=Heartbeat(self.out).progress,
            wheels=self.options.wheels,
        )
        return env.python

    def converter(self) -> Path:
        """The interpreter that prepares models."""
        return self.environment(observe.converter_row(self.plan))


def make_environments(run: Preparation, rows: Sequence[str]) -> None:
    """Make the environments; a failed one leaves nothing, a proven one stays for the next run."""
    for row in rows:
        run.environment(row)


def prepare_models(run: Preparation, names: Sequence[str]) -> None:
    """Find or download the models and convert them for the engine; they stay for the next run."""
    from compreface_cli.docker import image_files
    from compreface_cli.models import store

    store.ensure(
        [model for model in run.plan.models if model.name in names],
        Heartbeat(run.out).progress,
        python=run.converter,
        portrait=resources.portrait(),
        note=run.out.note,
        accept_hash={name: sha for name, sha in run.options.accept_hash.items() if name in names},
        timeout_s=run.options.timeout_s,
        local=image_files.opened,
    )


def answer(run: Preparation) -> known_answer.KnownAnswer:
    """The expected answer of the engine; FetchError for a model that its plugin cannot run."""
    plan = run.plan
    if plan.image_alone:
        return image_alone.answer_of(plan)
    if plan.models:
        engine_check.models(plan, run.converter)
    return known_answer.expected(
        plan, observe.model_folders(plan), lambda: engine_check.answer(plan, run.converter)
    )


def write_project(run: Preparation, _: Sequence[str]) -> None:
    """Write the project folder; the undo restores the old one."""
    from compreface_cli.deploy import project_folder

    project_folder.write(run.plan, observe.model_folders(run.plan), run.undo)


def pull_images(run: Preparation, names: Sequence[str]) -> None:
    """Pull the images side by side; they stay when the run fails, since others may use them.

    Raises PreflightError for an engine's image of another build, before any other is pulled.
    """
    from compreface_cli.deploy.build import shown
    from compreface_cli.docker import image, pulls

    waiting, pull = shown(run.out), run.options.pull
    if run.plan.image in names:
        engine = image.obtain(run.plan.image, report=run.out.note, waiting=waiting, pull=pull)
        raise_for([finding for finding in [misfit(run.plan, engine.labels)] if finding])
    others = [name for name in names if name != run.plan.image]
    if others:
        pulls.obtain_all(others, report=run.out.note, waiting=waiting, pull=pull)


def build_image(run: Preparation, _: Sequence[str]) -> None:
    """Build the image unless its files are unchanged; the undo removes it and restores its name."""
    from compreface_cli.deploy.build import build_image as build

    folder, force = paths.project_dir(run.plan.instance), run.options.build is True
    build(run.plan, folder, answer(run), out=run.out, undo=run.images, force=force)


def push_image(run: Preparation, names: Sequence[str]) -> None:
    """Push the engine's image for the nodes of a Swarm; it stays in the registry."""
    from compreface_cli.deploy.build import pushed_to
    from compreface_cli.docker import image as images

    for name in names:
        pushed_to(run.plan, images.id_of(name), run.out)


def launch_inputs(plan: Plan) -> LaunchInputs:
    """The results of the steps before a start; raises a CfError for a missing or wrong image."""
    port, core_port = int(plan.port), int(plan.core_port)
    full = plan.services == "full"
    engine = Endpoint("127.0.0.1", core_port, plan.key)
    if not full:
        engine = Endpoint(plan.bind, port, plan.key)
    certificate = str(paths.project_dir(plan.instance) / TLS_CERT) if plan.tls_cert else ""
    ui = Endpoint(plan.bind, port, certificate=certificate) if full else None
    if plan.launcher == "process":
        env = venv.find(paths.engine_environments_dir(), venv.inputs(plan.wheels))
        models = paths.models_dir() if plan.models else None
        return LaunchInputs(engine, ui, models_dir=models, python=env.python if env else None)
    from compreface_cli.docker import image as images

    image = images.find(plan.image)
    if image is None:
        raise FetchError(
            f"the image {plan.image} is not available locally, and --no-build forbids building it",
            hint="Leave out --no-build, and `cf up` builds it.",
        )
    folder = paths.project_dir(plan.instance)
    if plan.launcher == "swarm":
        return _of_swarm(plan, folder, image, ui)
    return LaunchInputs(engine, ui, folder=folder, image=image.id)


def _of_swarm(plan: Plan, folder: Path, image: Image, ui: Endpoint | None) -> LaunchInputs:
    """The inputs of a stack: its engine's image has a name of its own, so that Swarm sees it."""
    from compreface_cli.docker import image as images
    from compreface_cli.instance import pushes
    from compreface_cli.project.targets import swarm as target

    name = f"{plan.image}-{image.id.removeprefix('sha256:')[:12]}"
    if plan.push_to:
        name = pushes.reference(image.id, plan.push_to) or target.core_image(plan)
    elif plan.image_given:
        name = plan.image
    else:
        images.add_tag(image, name)
    key = read_env(folder / ENV_FILE)[target.ENGINE_KEY]
    engine = Endpoint(plan.bind, int(plan.core_port), key)
    return LaunchInputs(engine, ui, folder=folder, image=image.id, core_image=name)


@dataclass(slots=True)
class Launch:
    """The state that the steps from the start on share, and their results."""

    new: Deployment
    answer: known_answer.KnownAnswer
    previous: Previous
    record: RunRecord
    limit_s: float  # from a start to the answer
    out: Output
    undo: CleanUp
    beside: ExitStack  # holds the new engine that runs beside the old one
    new_images: bool = False  # some were built or pulled, perhaps the same as before
    successor: Successor | None = None  # that engine
    same_engine: bool = False  # what was built or pulled is what runs already
    new_volume: bool = False
    began: float | None = None  # time.monotonic() of the start
    start_s: dict[str, float] = field(default_factory=dict)  # seconds that each service took
    proof: known_answer.Proof | None = None

    @property
    def launcher(self) -> Launcher:
        return running.launcher(self.new.launcher)


def create_volume(run: Launch, names: Sequence[str]) -> None:
    """Create the volumes; the launcher's undo removes all volumes that a failed run created."""
    from compreface_cli.launchers import compose_project, stack_project

    project, folder = run.new.data["project"], Path(run.new.data["folder"])
    for name in names:
        if run.new.launcher == "swarm":
            stack_project.create_volume(project, folder, name)
            continue
        compose_project.create_volume(project, compose_project.command(project, folder), name)
    run.new_volume = True


def start(run: Launch, _: Sequence[str]) -> None:
    """Start all services; the undo stops them."""
    run.undo.push("the new instance", lambda: run.launcher.stop(run.new))
    run.began = time.monotonic()
    before = run.previous.of(run.new.launcher)
    _stop_other_launcher(run)
    with run.out.waiting("Starting the services"):
        run.launcher.start(run.new, run.out.note, replacing=before, new_volume=run.new_volume)


def replace(run: Launch, targets: Sequence[str]) -> None:
    """Start the services in place of the previous instance, which the undo starts again."""
    run.previous.gives_way()
    known = run.previous.deployment
    if known is not None and known.launcher == run.new.launcher == "compose":
        run.record.touches(changes.of(run.new, beside=False))
    elif known is not None and known.launcher != "process":
        run.record.touches(each.name for each in running.launcher(known.launcher).services(known))
    start(run, targets)


def _stop_other_launcher(run: Launch) -> None:
    known = run.previous.deployment
    if known is not None and known.launcher != run.new.launcher:
        with run.out.waiting("Stopping the running instance"):
            running.launcher(known.launcher).stop(known)


def start_beside(run: Launch, _: Sequence[str]) -> None:
    """Start the new engine; it is removed again if the run fails before it takes over.

    Nothing where what was built or pulled turns out to be what runs.
    """
    from compreface_cli.launchers.compose import ComposeLauncher

    if run.new_images and "core" not in changes.of(run.new):  # nor are the others replaced
        run.out.note("The engine is the same as the running one, which stays")
        run.same_engine = True
        return
    run.out.note("The new engine starts beside the running one")
    with run.out.waiting("Starting the new engine"):
        launcher = ComposeLauncher()
        right, others = launcher.engines(run.new)
        # Several are replaced one after the other.
        supersedes = [*others, *right][:1] if run.new.replicas > 1 else None
        run.successor = run.beside.enter_context(launcher.beside(run.new, supersedes))


def try_engine(run: Launch, _: Sequence[str]) -> None:
    """Check the new engine with the reference face, next to the old one or on a free port."""
    if run.successor is not None:
        takeover.prove(run.successor, run.new, run.answer, run.out, limit_s=run.limit_s)
    elif not run.same_engine:
        _try_alone(run)


def take_over(run: Launch, _: Sequence[str]) -> None:
    """Give the new engine the old one's name; the undo replaces it by an old engine again."""
    if run.successor is not None:
        takeover.take_over(
            run.successor,
            run.new,
            run.out,
            taking_over=run.previous.gives_way,
            ending=run.record.touches,
        )
        run.beside.close()  # it is the instance's engine by now


def replace_engines(run: Launch, engines: Sequence[str]) -> None:
    """Replace so many further engines of the old ones, one after the other."""
    if not run.same_engine:
        _add(run, len(engines), replacing=True)


def add_engines(run: Launch, engines: Sequence[str]) -> None:
    """Add so many engines to those that run; the undo ends them."""
    _add(run, len(engines), replacing=False)


def _add(run: Launch, count: int, *, replacing: bool) -> None:
    from compreface_cli.launchers.compose import ComposeLauncher

    for _ in range(count):
        right, others = ComposeLauncher().engines(run.new)
        run.out.note(f"Engine {len(right) + 1} of {run.new.replicas} starts")
        takeover.add(
            run.new,
            run.answer,
            run.out,
            limit_s=run.limit_s,
            supersedes=others[:1] if replacing else (),
            taking_over=run.previous.gives_way,
            ending=run.record.touches,
        )


def end_engines(run: Launch, engines: Sequence[str]) -> None:
    """End so many engines, what is not of the new instance first; the undo starts others."""
    from compreface_cli.launchers.compose import ComposeLauncher

    right, others = ComposeLauncher().engines(run.new)
    ending = [*others, *reversed(right)][: len(engines)]
    run.previous.gives_way()
    run.record.touches(ending)
    takeover.end(ending, run.out)


def _try_alone(run: Launch) -> None:
    """Run the new engine on a free port, check it with the reference face, and end it."""
    run.out.note("The new engine is tried beside the running one")
    deadline = time.monotonic() + run.limit_s
    waiting = run.out.waiting("Waiting for the new engine's answer")
    with waiting, run.launcher.trial(run.new, run.out.note) as (endpoint, look):
        try:
            known_answer.wait(endpoint, look, deadline)
            known_answer.check(endpoint, run.answer, deadline)
        except UnhealthyError as error:
            run.out.note("The running instance stays as it is")
            raise running.explain(error, run.new, trial=True) from error


def make_anew(run: Launch, services: Sequence[str]) -> None:
    """Recreate only the containers that have changed; the undo recreates the old ones."""
    run.record.touches(changes.of(run.new) if run.new_images else services)
    reconcile(run, services)


def reconcile(run: Launch, _: Sequence[str]) -> None:
    """Let Compose start what is missing and leave alone what has not changed."""
    run.previous.gives_way()
    with run.out.waiting("Starting what has changed"):
        run.launcher.start(
            run.new, run.out.note, replacing=run.previous.deployment, new_volume=run.new_volume
        )


def roll_out(run: Launch, services: Sequence[str]) -> None:
    """Hand the changed stack to Swarm; the undo hands it the old one again.

    Raises UnhealthyError when Swarm has rolled a service back by itself.
    """
    run.record.touches(services)
    run.previous.gives_way()
    with run.out.waiting("Swarm replaces what has changed"):
        try:
            run.launcher.start(
                run.new,
                run.out.note,
                replacing=run.previous.deployment,
                limit_s=run.limit_s,
                new_volume=run.new_volume,
            )
        except UnhealthyError as error:
            raise running.explain(error, run.new) from error


def check(run: Launch, _: Sequence[str]) -> None:
    """Wait until the engine recognises the reference face and all services are ready."""
    began = run.began

    def answered() -> None:
        if began is not None:
            run.start_s["core"] = round(time.monotonic() - began, 1)

    with Heartbeat(run.out).progress("Waiting for the engine's answer", None):
        try:
            run.proof = running.prove(run.new, run.answer, run.limit_s, answered=answered)
        except UnhealthyError as error:
            raise running.explain(error, run.new) from error
    run.start_s |= changes.start_seconds(run.new)


def grouped(operations: Iterable[Operation]) -> Iterator[tuple[Verb, tuple[Operation, ...]]]:
    """The operations, with consecutive ones of the same verb in one group."""
    for verb, group in groupby(operations, key=lambda operation: operation.verb):
        yield verb, tuple(group)


PREPARING: Mapping[Verb, Callable[[Preparation, Sequence[str]], None]] = {
    "make environment": make_environments,
    "prepare model": prepare_models,
    "write project": write_project,
    "pull image": pull_images,
    "build image": build_image,
    "push image": push_image,
}
LAUNCHING: Mapping[Verb, Callable[[Launch, Sequence[str]], None]] = {
    "create volume": create_volume,
    "start": start,
    "try": try_engine,
    "replace": replace,
    "start beside": start_beside,
    "take over": take_over,
    "replace engine": replace_engines,
    "add engine": add_engines,
    "end engine": end_engines,
    "make anew": make_anew,
    "roll out": roll_out,
    "reconcile": reconcile,
    "check": check,
}
