"""Finds or downloads the files of a model, and proves them by their hashes.

A file is looked for beside the build file, in the mirror (CF_MODELS_MIRROR, a folder or an
address), among earlier downloads, and at its sources, in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from compreface_cli.errors import FetchError, UnreachableError
from compreface_cli.models import accepted, prepare
from compreface_cli.models.catalogue import about
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import sha256_of
from compreface_cli.models.places import Places, addresses, fetched, local
from compreface_cli.models.transfer import Limits, Progress


class Unaccepted(Exception):
    """A file exists, but its hash is not accepted."""

    def __init__(self, path: Path, digest: str, wrong: str = "", *, changed: bool = False) -> None:
        super().__init__(str(path))
        self.path, self.digest = path, digest
        self.wrong = wrong  # the message for a file whose right hash is known
        unknown = f"the hash of {path} is not accepted yet; it is {digest}"
        if changed:
            unknown = f"{path} has changed since you accepted it; its hash is now {digest}"
        self.message = wrong or unknown


def obtain_all(
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
        except Unaccepted as unaccepted:
            unknown.append(unaccepted)
    if unknown:
        proven = [digest for _, digest in obtained.values()]
        stray = strays(model, accept, proven, unknown)
        raise refusal(model, unknown, stray, newly_accepted(model, places, accept, proven))
    return obtained


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
    here = lying_here(model, file, places, accept, note)
    if here is not None:
        return here
    urls, wanted = addresses(file, places), right_hashes(model, file, places, accept)
    if urls:
        from compreface_cli.models.download import fetch

        target = fetched(model, file, places)
        # With several files, it is not known which accepted hash belongs to which.
        proof = wanted if file.sha256 or len(model.files) == 1 else ()
        fetch(
            [source.url for source in urls], target, sha256=proof, place=file.path,
            progress=progress, note=note, limits=limits,
        )  # fmt: skip
        digest = sha256_of(target)
        if digest not in wanted:
            raise Unaccepted(target, digest)
        return target, digest
    raise no_file(model, file, places)


def lying_here(
    model: Model,
    file: ModelFile,
    places: Places,
    accept: Sequence[str],
    note: Callable[[str], None],
) -> tuple[Path, str] | None:
    """The local path and verified hash of the file; None if it must be downloaded."""
    urls, wanted = addresses(file, places), right_hashes(model, file, places, accept)
    wrong: list[tuple[Path, str]] = []
    for path in local(model, file, places):
        digest = sha256_of(path)
        if digest in wanted:
            return path, digest
        if not file.sha256:
            raise Unaccepted(path, digest, changed=_accepted_before(model, file, places))
        wrong.append((path, digest))
        if urls:  # else the error below reports it
            note(
                f"{path} is not used for model {model.name}: its hash is not accepted. To use it: "
                f"--accept-hash {model.name}={digest}"
            )
    if wrong and not urls:
        actual = "; ".join(f"{path} has SHA-256 {digest}" for path, digest in wrong)
        raise Unaccepted(*wrong[0], f"wrong hash: {actual}, expected {' or '.join(wanted)}")
    return None


def right_hashes(
    model: Model, file: ModelFile, places: Places, accept: Sequence[str] = ()
) -> tuple[str, ...]:
    """The hashes that are right for the file: its own, and those accepted for the model."""
    by_user = (*accepted.read(places.accepted).get(model.name, ()), *accept)
    return tuple(dict.fromkeys((*file.sha256, *by_user)))


def _accepted_before(model: Model, file: ModelFile, places: Places) -> bool:
    """Whether another content of that file was accepted before, as far as is recorded."""
    known = accepted.read(places.accepted).get(model.name, ())
    prepared = prepare.read_record(places.models / model.name)
    if prepared is not None:
        return prepared.sources.get(file.path) in known
    return bool(known) and len(model.files) == 1


def strays(
    model: Model, accept: Sequence[str], proven: Sequence[str], unknown: Sequence[Unaccepted]
) -> list[str]:
    """Those accepted hashes that no file of the model has."""
    own = {digest for file in model.files for digest in file.sha256}
    known = {*own, *proven, *(file.digest for file in unknown)}
    return [digest for digest in accept if digest not in known]


def newly_accepted(
    model: Model, places: Places, accept: Sequence[str], digests: Iterable[str]
) -> list[str]:
    """Those hashes that are accepted in this run only, so they must be given again."""
    kept = accepted.read(places.accepted).get(model.name, ())
    return [
        digest
        for digest in beyond_the_entry(model, digests)
        if digest in accept and digest not in kept
    ]


def beyond_the_entry(model: Model, digests: Iterable[str]) -> list[str]:
    own = {digest for file in model.files for digest in file.sha256}
    return [digest for digest in digests if digest not in own]


def no_file(model: Model, file: ModelFile, places: Places) -> UnreachableError:
    return UnreachableError(
        f"model {model.name}: {file.path} is not on this machine, and no address is known for it",
        hint=missing_hint(model, places),
        details={"model": model.name},
    )


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


def refusal(
    model: Model, files: Sequence[Unaccepted], stray: Sequence[str], new: Sequence[str]
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
