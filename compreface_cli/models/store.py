"""The store of models: whether each is prepared on this machine, and how it becomes so."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compreface_cli import leftovers
from compreface_cli.errors import FetchError, UnreachableError, UsageError
from compreface_cli.models import accepted, catalogue, prepare, proofs
from compreface_cli.models.accepted import Accepted
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import locked, sha256_of
from compreface_cli.models.needed import Download, can_be_had, first, of
from compreface_cli.models.obtain import (
    Run,
    Unaccepted,
    all_of,
    beyond_the_entry,
    first_of,
    foreseen,
    in_order,
    lying_here,
    missing_hint,
    none_of,
    note_failure,
)
from compreface_cli.models.places import (
    Places,
    check_mirror,
    is_proven,
    local,
    mirror_fault,
    unfinished,
)
from compreface_cli.models.transfer import Limits, Progress

if TYPE_CHECKING:
    from compreface_cli.models.registry import Local

__all__ = [
    "Download",
    "Places",
    "State",
    "chosen",
    "ensure",
    "fetches",
    "files",
    "fingerprint",
    "foresee",
    "lies_here",
    "mirror_fault",
    "missing_hint",
    "needed",
    "obtainable",
    "state",
    "unfinished",
]

State = Literal["here", "missing", "damaged"]


def state(model: Model, places: Places | None = None, *, by_hash: bool = False) -> State:
    """Whether the model is prepared on this machine; checks sizes, and hashes with `by_hash`.

    "missing": not prepared, or prepared from another entry or file than the build names now.
    """
    places = places or Places()
    folder = places.models / model.name
    record = prepare.read_record(folder)
    if record is None:
        return "damaged" if (folder / "model.onnx").exists() else "missing"
    if chosen(model, places) is None or (model.keep_source and not record.keeps_source):
        return "missing"
    return "here" if prepare.intact(folder, record, by_hash=by_hash) else "damaged"


def chosen(model: Model, places: Places | None = None) -> Model | None:
    """The choice that the model was prepared from; None if it was from none that it names now."""
    places = places or Places()
    record = prepare.read_record(places.models / model.name)
    if record is None:
        return None
    known = accepted.read(places.accepted).get(model.name, ())
    return next((c for c in model.choices if _made_from(c, record, places, known)), None)


def _made_from(
    choice: Model, record: prepare.Prepared, places: Places, known: Sequence[str]
) -> bool:
    """Whether the record is of this choice, and of files that it allows; `known`: accepted ones."""
    return record.entry == prepare.entry_digest(choice) and all(
        record.sources.get(file.path) in (*file.sha256, *known, *proofs.known(choice, file, places))
        for file in choice.files
    )


def obtainable(model: Model, places: Places | None = None) -> bool:
    """Whether `ensure` can succeed: it is prepared, or its files are here or downloadable."""
    places = places or Places()
    return state(model, places) == "here" or any(
        can_be_had(choice, places) for choice in model.choices
    )


def fetches(model: Model, places: Places | None = None) -> bool:
    """Whether `ensure` would download anything: it is not prepared, and not all files are here."""
    places = places or Places()
    return state(model, places) != "here" and not lies_here(model, places)


def lies_here(model: Model, places: Places | None = None) -> bool:
    """Whether all its source files are on this machine, with hashes that are right."""
    places = places or Places()
    choice = first(model, places)
    return all(_is_here(choice, file, places) for file in choice.files)


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
    local: Local | None = None,
    timeout_s: float | None = None,
) -> dict[str, Path]:
    """The prepared folder of each model by name; downloads and prepares what is missing.

    `timeout_s` limits the preparation of each model; by default prepare.CONVERT_TIMEOUT_S. `local`
    opens the images that Docker has.
    `python` returns the interpreter of the engine's environment and is called only if a model must
    be prepared. Raises FetchError (missing, wrong or unaccepted file), UsageError (`accept_hash`
    names another model), ConflictError (another cf holds the lock).
    """
    places = places or Places()
    accept_hash = _of_these(models, accept_hash)
    leftovers.sweep(".", places.models)
    absent = [model for model in models if state(model, places) != "here"]
    run = Run(places, accept_hash, note, progress, limits, local, models=absent)
    ready = {}
    for model in models:
        folder = places.models / model.name
        with locked(folder, note=note):
            if not _usable(model, places, note, run.accepts(model)):
                check_mirror(places)
                _prepare(model, run, folder, python, portrait, timeout_s)
        ready[model.name] = folder
    return ready


def _prepare(
    model: Model,
    run: Run,
    folder: Path,
    python: Callable[[], Path],
    portrait: Path,
    timeout_s: float | None,
) -> None:
    """Prepare the model from the first of its choices that can be had and converted."""
    attempts: list[tuple[Model, FetchError]] = []
    for choice in in_order(model, run):
        note_failure(attempts, choice, run)
        try:
            files = all_of(choice, run)
            with run.progress(f"preparing model {model.name}", None):
                prepare.prepare(
                    choice, files, folder, python=python(), portrait=portrait, timeout_s=timeout_s
                )
        except FetchError as error:
            attempts.append((choice, error))
            continue
        # Not before: the converter may refuse the file.
        digests = [digest for _, digest in files.values() if digest in run.accepts(model)]
        accepted.record(run.places.accepted, model.name, beyond_the_entry(choice, digests))
        for file in choice.files:
            proofs.hold(choice, file, files[file.path][1], run.places)
        return
    raise none_of(model, attempts)


def files(
    models: Sequence[Model],
    progress: Progress,
    *,
    note: Callable[[str], None] = lambda text: None,
    accept_hash: Accepted | None = None,
    optional: Container[str] = (),
    places: Places | None = None,
    limits: Limits | None = None,
    local: Local | None = None,
) -> tuple[dict[str, dict[str, tuple[Path, str]]], dict[str, UnreachableError]]:
    """The files of each model by name: path in its entry -> local path, verified SHA-256.

    Downloads what is missing and prepares nothing. Where a model has alternatives, those of the
    first that can be had. The second table has the errors of the `optional` models that no source
    delivers. Raises as `ensure` does.
    """
    places = places or Places()
    if models:
        check_mirror(places)
    run = Run(places, _of_these(models, accept_hash), note, progress, limits, local, models=models)
    obtained, unreachable = {}, {}
    for model in models:
        with locked(places.models / model.name, note=note):
            try:
                obtained[model.name] = first_of(model, run)
            except UnreachableError as error:
                if model.name not in optional:
                    raise
                unreachable[model.name] = error
    return obtained, unreachable


def fetch(
    models: Sequence[Model],
    progress: Progress,
    *,
    note: Callable[[str], None] = lambda text: None,
    accept_hash: Accepted | None = None,
    optional: Container[str] = (),
    places: Places | None = None,
    limits: Limits | None = None,
    local: Local | None = None,
) -> dict[str, UnreachableError]:
    """Find or download the files of the models that `ensure` would prepare, and prepare none.

    Returns the errors of the `optional` models that no source delivers, by name; of others they
    are raised. Raises as `ensure` does.
    """
    places = places or Places()
    absent = [model for model in models if state(model, places) != "here"]
    run = Run(places, _of_these(models, accept_hash), note, progress, limits, local, models=absent)
    unreachable = {}
    for model in models:
        with locked(places.models / model.name, note=note):
            if _usable(model, places, _silent, run.accepts(model)):
                continue
            check_mirror(places)
            try:
                first_of(model, run)
            except UnreachableError as error:
                error.details.setdefault("model", model.name)
                if model.name not in optional:
                    raise
                unreachable[model.name] = error
    return unreachable


def foresee(
    models: Sequence[Model],
    accept_hash: Accepted | None = None,
    places: Places | None = None,
    *,
    note: Callable[[str], None] = lambda text: None,
) -> frozenset[str]:
    """The names of the models that are ready; asks no address and keeps nothing.

    Raises what `ensure` would of the files that lie here, and notes which of them are not used.
    """
    places = places or Places()
    run = Run(places, _of_these(models, accept_hash), note, _no_progress)
    ready = set()
    for model in models:
        if _usable(model, places, _silent):
            ready.add(model.name)
            continue
        check_mirror(places)
        attempts: list[tuple[Model, FetchError]] = []
        choices = in_order(model, run)
        for choice in choices:
            try:
                foreseen(choice, run)
                break
            except FetchError as error:
                attempts.append((choice, error))
        if len(attempts) == len(choices):
            raise none_of(model, attempts)
    return frozenset(ready)


def _no_progress(
    label: str, total: float | None
) -> AbstractContextManager[Callable[[float], None]]:
    return nullcontext(lambda amount: None)


def _silent(text: str) -> None:
    pass


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
    choice = chosen(model, places)
    if record is None or choice is None:
        return False
    known = accepted.read(places.accepted).get(model.name, [])
    for file in choice.files:
        for path in local(choice, file, places, mirror=False):
            digest = sha256_of(path)
            if digest == record.sources.get(file.path):
                continue
            right = (*file.sha256, *known, *proofs.known(choice, file, places))
            if digest not in right and (file.sha256 or is_proven(file)):
                note(f"{path} is not the file that model {model.name} was made from")
                continue
            if digest in (*right, *accept):
                note(f"{path} has changed: preparing model {model.name} again")
            return False
    return True
