"""The store of models: whether each is prepared on this machine, and how it becomes so."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Literal

from compreface_cli import leftovers
from compreface_cli.errors import UnreachableError, UsageError
from compreface_cli.models import accepted, catalogue, prepare
from compreface_cli.models.accepted import Accepted
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import locked, sha256_of
from compreface_cli.models.needed import Download, can_be_had, first, of
from compreface_cli.models.obtain import (
    Unaccepted,
    beyond_the_entry,
    lying_here,
    missing_hint,
    newly_accepted,
    no_file,
    obtain_all,
    refusal,
    strays,
)
from compreface_cli.models.places import Places, addresses, check_mirror, local, mirror_fault
from compreface_cli.models.transfer import Limits, Progress

__all__ = [
    "Download",
    "Places",
    "State",
    "ensure",
    "fetch",
    "fetches",
    "fingerprint",
    "foresee",
    "mirror_fault",
    "missing_hint",
    "needed",
    "obtainable",
    "state",
]

State = Literal["here", "missing", "damaged"]


def _silent(text: str) -> None:
    pass


def state(model: Model, places: Places | None = None, *, by_hash: bool = False) -> State:
    """Whether the model is prepared on this machine; checks sizes, and hashes with `by_hash`.

    "missing": not prepared, or prepared from another entry or file than the build names now.
    """
    places = places or Places()
    folder = places.models / model.name
    record = prepare.read_record(folder)
    if record is None:
        return "damaged" if (folder / "model.onnx").exists() else "missing"
    if record.entry != prepare.entry_digest(model) or not _fits(model, record.sources, places):
        return "missing"
    if model.keep_source and not record.keeps_source:
        return "missing"
    return "here" if prepare.intact(folder, record, by_hash=by_hash) else "damaged"


def obtainable(model: Model, places: Places | None = None) -> bool:
    """Whether `ensure` can succeed: it is prepared, or its files are here or downloadable."""
    places = places or Places()
    return state(model, places) == "here" or any(
        can_be_had(choice, places) for choice in model.choices
    )


def fetches(model: Model, places: Places | None = None) -> bool:
    """Whether `ensure` would download anything: it is not prepared, and not all files are here."""
    places = places or Places()
    if state(model, places) == "here":
        return False
    choice = first(model, places)
    return not all(_is_here(choice, file, places) for file in choice.files)


def _is_here(model: Model, file: ModelFile, places: Places) -> bool:
    try:
        return lying_here(model, file, places, (), _silent) is not None
    except Unaccepted:  # `ensure` stops at that file and fetches nothing in its place
        return True


def needed(
    models: Sequence[Model], places: Places | None = None, catalogue_path: Path = catalogue.PATH
) -> tuple[Download, ...]:
    """What `ensure` would download for these models, each archive or layer once; asks no address.

    Where a model has several sources or alternatives, that which is tried first.
    """
    places = places or Places()
    absent = [model for model in models if state(model, places) != "here"]
    return of(absent, places, catalogue_path)


def fingerprint(model: Model, places: Places | None = None) -> str | None:
    """SHA-256 of the prepared weights, which identifies the embedding space; None without any."""
    record = prepare.read_record((places or Places()).models / model.name)
    return None if record is None else record.files.get("model.onnx")


def ensure(
    models: Sequence[Model],
    progress: Progress,
    *,
    python: Callable[[], Path],
    portrait: Path,
    note: Callable[[str], None] = lambda text: None,
    accept_hash: Accepted | None = None,
    places: Places | None = None,
    limits: Limits | None = None,
    timeout_s: float | None = None,
) -> dict[str, Path]:
    """The prepared folder of each model by name; downloads and prepares what is missing.

    `timeout_s` limits the preparation of each model; by default prepare.CONVERT_TIMEOUT_S.
    `python` returns the interpreter of the engine's environment and is called only if a model must
    be prepared. Raises FetchError (missing, wrong or unaccepted file), UsageError (`accept_hash`
    names another model), ConflictError (another cf holds the lock).
    """
    places = places or Places()
    accept_hash = _of_these(models, accept_hash)
    leftovers.sweep(".", places.models)
    ready = {}
    for model in models:
        folder = places.models / model.name
        with locked(folder, note=note):
            accept = accept_hash.get(model.name, ())
            if not _usable(model, places, note, accept):
                check_mirror(places)
                sources = obtain_all(model, places, accept, progress, note, limits)
                with progress(f"preparing model {model.name}", None):
                    prepare.prepare(
                        model, sources, folder,
                        python=python(), portrait=portrait, timeout_s=timeout_s,
                    )  # fmt: skip
                # Not before: the converter may refuse the file.
                digests = [digest for _, digest in sources.values()]
                accepted.record(places.accepted, model.name, beyond_the_entry(model, digests))
        ready[model.name] = folder
    return ready


def fetch(
    models: Sequence[Model],
    progress: Progress,
    *,
    note: Callable[[str], None] = _silent,
    accept_hash: Accepted | None = None,
    optional: Container[str] = (),
    places: Places | None = None,
    limits: Limits | None = None,
) -> dict[str, UnreachableError]:
    """Find or download the files of the models that `ensure` would prepare, and prepare none.

    Returns the errors of the `optional` models that no source delivers, by name; of others they
    are raised. Raises as `ensure` does.
    """
    places = places or Places()
    accept_hash = _of_these(models, accept_hash)
    unreachable = {}
    for model in models:
        with locked(places.models / model.name, note=note):
            accept = accept_hash.get(model.name, ())
            if _usable(model, places, _silent, accept):
                continue
            check_mirror(places)
            try:
                obtain_all(model, places, accept, progress, note, limits)
            except UnreachableError as error:
                error.details.setdefault("model", model.name)
                if model.name not in optional:
                    raise
                unreachable[model.name] = error
    return unreachable


def foresee(
    models: Sequence[Model], accept_hash: Accepted | None = None, places: Places | None = None
) -> frozenset[str]:
    """The names of the models that are ready; asks no address and keeps nothing.

    Raises what `ensure` would of the files that lie here.
    """
    places = places or Places()
    accept_hash = _of_these(models, accept_hash)
    ready = set()
    for model in models:
        if _usable(model, places, _silent):
            ready.add(model.name)
            continue
        check_mirror(places)
        accept = accept_hash.get(model.name, ())
        proven: list[str] = []
        unknown = []
        for file in model.files:
            try:
                here = lying_here(model, file, places, accept, _silent)
                if here is None and not addresses(file, places):
                    raise no_file(model, file, places)
                proven += [here[1]] if here else []
            except Unaccepted as unaccepted:
                unknown.append(unaccepted)
        if unknown:
            all_here = len(proven) + len(unknown) == len(model.files)
            stray = strays(model, accept, proven, unknown) if all_here else []
            raise refusal(model, unknown, stray, newly_accepted(model, places, accept, proven))
    return frozenset(ready)


def _of_these(models: Sequence[Model], accept_hash: Accepted | None) -> Accepted:
    unknown = set(accept_hash or {}) - {model.name for model in models}
    if unknown:
        raise UsageError(
            f"--accept-hash: {', '.join(sorted(unknown))} is not a model of this build",
            hint="Models of this build: " + (", ".join(m.name for m in models) or "none."),
        )
    return accept_hash or {}


def _usable(
    model: Model, places: Places, note: Callable[[str], None], accept: Sequence[str] = ()
) -> bool:
    """Whether the prepared model can be used; notes why not, except for an unaccepted file."""
    current = state(model, places, by_hash=True)
    if current == "damaged":
        note(f"model {model.name} is damaged in {places.models / model.name}: preparing it again")
        return False
    if current == "missing":
        return False
    record = prepare.read_record(places.models / model.name)
    known = accepted.read(places.accepted).get(model.name, [])
    for file in model.files:
        for path in local(model, file, places, mirror=False):
            digest = sha256_of(path)
            if record is None or digest == record.sources.get(file.path):
                continue
            if file.sha256 and digest not in (*file.sha256, *known):
                note(f"{path} is not the file that model {model.name} was made from")
                continue
            if digest in (*file.sha256, *known, *accept):
                note(f"{path} has changed: preparing model {model.name} again")
            return False
    return True


def _fits(model: Model, sources: Mapping[str, str], places: Places) -> bool:
    """Whether the model was prepared from files that the build accepts."""
    known = accepted.read(places.accepted).get(model.name, [])
    return all(sources.get(file.path) in (*file.sha256, *known) for file in model.files)
