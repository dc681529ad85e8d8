"""Finds or downloads the files of a model, and proves them by their hashes.

A file is looked for beside the build file, in the mirror (CF_MODELS_MIRROR, a folder or an
address), among earlier downloads, and at its sources, in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compreface_cli.errors import FetchError, UnreachableError
from compreface_cli.models import accepted, prepare, proofs, reach
from compreface_cli.models.accepted import Accepted
from compreface_cli.models.catalogue import about
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import sha256_of
from compreface_cli.models.needed import first
from compreface_cli.models.places import Places, addresses, fetched, is_address, is_proven, local
from compreface_cli.models.sources import Source
from compreface_cli.models.transfer import Limits, Progress

if TYPE_CHECKING:
    from compreface_cli.models.registry import Local
    from compreface_cli.models.unpack import Unpacking, Wanted
    from compreface_cli.models.vouched import Record


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


@dataclass(slots=True)
class Run:
    """What all models of one run of the store share."""

    places: Places
    accept: Accepted  # of this run: model -> SHA-256s
    note: Callable[[str], None]
    progress: Progress
    limits: Limits | None = None
    local: Local | None = None  # opens the images that Docker has
    unpacking: Unpacking | None = None  # made at the first archive or image
    models: Sequence[Model] = ()  # those that are to be fetched
    unreached: reach.Unreached = field(default_factory=dict)
    of_mirror: Record | None = None  # what a mirror at an address vouches for; read when needed

    def accepts(self, model: Model) -> Sequence[str]:
        return self.accept.get(model.name, ())

    def unpack(self, model: Model, file: ModelFile, source: Source) -> None:
        """Fetch the file from an archive or image; raises GiveUp, FetchError."""
        from compreface_cli.models import unpack

        if self.unpacking is None:
            self.unpacking = unpack.Unpacking(
                self.places, self.progress, self.note, self.limits or Limits(), self.local,
                unreached=self.unreached,
            )  # fmt: skip
            self.unpacking.all = [
                self._wanted(choice, each)
                for choice in (first(other, self.places) for other in self.models)
                for each in choice.files
                if not any(local(choice, each, self.places))
            ]
        self.unpacking.take(self._wanted(model, file), source)

    def vouched(self, model: Model, file: ModelFile) -> dict[str, str]:
        """By source, the hashes that a mirror at an address vouches for."""
        from compreface_cli.models import vouched

        if self.of_mirror is None:
            self.of_mirror = vouched.read(
                self.places, progress=self.progress, note=self.note,
                limits=self.limits or Limits(), unreached=self.unreached,
            )  # fmt: skip
        return vouched.hashes(self.of_mirror, model, file)

    def _wanted(self, model: Model, file: ModelFile) -> Wanted:
        from compreface_cli.models.unpack import Wanted

        return Wanted(model, file, right_hashes(model, file, self.places, self.accepts(model)))


def in_order(model: Model, run: Run) -> list[Model]:
    """The choices of the model: first those whose files all lie here, then the others."""
    choices = model.choices
    if len(choices) == 1:
        return [*choices]

    def lies_here(choice: Model) -> bool:
        try:
            return all(
                lying_here(choice, file, run.places, run.accepts(model), _silent)
                for file in choice.files
            )
        except Unaccepted:
            return False

    return sorted(choices, key=lambda choice: not lies_here(choice))


def first_of(model: Model, run: Run) -> dict[str, tuple[Path, str]]:
    """As `all_of`, of the first choice of the model that can be had; names every attempt."""
    attempts: list[tuple[Model, FetchError]] = []
    for choice in in_order(model, run):
        note_failure(attempts, choice, run)
        try:
            return all_of(choice, run)
        except FetchError as error:
            attempts.append((choice, error))
    raise none_of(model, attempts)


def all_of(model: Model, run: Run) -> dict[str, tuple[Path, str]]:
    """The local path and verified hash of each file of a choice, by its path in the entry.

    Raises FetchError (missing, wrong or unaccepted file), ConflictError.
    """
    obtained, unknown = {}, []
    for file in model.files:
        try:
            obtained[file.path] = _obtain(model, file, run)
        except Unaccepted as unaccepted:
            unknown.append(unaccepted)
    if unknown:
        accept = run.accepts(model)
        proven = [digest for _, digest in obtained.values()]
        stray = strays(model, accept, proven, unknown)
        again = newly_accepted(model, run.places, accept, proven)
        raise refusal(model, unknown, stray, again)
    return obtained


def foreseen(model: Model, run: Run) -> None:
    """Raises what `all_of` would of the files that lie here; asks no address."""
    accept = run.accepts(model)
    proven: list[str] = []
    unknown = []
    for file in model.files:
        try:
            here = lying_here(model, file, run.places, accept, run.note)
            if here is None and not addresses(file, run.places):
                raise no_file(model, file, run.places)
            proven += [here[1]] if here else []
        except Unaccepted as unaccepted:
            unknown.append(unaccepted)
    if unknown:
        all_here = len(proven) + len(unknown) == len(model.files)
        stray = strays(model, accept, proven, unknown) if all_here else []
        raise refusal(model, unknown, stray, newly_accepted(model, run.places, accept, proven))


def note_failure(attempts: Sequence[tuple[Model, FetchError]], choice: Model, run: Run) -> None:
    """Note why the choice before this one has failed."""
    if attempts:
        run.note(f"{attempts[-1][1].message}. Trying another file, {choice.format}")


def none_of(model: Model, attempts: Sequence[tuple[Model, FetchError]]) -> FetchError:
    """The error of a model of which every choice has failed: that of its only one, or of all."""
    errors = [error for _, error in attempts]
    if len(errors) == 1:
        return errors[0]
    reasons = [
        f"{choice.format}: {error.message.removeprefix(f'model {model.name}: ')}"
        for choice, error in attempts
    ]
    absent = all(isinstance(error, UnreachableError) for error in errors)
    details = {**errors[0].details, "attempts": reasons}
    if all("unreached" in error.details for error in errors):
        hosts = {host: why for each in errors for host, why in each.details["unreached"].items()}
        return UnreachableError(
            f"could not download model {model.name}: {reach.words(hosts)}",
            hint=errors[0].hint,
            details={**details, "unreached": hosts},
        )
    return (UnreachableError if absent else FetchError)(
        f"model {model.name} cannot be had from any of its files. As {'; as '.join(reasons)}",
        hint=errors[0].hint,
        details=details,
    )


def _obtain(model: Model, file: ModelFile, run: Run) -> tuple[Path, str]:
    """The local path and verified hash of the source file, downloaded if necessary."""
    accept = run.accepts(model)
    here = lying_here(model, file, run.places, accept, run.note)
    if here is not None:
        return here
    sources = addresses(file, run.places)
    if not sources:
        raise no_file(model, file, run.places)
    from compreface_cli.models.download import fetch

    wanted = right_hashes(model, file, run.places, accept)
    # With several files, it is not known which accepted hash belongs to which.
    proof = wanted if file.sha256 or len(model.files) == 1 else ()
    vouched: dict[str, str] = {}
    if not wanted and is_proven(file) and is_address(run.places.mirror):
        vouched = run.vouched(model, file)
        proof = tuple(dict.fromkeys(vouched.values()))
    target = fetched(model, file, run.places)
    try:
        fetch(
            sources, target, sha256=proof, place=file.path, progress=run.progress, note=run.note,
            unpack=partial(run.unpack, model, file), limits=run.limits, unreached=run.unreached,
        )  # fmt: skip
    finally:
        with suppress(OSError):  # unless there is a file in it
            target.parent.rmdir()
    digest = sha256_of(target)
    for source in (source for source, proven in vouched.items() if proven == digest):
        proofs.record(run.places.proven, model.name, file.path, source, digest)
    if digest not in right_hashes(model, file, run.places, accept):  # with what was proven just now
        raise Unaccepted(target, digest)
    return target, digest


def _silent(text: str) -> None:
    pass


def lying_here(
    model: Model,
    file: ModelFile,
    places: Places,
    accept: Sequence[str],
    note: Callable[[str], None],
) -> tuple[Path, str] | None:
    """The local path and verified hash of the file; None if it must be downloaded."""
    sources, wanted = addresses(file, places), right_hashes(model, file, places, accept)
    wrong: list[tuple[Path, str]] = []
    for path in local(model, file, places):
        digest = sha256_of(path)
        if digest in wanted:
            return path, digest
        if not file.sha256 and not is_proven(file):
            raise Unaccepted(path, digest, changed=_accepted_before(model, file, places))
        if path == fetched(model, file, places) and sources:
            continue  # it is fetched again
        wrong.append((path, digest))
        if sources:  # else the error below reports it
            note(_not_used(path, digest, model, wanted))
    if wrong and not sources:
        actual = "; ".join(f"{path} has SHA-256 {digest}" for path, digest in wrong)
        raise Unaccepted(*wrong[0], f"wrong hash: {actual}, expected {' or '.join(wanted)}")
    return None


def _not_used(path: Path, digest: str, model: Model, wanted: Sequence[str]) -> str:
    if wanted:
        return (
            f"{path} is not used for model {model.name}: it is damaged or another file. It has "
            f"SHA-256 {digest}, expected {' or '.join(wanted)}; copy it there again"
        )
    return (
        f"{path} is not used for model {model.name}: its hash is not accepted. To use it: "
        f"--accept-hash {model.name}={digest}"
    )


def right_hashes(
    model: Model, file: ModelFile, places: Places, accept: Sequence[str] = ()
) -> tuple[str, ...]:
    """The hashes that are right for the file: its own, those accepted, and those proven."""
    by_user = (*accepted.read(places.accepted).get(model.name, ()), *accept)
    return tuple(dict.fromkeys((*file.sha256, *by_user, *proofs.known(model, file, places))))


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
