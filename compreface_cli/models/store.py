"""The store of models: finds or downloads their files, verifies the hashes, prepares the models.

A file is looked for beside the build file, in the mirror (CF_MODELS_MIRROR, a folder or an
address), among earlier downloads, and at its sources, in that order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import quote

from compreface_cli import leftovers
from compreface_cli.config import paths
from compreface_cli.errors import FetchError, UsageError
from compreface_cli.models import accepted, prepare
from compreface_cli.models.accepted import Accepted
from compreface_cli.models.catalogue import about
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import locked, sha256_of
from compreface_cli.models.transfer import Limits, Progress

State = Literal["here", "missing", "damaged"]
_HEX = frozenset("0123456789abcdef")


def _mirror_of_environment() -> str:
    return os.environ.get("CF_MODELS_MIRROR", "")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of the store; by default this user's."""

    models: Path = field(default_factory=paths.models_dir)  # prepared, a folder per model
    weights: Path = field(default_factory=lambda: paths.cache_dir() / "weights")  # downloads
    accepted: Path = field(default_factory=lambda: paths.state_dir() / "accepted-hashes.json")
    mirror: str = field(default_factory=_mirror_of_environment)  # "": none


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
    if state(model, places) == "here":
        return True
    return all(
        bool(file.sources) or _is_address(places.mirror) or any(_local(model, file, places))
        for file in model.files
    )


def lies_here(model: Model, places: Places | None = None) -> bool:
    """Whether a file of the right name lies here for each of the model's; asks no address."""
    places = places or Places()
    return all(any(_local(model, file, places)) for file in model.files)


def missing_hint(model: Model, places: Places | None = None) -> str:
    """The hint how a user supplies the files of a model that has no source."""
    places = places or Places()
    single = len(model.files) == 1
    it, hashes, kind = ("it", "hash", "file") if single else ("them", "hashes", "files")
    has_folder = bool(places.mirror) and Path(places.mirror).expanduser().is_dir()
    mirror = places.mirror if has_folder else "DIR"
    targets = " and ".join(f"{mirror}/{file.path}" for file in model.files)
    names = " and ".join(file.path for file in model.files)
    beside = f" Or put {it} beside the build file, as {names}." if model.build_folder else ""
    known = all(file.sha256 for file in model.files)
    accept = f" You accept the {hashes} once, by --accept-hash {model.name}=SHA256."
    known_as = None if model.build_folder else about().get(model.name)
    origin = f" Origin: {known_as.origin}" if known_as else ""
    return (
        f"If you have the {kind}, put {it} into a folder as {targets} and set "
        f"CF_MODELS_MIRROR={mirror}.{beside}{'' if known else accept}{origin}"
    )


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
                _check_mirror(places)
                sources = _obtain_all(model, places, accept, progress, note, limits)
                with progress(f"preparing model {model.name}", None):
                    prepare.prepare(
                        model, sources, folder,
                        python=python(), portrait=portrait, timeout_s=timeout_s,
                    )  # fmt: skip
                # Not before: the converter may refuse the file.
                digests = [digest for _, digest in sources.values()]
                accepted.record(places.accepted, model.name, _beyond_the_entry(model, digests))
        ready[model.name] = folder
    return ready


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
        _check_mirror(places)
        accept = accept_hash.get(model.name, ())
        proven: list[str] = []
        unknown = []
        for file in model.files:
            try:
                here = _lying_here(model, file, places, accept, _silent)
                if here is None and not _addresses(file, places):
                    raise _missing(model, file, places)
                proven += [here[1]] if here else []
            except _Unaccepted as unaccepted:
                unknown.append(unaccepted)
        if unknown:
            all_here = len(proven) + len(unknown) == len(model.files)
            stray = _stray(model, accept, proven, unknown) if all_here else []
            raise _unaccepted(model, unknown, stray, _new(model, places, accept, proven))
    return frozenset(ready)


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
    known = accepted.read(places.accepted).get(model.name, [])
    for file in model.files:
        for path in _local(model, file, places, mirror=False):
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


