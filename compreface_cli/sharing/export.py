"""`cf export`: writes a build, with what is known of its models, into one file for others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compreface_cli import __version__
from compreface_cli.builds import builds
from compreface_cli.builds.builds import BuildFile
from compreface_cli.builds.spec import ModelSpec
from compreface_cli.cleanup import interruptible
from compreface_cli.config import settings
from compreface_cli.config.textfile import read_bytes
from compreface_cli.deploy import licences
from compreface_cli.docker import image_files
from compreface_cli.errors import CfError, ConfigurationError, ConflictError
from compreface_cli.models import accepted, catalogue, prepare, store
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import disk_error, sha256_of
from compreface_cli.models.places import Places
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.sharing import archive, manifest
from compreface_cli.sharing.manifest import Hash, Inside, Manifest, SharedModel
from compreface_cli.sharing.offer import all_files
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Exported:
    """The file that was written, and its manifest."""

    path: Path
    sha256: str
    size: int
    manifest: Manifest


def export(
    build: str,
    target: Path,
    out: Output,
    *,
    with_models: bool = False,
    force: bool = False,
    accept_licence: Sequence[str] | None = None,
) -> Exported:
    """Write the build to `target`, whole or not at all.

    Raises ConflictError if the file exists, unless `force`; ConfigurationError for an unknown or
    faulty build; FetchError for a model file that cannot be obtained.
    """
    _refuse(target, force)
    file = builds.load(build)
    plan, places = plan_of(file), Places()
    models = plan.models
    with interruptible():
        if with_models:
            _agree(plan, accept_licence, places, out)
        found = _obtained(models, places, out) if with_models else {}
        inside = {
            path: Inside(sha256=digest, bytes=place.stat().st_size)
            for path, (place, digest) in sorted(found.items())
        }
        described = Manifest(
            format=1,
            cf=__version__,
            build=file.name,
            models=[_shared(model, file, places, found) for model in models],
            files=inside,
        )
        texts = {
            archive.MANIFEST: manifest.text_of(described),
            archive.BUILD: read_bytes(file.path, str(file.path)),
        }
        with out.progress(f"writing {target}"):
            _write(target, texts, {path: place for path, (place, _) in found.items()})
    return Exported(target, sha256_of(target), target.stat().st_size, described)


def _refuse(target: Path, force: bool) -> None:
    if target.is_dir():
        raise ConfigurationError(
            f"{target} is a folder", hint=f"Name a file, like {target / 'build.cf.tar'}."
        )
    if not target.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {target.parent}", hint=f"Make it first: mkdir -p {target.parent}"
        )
    if (target.exists() or target.is_symlink()) and not force:
        raise ConflictError(
            f"{target} exists and is not overwritten",
            hint="Choose another name, or add --force.",
        )


def _shared(
    model: Model, build: BuildFile, places: Places, found: Mapping[str, tuple[Path, str]]
) -> SharedModel:
    own = {entry.name: entry for entry in build.spec.models}
    entry = own.get(model.name)
    return SharedModel(
        entry=entry or _of_catalogue(model.name),
        known_from="build" if entry else "catalogue",
        hashes=_hashes(model, places, found),
    )


def _of_catalogue(name: str) -> ModelSpec:
    from compreface_cli.builds.spec import model_from_data

    entry = {**(catalogue.entry(name) or {})}
    entry.pop("about", None)
    return model_from_data(entry, f"the catalogue's {name}")


def _hashes(model: Model, places: Places, found: Mapping[str, tuple[Path, str]]) -> dict[str, Hash]:
    """The hash of each file that was put in, or that the prepared model was made from.

    Without either, the one that the user accepted for a model of one file.
    """
    kept = accepted.read(places.accepted).get(model.name, [])
    prepared = prepare.read_record(places.models / model.name)
    usable = prepared is not None and store.state(model, places) == "here"
    made_from = prepared.sources if prepared is not None and usable else {}
    hashes = {}
    for file in all_files(model):
        digest = found[file.path][1] if file.path in found else made_from.get(file.path, "")
        if not digest and len(all_files(model)) == 1 and kept:
            digest = kept[-1]
        if digest:
            hashes[file.path] = Hash(sha256=digest, by=_standing(file, digest, kept))
    return hashes


def _standing(file: ModelFile, digest: str, kept: list[str]) -> Literal["entry", "source", "user"]:
    if digest in file.sha256:
        return "entry"
    return "user" if digest in kept else "source"


def _agree(plan: Plan, accepts: Sequence[str] | None, places: Places, out: Output) -> None:
    """Have the terms of the weights accepted that would be fetched; raises FetchError."""
    chosen = settings.resolve({"accept_licence": accepts})
    licences.agree(
        plan.models,
        licences.terms_of(plan),
        chosen.get("accept_licence") or (),
        chosen.origin("accept_licence"),
        out,
        fetches=lambda model: not store.lies_here(model, places),
    )


def _obtained(
    models: tuple[Model, ...], places: Places, out: Output
) -> dict[str, tuple[Path, str]]:
    """The local path and verified hash of each model file, by its path below a mirror."""
    obtained, _ = store.files(
        models, out.progress, note=out.note, places=places, local=image_files.opened
    )
    return {path: proven for files in obtained.values() for path, proven in files.items()}


def _write(target: Path, texts: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise disk_error(error, target) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            archive.write(stream, texts, files)
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    except archive.BrokenArchive as error:
        raise CfError(f"{target} cannot be written: {error}") from error
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
