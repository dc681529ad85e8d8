"""Fetches and prepares the models of builds, or single models of the catalogue."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.checks import raise_for
from compreface_cli.checks.model_files import unobtainable
from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths, settings
from compreface_cli.deploy import downloads, fetching, licences
from compreface_cli.docker import image_files
from compreface_cli.engine import venv
from compreface_cli.errors import CfError, ConfigurationError, UnreachableError, UsageError
from compreface_cli.models import catalogue, licence, needed, reach, store
from compreface_cli.models.entry import Model
from compreface_cli.models.licence import Terms
from compreface_cli.models.needed import Download
from compreface_cli.models.store import Places
from compreface_cli.plan import fallbacks
from compreface_cli.plan.resolve import plan_of
from compreface_cli.runtimes import joined
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output
from compreface_cli.weights.known import Named, models_of, named, plugins_of


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `cf models pull`."""

    names: Sequence[str]
    accept_hash: Mapping[str, Sequence[str]]
    accept_licence: Sequence[str]
    wheels: Path | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The models to fetch, with the terms of each; `optional`: names of those with a fallback.

    `needed`: what was not on this machine when the run began.
    """

    models: tuple[Model, ...]
    terms: Mapping[str, Terms]
    optional: frozenset[str]
    needed: tuple[Download, ...] = ()

    @property
    def required(self) -> tuple[Model, ...]:
        """Those whose failure ends the run."""
        return tuple(model for model in self.models if model.name not in self.optional)

    def warn_of(self, missing: Mapping[str, CfError], out: Output) -> None:
        """Warn of the optional models that could not be fetched, once for each reason."""
        by_reason: dict[str, list[str]] = {}
        for name, error in missing.items():
            by_reason.setdefault(reach.brief(error), []).append(name)
        for reason, names in by_reason.items():
            single = len(names) == 1
            models = f"model {names[0]}" if single else f"models {joined(names, 'and')}"
            has = "has a fallback and uses it" if single else "has fallbacks and uses them"
            out.warning(f"{models} could not be fetched: {reason}. The build {has}.")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared model; `was_here`: before this run already."""

    name: str
    folder: Path
    was_here: bool


@dataclass(frozen=True, slots=True)
class Pulled:
    """The prepared models, and what was downloaded for them."""

    models: tuple[Prepared, ...]
    downloads: tuple[Download, ...]


def pull(request: Request, out: Output) -> Pulled:
    """Fetch and prepare what is missing of those models. Raises what `store.ensure` does."""
    with interruptible():
        wanted = settle(request, out)
        note = fetching.once(out.note)
        ready = store.foresee(wanted.models, request.accept_hash, note=note)

        def python() -> Path:
            home, inputs = paths.engine_environments_dir(), venv.inputs("cpu")
            progress = Heartbeat(out).progress
            return venv.ensure(
                home, inputs, report=out.note, progress=progress, wheels=request.wheels
            ).python

        progress, accept = Heartbeat(out).progress, request.accept_hash
        try:
            missing = store.fetch(
                wanted.models,
                progress,
                note=note,
                accept_hash=accept,
                optional=wanted.optional,
                local=image_files.opened,
            )
        except UnreachableError as error:
            if "unreached" in error.details:
                error.hint = f"{error.hint}\n{by_mirror(request.names)}"
            raise
        wanted.warn_of(missing, out)
        models = [model for model in wanted.models if model.name not in missing]
        folders = store.ensure(
            models,
            progress,
            python=python,
            portrait=resources.portrait(),
            note=out.note,
            accept_hash={m.name: hashes for m in models if (hashes := accept.get(m.name))},
            local=image_files.opened,
        )
        made = (Prepared(name, folder, name in ready) for name, folder in folders.items())
        return Pulled(tuple(made), wanted.needed)


def by_mirror(names: Sequence[str]) -> str:
    """The way of these models to a machine without a network, as a hint."""
    return (
        f"Without a network here: `cf models pull {shlex.join(names)} -o DIR` on another machine, "
        "then CF_MODELS_MIRROR=DIR here."
    )


def settle(request: Request, out: Output, *, mirrored: Places | None = None) -> Wanted:
    """The models of the request, once all can be had and their terms are accepted.

    Says how large the downloads are. `mirrored`: where the source files of all are looked for,
    also of models that are prepared; None: they are to be prepared.
    """
    chosen = settings.resolve({"accept_licence": list(request.accept_licence) or None})
    for note in chosen.notes:
        out.note(note)
    wanted = asked_for(request.names, chosen)
    raise_for(unobtainable(wanted.required))
    if mirrored is None:
        required, fetches = store.needed(wanted.models), store.fetches
    else:
        required = needed.of(wanted.models, mirrored, catalogue.PATH)
        fetches = partial(_is_not_here, places=mirrored)
    if required:
        out.note(f"To be downloaded: {downloads.words(required)}")
        downloads.require_room(required)
    accepts, origin = chosen.get("accept_licence") or (), chosen.origin("accept_licence")
    licences.agree(wanted.models, wanted.terms, accepts, origin, out, fetches=fetches)
    return replace(wanted, needed=required)


def _is_not_here(model: Model, places: Places) -> bool:
    return not store.lies_here(model, places)


def asked_for(names: Sequence[str], chosen: settings.Settings) -> Wanted:
    """The models of these builds and models, each once; a name of both means the build.

    Raises ConfigurationError for a name of neither.
    """
    wanted: dict[str, Model] = {}
    terms: dict[str, Terms] = {}
    required: set[str] = set()
    every: Named | None = None
    for name in names:
        if name in builds.names() or "/" in name or name.endswith((".yaml", ".yml")):
            plan = plan_of(name, chosen)
            models = models_of(plan)
            terms |= licence.of(plugins_of(plan), plan.licence)
            required |= {model.name for model in models} - fallbacks.optional(plan).keys()
        else:
            every = every or named()
            models = (_single(name, every),)
            terms[name] = every.terms[name]
            required.add(name)
        for model in models:
            before = wanted.get(model.name, model)
            both = model.keep_source or before.keep_source
            wanted[model.name] = replace(before, keep_source=both)
    # First what must be there: without it, the rest would be fetched in vain.
    in_order = sorted(wanted.values(), key=lambda model: model.name not in required)
    return Wanted(
        tuple(in_order),
        {name: terms[name] for name in wanted},
        frozenset(wanted.keys() - required),
    )


def _single(name: str, every: Named) -> Model:
    models = every.by_name.get(name, ())
    if not models and name in builds.RENAMED:
        raise builds.renamed(name)
    if not models:
        from compreface_cli.config.yamlfile import did_you_mean

        suggestion = did_you_mean(name, [*builds.names(), *every.by_name])
        raise ConfigurationError(
            f"there is no build and no model {name!r}" + (f"; {suggestion}" if suggestion else ""),
            hint="`cf list-builds` shows the builds, `cf models list --all` the models.",
        )
    if len(models) > 1:
        users = " and ".join(every.builds[name])
        raise UsageError(
            f"the builds {users} have different models {name!r}",
            hint="Name a build.",
        )
    return models[0]