class _Unaccepted(Exception):
    """A file exists, but its hash is not accepted."""

    def __init__(self, path: Path, digest: str, wrong: str = "", *, changed: bool = False) -> None:
        super().__init__(str(path))
        self.path, self.digest = path, digest
        self.wrong = wrong  # the message for a file whose right hash is known
        unknown = f"the hash of {path} is not accepted yet; it is {digest}"
        if changed:
            unknown = f"{path} has changed since you accepted it; its hash is now {digest}"
        self.message = wrong or unknown


def _obtain_all(
    model: Model,
    places: Places,
    accept: Sequence[str],
    progress: Progress,
    note: Callable[[str], None],
    limits: Limits | None,
) -> dict[str, tuple[Path, str]]:
    """The local path and verified hash of each source file, by its path in the entry."""
    obtained, unknown = {}, []
    for file in model.files:
        try:
            obtained[file.path] = _obtain(model, file, places, accept, progress, note, limits)
        except _Unaccepted as unaccepted:
            unknown.append(unaccepted)
    if unknown:
        proven = [digest for _, digest in obtained.values()]
        stray = _stray(model, accept, proven, unknown)
        raise _unaccepted(model, unknown, stray, _new(model, places, accept, proven))
    return obtained


def _stray(
    model: Model, accept: Sequence[str], proven: Sequence[str], unknown: Sequence[_Unaccepted]
) -> list[str]:
    """Those accepted hashes that no file of the model has."""
    own = {digest for file in model.files for digest in file.sha256}
    known = {*own, *proven, *(file.digest for file in unknown)}
    return [digest for digest in accept if digest not in known]


def _new(model: Model, places: Places, accept: Sequence[str], digests: Iterable[str]) -> list[str]:
    """Those hashes that are accepted in this run only, so they must be given again."""
    kept = accepted.read(places.accepted).get(model.name, ())
    return [
        digest
        for digest in _beyond_the_entry(model, digests)
        if digest in accept and digest not in kept
    ]


def _beyond_the_entry(model: Model, digests: Iterable[str]) -> list[str]:
    own = {digest for file in model.files for digest in file.sha256}
    return [digest for digest in digests if digest not in own]


def _obtain(
    model: Model,
    file: ModelFile,
    places: Places,
    accept: Sequence[str],
    progress: Progress,
    note: Callable[[str], None],
    limits: Limits | None,
) -> tuple[Path, str]:
    """The local path and verified hash of the source file, downloaded if necessary."""
    here = _lying_here(model, file, places, accept, note)
    if here is not None:
        return here
    urls, wanted = _addresses(file, places), _wanted(model, file, places, accept)
    if urls:
        from compreface_cli.models.download import fetch

        target = _fetched(model, file, places)
        # With several files, it is not known which accepted hash belongs to which.
        proof = wanted if file.sha256 or len(model.files) == 1 else ()
        fetch(
            urls, target, sha256=proof, place=file.path,
            progress=progress, note=note, limits=limits,
        )  # fmt: skip
        digest = sha256_of(target)
        if digest not in wanted:
            raise _Unaccepted(target, digest)
        return target, digest
    raise _missing(model, file, places)


def _missing(model: Model, file: ModelFile, places: Places) -> FetchError:
    return FetchError(
        f"model {model.name}: {file.path} is not on this machine, and no address is known for it",
        hint=missing_hint(model, places),
    )


def _addresses(file: ModelFile, places: Places) -> list[str]:
    mirror = places.mirror
    own = [f"{mirror.rstrip('/')}/{quote(file.path)}"] if _is_address(mirror) else []
    return [*own, *file.sources]


def _wanted(
    model: Model, file: ModelFile, places: Places, accept: Sequence[str]
) -> tuple[str, ...]:
    """The hashes that are right for the file: its own, and those accepted for the model."""
    by_user = (*accepted.read(places.accepted).get(model.name, ()), *accept)
    return tuple(dict.fromkeys((*file.sha256, *by_user)))


