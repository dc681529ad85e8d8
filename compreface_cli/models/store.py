"""The models of this machine: found, fetched, proven by hash, prepared; what the engine loads.

A file is looked for beside the build file, in the mirror (CF_MODELS_MIRROR, a folder or an
address), among what was fetched before, and at its sources, in that order.
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
    """Where the store works; the defaults are this user's."""

    models: Path = field(default_factory=paths.models_dir)  # prepared, one folder a model
    weights: Path = field(default_factory=lambda: paths.cache_dir() / "weights")  # as fetched
    accepted: Path = field(default_factory=lambda: paths.state_dir() / "accepted-hashes.json")
    mirror: str = field(default_factory=_mirror_of_environment)  # "": none


def state(model: Model, places: Places | None = None, *, by_hash: bool = False) -> State:
    """Whether the model is ready on this machine; reads sizes only, hashes if `by_hash`.

    "missing": never prepared, or made from another entry or file than the build now names.
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
    """Whether `ensure` can hope: prepared, a file in reach, or an address to ask."""
    places = places or Places()
    if state(model, places) == "here":
        return True
    return all(
        bool(file.sources) or _is_address(places.mirror) or any(_local(model, file, places))
        for file in model.files
    )


def missing_hint(model: Model, places: Places | None = None) -> str:
    """How a user gives the files of a model that has no source."""
    places = places or Places()
    one = len(model.files) == 1
    it, its, kind = ("it", "Its hash is", "file") if one else ("them", "Their hashes are", "files")
    there = bool(places.mirror) and Path(places.mirror).expanduser().is_dir()
    at = places.mirror if there else "DIR"
    whole = " and ".join(f"{at}/{file.path}" for file in model.files)
    names = " and ".join(file.path for file in model.files)
    beside = f" Or put {it} beside the build file, as {names}." if model.build_folder else ""
    known = all(file.sha256 for file in model.files)
    asked = f" {its} asked for once (--accept-hash {model.name}=SHA256)."
    known_as = None if model.build_folder else about().get(model.name)
    origin = f" Origin: {known_as.origin}" if known_as else ""
    return (
        f"If you have the {kind}, put {it} into a folder as {whole} and set "
        f"CF_MODELS_MIRROR={at}.{beside}{'' if known else asked}{origin}"
    )


def fingerprint(model: Model, places: Places | None = None) -> str | None:
    """SHA-256 of the prepared weights, or None: two of them are two embedding spaces."""
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
    """The prepared folder of each model, found, fetched and made as needed.

    `timeout_s` bounds the preparing of each; by default prepare.CONVERT_TIMEOUT_S.
    `python` gives the interpreter of the engine's environment and is called only if a model has to
    be prepared. Raises FetchError (missing, wrong or unaccepted file), UsageError (`accept_hash`
    names no model of these), ConflictError (another cf holds the lock).
    """
    places = places or Places()
    accept_hash = _of_these(models, accept_hash)
    leftovers.sweep(".", places.models)
    ready = {}
    for model in models:
        folder = places.models / model.name
        with locked(folder, note=note):
            said = accept_hash.get(model.name, ())
            if not _usable(model, places, note, said):
                _check_mirror(places)
                found = _obtain_all(model, places, said, progress, note, limits)
                with progress(f"preparing model {model.name}", None):
                    prepare.prepare(
                        model, found, folder,
                        python=python(), portrait=portrait, timeout_s=timeout_s,
                    )  # fmt: skip
                # Now: a file that the converter refuses was accepted in vain.
                digests = [digest for _, digest in found.values()]
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
        said = accept_hash.get(model.name, ())
        proven: list[str] = []
        unknown = []
        for file in model.files:
            try:
                here = _lying_here(model, file, places, said, _silent)
                if here is None and not _addresses(file, places):
                    raise _missing(model, file, places)
                proven += [here[1]] if here else []
            except _Unaccepted as unaccepted:
                unknown.append(unaccepted)
        if unknown:
            all_here = len(proven) + len(unknown) == len(model.files)
            stray = _stray(model, said, proven, unknown) if all_here else []
            raise _unaccepted(model, unknown, stray, _new(model, places, said, proven))
    return frozenset(ready)


def _silent(text: str) -> None:
    pass


def _of_these(models: Sequence[Model], accept_hash: Accepted | None) -> Accepted:
    unknown = set(accept_hash or {}) - {model.name for model in models}
    if unknown:
        raise UsageError(
            f"--accept-hash: {', '.join(sorted(unknown))} is no model of this build",
            hint="Models of this build: " + (", ".join(m.name for m in models) or "none."),
        )
    return accept_hash or {}


def _usable(
    model: Model, places: Places, note: Callable[[str], None], accept: Sequence[str] = ()
) -> bool:
    """Whether what is prepared can be used as it is; says why not, but for a file not accepted."""
    found = state(model, places, by_hash=True)
    if found == "damaged":
        note(f"model {model.name} is damaged in {places.models / model.name}: preparing it anew")
        return False
    if found == "missing":
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
                note(f"{path} has changed: preparing model {model.name} anew")
            return False
    return True


def _fits(model: Model, sources: Mapping[str, str], places: Places) -> bool:
    """Whether what was prepared came from files that the build accepts."""
    known = accepted.read(places.accepted).get(model.name, [])
    return all(sources.get(file.path) in (*file.sha256, *known) for file in model.files)


class _Unaccepted(Exception):
    """A file is there, and nobody has said yet that its hash is right."""

    def __init__(self, path: Path, digest: str, wrong: str = "", *, changed: bool = False) -> None:
        super().__init__(str(path))
        self.path, self.digest = path, digest
        self.wrong = wrong  # what is said of a file whose right hash is known
        unknown = f"the hash of {path} is not known yet; it is {digest}"
        if changed:
            unknown = f"{path} has changed since you accepted it; its hash is now {digest}"
        self.said = wrong or unknown


def _obtain_all(
    model: Model,
    places: Places,
    accept: Sequence[str],
    progress: Progress,
    note: Callable[[str], None],
    limits: Limits | None,
) -> dict[str, tuple[Path, str]]:
    """Where each source file lies, and its proven hash, by its path in the entry."""
    found, unknown = {}, []
    for one in model.files:
        try:
            found[one.path] = _obtain(model, one, places, accept, progress, note, limits)
        except _Unaccepted as file:
            unknown.append(file)
    if unknown:
        proven = [digest for _, digest in found.values()]
        stray = _stray(model, accept, proven, unknown)
        raise _unaccepted(model, unknown, stray, _new(model, places, accept, proven))
    return found


def _stray(
    model: Model, accept: Sequence[str], proven: Sequence[str], unknown: Sequence[_Unaccepted]
) -> list[str]:
    """Those accepted hashes that no file of the model has."""
    own = {digest for file in model.files for digest in file.sha256}
    known = {*own, *proven, *(file.digest for file in unknown)}
    return [digest for digest in accept if digest not in known]


def _new(model: Model, places: Places, accept: Sequence[str], found: Iterable[str]) -> list[str]:
    """Those found hashes that count in this run only: they have to be given again."""
    kept = accepted.read(places.accepted).get(model.name, ())
    return [one for one in _beyond_the_entry(model, found) if one in accept and one not in kept]


def _beyond_the_entry(model: Model, digests: Iterable[str]) -> list[str]:
    own = {digest for file in model.files for digest in file.sha256}
    return [digest for digest in digests if digest not in own]


def _obtain(
    model: Model,
    one: ModelFile,
    places: Places,
    accept: Sequence[str],
    progress: Progress,
    note: Callable[[str], None],
    limits: Limits | None,
) -> tuple[Path, str]:
    """Where the source file lies, and its proven hash; fetched if it is not here."""
    here = _lying_here(model, one, places, accept, note)
    if here is not None:
        return here
    urls, wanted = _addresses(one, places), _wanted(model, one, places, accept)
    if urls:
        from compreface_cli.models.download import fetch

        target = _fetched(model, one, places)
        # Of several files without a hash nobody said which accepted one is whose.
        proof = wanted if one.sha256 or len(model.files) == 1 else ()
        fetch(
            urls, target, sha256=proof, place=one.path,
            progress=progress, note=note, limits=limits,
        )  # fmt: skip
        digest = sha256_of(target)
        if digest not in wanted:
            raise _Unaccepted(target, digest)
        return target, digest
    raise _missing(model, one, places)


def _missing(model: Model, one: ModelFile, places: Places) -> FetchError:
    return FetchError(
        f"model {model.name}: {one.path} is not on this machine, and no address is known for it",
        hint=missing_hint(model, places),
    )


def _addresses(one: ModelFile, places: Places) -> list[str]:
    mirror = places.mirror
    own = [f"{mirror.rstrip('/')}/{quote(one.path)}"] if _is_address(mirror) else []
    return [*own, *one.sources]


def _wanted(model: Model, one: ModelFile, places: Places, accept: Sequence[str]) -> tuple[str, ...]:
    """The hashes that are right for the file."""
    # What was accepted for a model without saying for which file counts for those without a hash,
    # and for the others beside their own.
    said = (*accepted.read(places.accepted).get(model.name, ()), *accept)
    return tuple(dict.fromkeys((*one.sha256, *said)))


def _lying_here(
    model: Model,
    one: ModelFile,
    places: Places,
    accept: Sequence[str],
    note: Callable[[str], None],
) -> tuple[Path, str] | None:
    """The file on this machine, and its proven hash; None if there is none but an address may."""
    urls, wanted = _addresses(one, places), _wanted(model, one, places, accept)
    wrong: list[tuple[Path, str]] = []
    for path in _local(model, one, places):
        digest = sha256_of(path)
        if digest in wanted:
            return path, digest
        if not one.sha256:
            raise _Unaccepted(path, digest, changed=_accepted_before(model, one, places))
        wrong.append((path, digest))
        if urls:  # else the error below says it
            note(
                f"{path} is another file than the entry of model {model.name} names: its hash is "
                f"not accepted. If you mean it: --accept-hash {model.name}={digest}"
            )
    if wrong and not urls:
        has = "; ".join(f"{path} has SHA-256 {digest}" for path, digest in wrong)
        other = "another file than the entry names"
        raise _Unaccepted(*wrong[0], f"{other}: {has}, expected {' or '.join(wanted)}")
    return None


def _accepted_before(model: Model, one: ModelFile, places: Places) -> bool:
    """Whether a former content of that file was accepted, by all that is on record."""
    known = accepted.read(places.accepted).get(model.name, ())
    prepared = prepare.read_record(places.models / model.name)
    if prepared is not None:
        return prepared.sources.get(one.path) in known
    return bool(known) and len(model.files) == 1


def _local(model: Model, one: ModelFile, places: Places, *, mirror: bool = True) -> Iterable[Path]:
    """The files on this machine that may be it."""
    candidates = []
    if model.build_folder:
        candidates.append(Path(model.build_folder) / one.path)
    if mirror and places.mirror and not _is_address(places.mirror):
        inside = PurePosixPath(one.path)
        if not inside.is_absolute() and ".." not in inside.parts:
            candidates.append(Path(places.mirror).expanduser() / inside)
    if mirror:
        candidates.append(_fetched(model, one, places))
    return [path for path in candidates if path.is_file()]


def _fetched(model: Model, one: ModelFile, places: Places) -> Path:
    return places.weights / model.name / PurePosixPath(one.path).name


def _is_address(mirror: str) -> bool:
    return "://" in mirror


def mirror_fault(mirror: str) -> str:
    """Why this mirror can give nothing; empty when it may."""
    if not mirror or mirror.startswith(("https://", "http://")):
        return ""
    if _is_address(mirror):
        return "only https:// and http:// addresses are asked"
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
    """The error; `new` are hashes accepted in this run, which the next one has to hear again."""
    digests = dict.fromkeys((*new, *(file.digest for file in files)))
    flags = " ".join(f"--accept-hash {model.name}={digest}" for digest in digests)
    it = "it" if len(files) == 1 else "them"
    hint = f"Compare {it} with what the publisher says. If right, run again with {flags}"
    if any(file.wrong for file in files):
        hint = f"Put the right file there. If you mean {it}, and know where {it} came from: {flags}"
    said = [file.said for file in files]
    if stray:
        said.append(f"--accept-hash gave {' and '.join(stray)}, which is not the file's hash")
    return FetchError(
        f"model {model.name}: {'; '.join(said)}",
        hint=hint,
        details={
            "model": model.name,
            "path": str(files[0].path),
            "sha256": files[0].digest,
            "files": [{"path": str(file.path), "sha256": file.digest} for file in files],
        },
    )
