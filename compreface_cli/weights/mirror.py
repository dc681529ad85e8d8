"""Makes a mirror: a folder with the source files of models, for a machine without a network.

There `CF_MODELS_MIRROR` names the folder. The files lie under the paths of their entries. Beside
them `proven-hashes.json` has the hashes that the digest of an archive or image has proven, which
the other machine accepts, and `models.json` says for people what the files are, and their terms.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from compreface_cli import __version__
from compreface_cli.cleanup import interruptible
from compreface_cli.docker import image_files
from compreface_cli.errors import ConfigurationError, FetchError
from compreface_cli.models import consent, proofs, store
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import (
    check_room,
    disk_error,
    locked,
    make_folder,
    read_table,
    sha256_of,
    write_table,
)
from compreface_cli.models.places import mirror_folder
from compreface_cli.models.store import Places
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output
from compreface_cli.weights import pull
from compreface_cli.weights.pull import Request, Wanted

INDEX = "models.json"
# published: the entry has the hash; digest: that of its archive or image proves the file;
# accepted: the user accepted the hash, as the other machine must
Proof = Literal["published", "digest", "accepted"]

Files: TypeAlias = Mapping[str, tuple[Path, str]]  # path in the entry -> local path, SHA-256


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A file in the mirror; `was_there`: before this run already."""

    model: str
    path: str  # in the mirror
    sha256: str
    bytes: int
    proof: Proof
    sources: tuple[str, ...]
    was_there: bool

    @property
    def flag(self) -> str:
        """What the other machine must be given for this file; empty: nothing."""
        return f"--accept-hash {self.model}={self.sha256}" if self.proof == "accepted" else ""


@dataclass(frozen=True, slots=True)
class Made:
    """The files of a mirror; `missing`: the models with a fallback that no source delivered."""

    files: tuple[Mirrored, ...]
    missing: tuple[str, ...]

    @property
    def flags(self) -> str:
        """What `cf` on the other machine must be given."""
        flags = [each.flag for each in self.files if each.flag]
        if self.missing:  # it tries to fetch them, and then takes the fallbacks
            flags.append(f"--accept-licence {','.join(self.missing)}")
        return " ".join(flags)


def make(request: Request, folder: Path, out: Output) -> Made:
    """Fetch what is missing of the models' files, and put them into the folder; prepares nothing.

    Each file is written whole or not at all, and one that is there already is kept. Raises as
    `store.files` does, and FetchError if the folder cannot be written.
    """
    folder = folder.expanduser()
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(
            f"{folder} is not a folder", hint="Name one with -o DIR; it is made if it is missing."
        )
    places = Places()
    if not places.mirror and folder.is_dir():  # what an earlier run has put there is used again
        places = replace(places, mirror=str(folder))
    with interruptible():
        wanted = pull.settle(request, out, mirrored=places)

        obtained, missing = store.files(
            wanted.models,
            Heartbeat(out).progress,
            note=out.note,
            accept_hash=request.accept_hash,
            optional=wanted.optional,
            places=places,
            local=image_files.opened,
        )
        wanted.warn_of(missing, out)
        return Made(tuple(put(wanted, obtained, folder, places, out)), tuple(missing))


def put(
    wanted: Wanted, obtained: Mapping[str, Files], folder: Path, places: Places, out: Output
) -> list[Mirrored]:
    """Put the files that were obtained of each model into the folder, and list them there."""
    make_folder(folder)
    with locked(folder / INDEX, note=out.note):
        done = [
            _put(model, path, source, digest, folder, places, out)
            for model in wanted.models
            for path, (source, digest) in obtained.get(model.name, {}).items()
        ]
        _index(wanted, done, folder)
    return done


def _put(
    model: Model, path: str, source: Path, digest: str, folder: Path, places: Places, out: Output
) -> Mirrored:
    """Put one file into the mirror, with the record of what proves it."""
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts:
        raise FetchError(
            f"model {model.name}: {path} lies outside of a mirror",
            hint="Give the file a path below the build file.",
        )
    file = next(f for choice in model.choices for f in choice.files if f.path == path)
    target = folder / inside
    was_there = target.is_file() and sha256_of(target) == digest
    if not was_there:
        with out.progress(f"writing {target}"):
            _write(source, target)
    proof = _proof(model, file, digest, folder, places)
    size = target.stat().st_size
    return Mirrored(model.name, path, digest, size, proof, file.sources, was_there)


def _write(source: Path, target: Path) -> None:
    """The file at its place; a download shares its bytes with it where both are on one disk."""
    part = target.with_name(f".{target.name}.part")
    make_folder(target.parent)
    try:
        part.unlink(missing_ok=True)
        if source.is_relative_to(Places().weights):
            with suppress(OSError):
                os.link(source, part)
        if not part.exists():
            check_room(target.name, source.stat().st_size, target.parent)
            shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        part.unlink(missing_ok=True)


def _proof(model: Model, file: ModelFile, digest: str, folder: Path, places: Places) -> Proof:
    """What proves the file; a hash that follows from a digest is recorded in the mirror."""
    if digest in file.sha256:
        return "published"
    records = [places.proven]
    if other := mirror_folder(places):  # a mirror of a mirror
        records.append(other / proofs.NAME)
    for source in file.sources:
        for record in records:
            if proofs.recorded(record, model.name, file.path, source) == digest:
                proofs.record(folder / proofs.NAME, model.name, file.path, source, digest)
                return "digest"
    return "accepted"


def _index(wanted: Wanted, done: Sequence[Mirrored], folder: Path) -> None:
    """Write what the mirror contains, keeping what earlier runs have put there."""
    path = folder / INDEX
    what = "the mirror's list of models"
    kept = read_table(path, what=what, values=object, without_it="the list begins anew")
    models: dict[str, Any] = dict(kept.get("models") or {})
    accepted = consent.read(consent.path())
    for name in dict.fromkeys(each.model for each in done):
        models[name] = {
            "terms": asdict(wanted.terms[name]),
            "accepted": accepted.get(name),
            "files": {
                each.path: {
                    "sha256": each.sha256,
                    "bytes": each.bytes,
                    "proof": each.proof,
                    "sources": list(each.sources),
                }
                for each in done
                if each.model == name
            },
        }
    written = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"schema": 1, "cf": __version__, "written": written, "models": models}
    write_table(path, document)