def _lying_here(
    model: Model,
    file: ModelFile,
    places: Places,
    accept: Sequence[str],
    note: Callable[[str], None],
) -> tuple[Path, str] | None:
    """The local path and verified hash of the file; None if it must be downloaded."""
    urls, wanted = _addresses(file, places), _wanted(model, file, places, accept)
    wrong: list[tuple[Path, str]] = []
    for path in _local(model, file, places):
        digest = sha256_of(path)
        if digest in wanted:
            return path, digest
        if not file.sha256:
            raise _Unaccepted(path, digest, changed=_accepted_before(model, file, places))
        wrong.append((path, digest))
        if urls:  # else the error below reports it
            note(
                f"{path} is not used for model {model.name}: its hash is not accepted. To use it: "
                f"--accept-hash {model.name}={digest}"
            )
    if wrong and not urls:
        actual = "; ".join(f"{path} has SHA-256 {digest}" for path, digest in wrong)
        raise _Unaccepted(*wrong[0], f"wrong hash: {actual}, expected {' or '.join(wanted)}")
    return None


def _accepted_before(model: Model, file: ModelFile, places: Places) -> bool:
    """Whether another content of that file was accepted before, as far as is recorded."""
    known = accepted.read(places.accepted).get(model.name, ())
    prepared = prepare.read_record(places.models / model.name)
    if prepared is not None:
        return prepared.sources.get(file.path) in known
    return bool(known) and len(model.files) == 1


def _local(model: Model, file: ModelFile, places: Places, *, mirror: bool = True) -> Iterable[Path]:
    """The candidates for the file on this machine."""
    candidates = []
    if model.build_folder:
        candidates.append(Path(model.build_folder) / file.path)
    if mirror and places.mirror and not _is_address(places.mirror):
        inside = PurePosixPath(file.path)
        if not inside.is_absolute() and ".." not in inside.parts:
            candidates.append(Path(places.mirror).expanduser() / inside)
    if mirror:
        candidates.append(_fetched(model, file, places))
    return [path for path in candidates if path.is_file()]


def _fetched(model: Model, file: ModelFile, places: Places) -> Path:
    return places.weights / model.name / PurePosixPath(file.path).name


def _is_address(mirror: str) -> bool:
    return "://" in mirror


def mirror_fault(mirror: str) -> str:
    """Why this mirror cannot be used; empty if it can."""
    if not mirror or mirror.startswith(("https://", "http://")):
        return ""
    if _is_address(mirror):
        return "an address must begin with https:// or http://"
    return "" if Path(mirror).expanduser().is_dir() else f"there is no folder {mirror}"


def _check_mirror(places: Places) -> None:
    if fault := mirror_fault(places.mirror):
        raise FetchError(
            f"CF_MODELS_MIRROR={places.mirror}: {fault}",
            hint="Set CF_MODELS_MIRROR to a folder that exists or to an address that begins with "
            "https:// or http://, or leave it out.",
        )


def _unaccepted(
    model: Model, files: Sequence[_Unaccepted], stray: Sequence[str], new: Sequence[str]
) -> FetchError:
    """The error; `new` are hashes accepted in this run, which must be given again."""
    digests = dict.fromkeys((*new, *(file.digest for file in files)))
    flags = " ".join(f"--accept-hash {model.name}={digest}" for digest in digests)
    it = "it" if len(files) == 1 else "them"
    hint = f"Compare {it} with the publisher's. If correct, run again with {flags}"
    if any(file.wrong for file in files):
        hint = f"Put the right file there. To use {it}, if you trust the origin: {flags}"
    reasons = [file.message for file in files]
    if stray:
        reasons.append(f"--accept-hash gave {' and '.join(stray)}, which is not the file's hash")
    return FetchError(
        f"model {model.name}: {'; '.join(reasons)}",
        hint=hint,
        details={
            "model": model.name,
            "path": str(files[0].path),
            "sha256": files[0].digest,
            "files": [{"path": str(file.path), "sha256": file.digest} for file in files],
        },
    )
