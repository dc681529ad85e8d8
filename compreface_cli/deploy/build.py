"""`cf build`: builds the engine's image, and saves the build that its flags describe."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compreface_cli import leftovers, resources
from compreface_cli.builds import builds
from compreface_cli.checks import model_files, raise_for
from compreface_cli.checks.base import DOCKER
from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.config import paths, settings
from compreface_cli.config.settings_table import DEFAULT_BUILD
from compreface_cli.deploy import fetching
from compreface_cli.docker import image, push
from compreface_cli.docker.labels import LABEL_ANSWER
from compreface_cli.engine import check, known_answer, venv
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.errors import PreflightError, UsageError
from compreface_cli.instance import pushes
from compreface_cli.models.needed import Download
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.builds.builds import BuildFile
    from compreface_cli.builds.spec import BuildSpec

_NAME = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"
# Docker's grammar for an image name: host, path components and tag (distribution/reference,
# "Grammar").
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_REFERENCE = rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
_LONGEST = 255
_WITHOUT = "Without Docker: cf up {} --launcher process"
_FOLDER = "cf-build-"  # prefix of the folders that images are built from


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `cf build`; `changes`: keys of a build file, None means no change."""

    build: str | None = None
    changes: Mapping[str, Any] | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    push: bool = False
    push_to: str | None = None  # None: as the settings say
    no_cache: bool = False
    pull: bool = False
    fallbacks: bool | None = None  # None: as the settings say
    accept_hash: Mapping[str, Sequence[str]] | None = None
    accept_licence: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """The built image; `image.built` is False if it existed, made from the same files."""

    plan: Plan
    image: image.Image
    tags: tuple[str, ...]
    pushed: Mapping[str, str]  # name -> digest of its manifest
    kept: Path | None  # the build file that flags made
    downloads: tuple[Download, ...] = ()
    reference: str = ""  # "REGISTRY/FOLDER/compreface-core@sha256:...", pushed to `push_to`

    @property
    def digest(self) -> str | None:
        """The digest of its manifest in the registry; None where it was not pushed."""
        return self.reference.rpartition("@")[2] or next(iter(self.pushed.values()), None)


def build(request: Request, out: Output) -> Built:
    """Build the image, and with flags save the changed build as a build file of the user.

    It is saved once its image is built, so that a failed run leaves an earlier build of that name
    unchanged; and also without Docker, where the file alone is useful.
    """
    tags = [_reference(tag) for tag in request.tags]
    with interruptible():
        leftovers.sweep(_FOLDER)
        flags = {key: value for key, value in (request.changes or {}).items() if value is not None}
        flags |= {"fallbacks": request.fallbacks, "accept_licence": request.accept_licence}
        flags |= {"push_to": request.push_to}
        resolved = settings.resolve(flags)
        for note in resolved.notes:
            out.note(note)
        chosen, own = _settle(request, resolved)
        # A build is not an instance: a port that only `up` can settle must not stop it.
        plan = replace(
            plan_of(chosen, resolved),
            port=3000,
            core_port=3000,
            services="core",
            launcher="compose",
        )
        remote = _to_push(tags or [plan.image], plan) if request.push else []
        _preflight(plan, own, out)
        plan, needed = fetching.fetched(plan, out, request.accept_hash)
        with CleanUp(out.note) as undo:
            made = _in_temporary_folder(plan, request, undo, out)
            kept = own.keep(out) if own is not None else None
            undo.commit()
        for tag in tags:
            image.add_tag(made, tag)
        pushed = {tag: push.push_name(tag, shown(out), out.note) for tag in remote}
        reference = pushed_to(plan, made.id, out) if request.push and plan.push_to else ""
        image.drop_superseded(plan.build)
        return Built(plan, made, (plan.image, *tags), pushed, kept, needed, reference)


def _reference(tag: str) -> str:
    """The name of an image with its tag; UsageError if it is invalid."""
    if not re.fullmatch(_REFERENCE, tag) or len(tag) > _LONGEST:
        raise UsageError(
            f"flag --tag: {tag!r} is not a valid image name",
            hint="Names are like registry.example/team/engine:1, in lower-case letters.",
        )
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def _to_push(names: Sequence[str], plan: Plan) -> list[str]:
    """The names with a registry or a Docker Hub account; UsageError if nothing names one."""
    remote = [name for name in names if "/" in name]
    if not remote and not plan.push_to:
        raise UsageError(
            f"flag --push: {names[-1]} names no registry to push to",
            hint="Name one: --push-to REGISTRY/FOLDER, or --tag REGISTRY/NAME:TAG.",
        )
    return remote


def pushed_to(plan: Plan, id_: str, out: Output) -> str:
    """Push the plan's image, which has this id, to `plan.push_to`, and record it.

    Returns "REGISTRY/FOLDER/compreface-core@sha256:..."; raises as docker/push.py `push`.
    """
    reference = push.push(plan.image, plan.push_to, waiting=shown(out), report=out.note)
    pushes.record(id_, plan.push_to, reference)
    return reference


def build_image(
    plan: Plan,
    folder: Path,
    answer: KnownAnswer,
    *,
    out: Output,
    undo: CleanUp | None = None,
    no_cache: bool = False,
    force: bool = False,
    pull: bool = False,
) -> image.Image:
    """The engine's image of a written project; parameters and cases as in docker/image.py `build`.

    `answer`: to the reference face, which a label of the image keeps.

    With `undo`, a later failure of the run removes the new image and gives its name back.
    """
    core = folder / "core"
    return image.build(
        core,
        plan.image,
        report=out.note,
        base=plan.base_image,
        own_labels={LABEL_ANSWER: known_answer.label_of(answer)},
        waiting=shown(out),
        undo=undo,
        no_cache=no_cache,
        force=force,
        pull=pull,
    )


def shown(out: Output) -> image.Waiting:
    """A function that shows Docker's waits on `out`, from their beginning."""
    return lambda label: out.waiting(label, after_s=0)


def prepared_models(
    plan: Plan, out: Output, *, accept_hash: Mapping[str, Sequence[str]] | None = None
) -> Mapping[str, Path]:
    """The folder of each of the plan's models by name; downloads and prepares what is missing."""
    if not plan.models:
        return {}
    from compreface_cli.docker import image_files
    from compreface_cli.models import store

    python = _converter(out)
    models = store.ensure(
        plan.models,
        out.progress,
        python=python,
        portrait=resources.portrait(),
        note=out.note,
        accept_hash=fetching.accepted_hashes(plan, accept_hash or {}),
        local=image_files.opened,
    )
    check.models(plan, python)
    return models


def _converter(out: Output) -> Callable[[], Path]:
    """Returns the interpreter that prepares models, in an environment that is made at first use."""

    def python() -> Path:
        home = paths.engine_environments_dir()
        inputs = venv.inputs("cpu")
        return venv.ensure(home, inputs, report=out.note, progress=out.progress).python

    return python


@dataclass(frozen=True, slots=True)
class _Own:
    """A build that flags describe, not saved yet."""

    spec: BuildSpec
    beside: Path | None  # the folder of its models
    path: Path  # where it is to be saved

    @property
    def replaces(self) -> bool:
        """Whether another build of that name is saved there."""
        return self.path.is_file() and self.path.read_text("utf-8") != builds.text_of(self.spec)

    def keep(self, out: Output) -> Path:
        former = " in place of the previous one" if self.replaces else ""
        path = builds.save_custom(self.spec, self.beside)
        out.note(f"saved as the build {self.spec.name}{former}: {path}")
        if (resources.builds_dir() / path.name).is_file():
            out.warning(
                f"{self.spec.name} now refers to this file instead of cf's build of that name."
            )
        return path


def _settle(request: Request, resolved: settings.Settings) -> tuple[BuildFile, _Own | None]:
    """The build to make, and the build file to save if it is a new one."""
    base = builds.load(request.build or DEFAULT_BUILD)
    changes = {key: value for key, value in (request.changes or {}).items() if value is not None}
    if not changes and request.name is None:
        return base, None
    name = request.name or builds.CUSTOM_NAME
    if not re.fullmatch(_NAME, name):
        raise UsageError(
            f"flag --name: {name!r} is not a valid name for a build",
            hint="use lower-case letters, digits and hyphens (at most 40)",
        )
    # Model files are looked up next to the build file, so such a build is saved next to its base.
    beside = (
        base.path.parent
        if base.spec.models and base.origin in ("path", "project", "user")
        else None
    )
    if "gpu_index" in changes:
        gpus = resolved.get("gpu_index")  # the flag's text, read by the settings
        if len(gpus) > 1:
            raise UsageError(
                "a build names one GPU, since several are of one machine",
                hint="Build it with one, and start it on several: cf up BUILD --gpu-index "
                + ",".join(map(str, gpus)),
            )
        (changes["gpu_index"],) = gpus
    spec = builds.customise(base, name, changes)
    path = builds.place_for(spec, beside)  # refuses first to overwrite a user's file
    raise_for(model_files.out_of_reach(plan_of(base, resolved)))
    return builds.BuildFile(spec, "path", path.absolute()), _Own(spec, beside, path)


def _preflight(plan: Plan, own: _Own | None, out: Output) -> None:
    """Raise one report of all that prevents the build; a missing GPU is left to `up`."""
    from compreface_cli import checks, facts

    raise_for(model_files.out_of_reach(plan))  # before Docker is queried
    asked = facts.Questions(images=(plan.image, plan.base_image), paths=(tempfile.gettempdir(),))
    seen = facts.gather(asked)
    try:
        raise_for(checks.build(plan, seen, checks.OwnedResources(must_build=True)))
    except PreflightError as refused:
        kept = None
        if own is None:
            refused.hint = _WITHOUT.format(plan.build)
        elif refused.code == DOCKER:
            # An earlier build that worked is kept, unless this machine has no Docker at all.
            absent = seen.docker is None or seen.docker.client is None
            if absent or not own.replaces:
                kept = own.keep(out)
                refused.hint = f"{_WITHOUT.format(plan.build)}\nThe build file was saved: {kept}"
            else:
                refused.hint = f"The build {plan.build} is unchanged: {own.path}"
        refused.details["kept"] = str(kept) if kept else None
        raise


def _in_temporary_folder(plan: Plan, request: Request, undo: CleanUp, out: Output) -> image.Image:
    from compreface_cli.project import writer
    from compreface_cli.project.targets import compose as target

    models = prepared_models(plan, out, accept_hash=request.accept_hash)
    with leftovers.folder(_FOLDER) as folder:
        writer.write(target.render(plan, models), folder)
        answer = known_answer.expected(plan, models, lambda: check.answer(plan, _converter(out)))
        return build_image(
            plan, folder, answer, out=out, undo=undo, no_cache=request.no_cache, pull=request.pull
        )
