"""`cf import`: shows a build from a file or an address, and keeps it once the user has agreed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from compreface_cli import leftovers
from compreface_cli.builds import builds, imported
from compreface_cli.builds.imported import Import
from compreface_cli.builds.spec import NAME
from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths, settings
from compreface_cli.deploy import licences
from compreface_cli.errors import (
    CfError,
    ConfigurationError,
    ConflictError,
    FetchError,
    UsageError,
)
from compreface_cli.models.download import Limits, fetch, shown
from compreface_cli.models.files import check_room, disk_error, locked, make_folder
from compreface_cli.sharing import archive
from compreface_cli.sharing import offer as offers
from compreface_cli.sharing.offer import Offer, all_files
from compreface_cli.terminal.output import Output

_STAGED = ".import-"  # prefix of the folders in which an import is staged


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `cf import`."""

    source: str  # a path, or an http or https address
    name: str | None = None
    sha256: str | None = None
    yes: bool = False
    accept_licence: Sequence[str] = ()
    force: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """The build that was kept: its file, its record, and what was offered."""

    name: str
    path: Path
    record: Import
    offer: Offer


def import_(request: Request, out: Output) -> Kept:
    """Keep the build of that file; raises, and keeps nothing, unless the user agrees.

    ConfigurationError: no export, or none that this cf can run. FetchError: no download, or a wrong
    hash. ConflictError: the name exists. UsageError: nobody agreed.
    """
    pin = _pin(request.sha256)
    if request.name is not None and not re.fullmatch(NAME, request.name):
        raise UsageError(
            f"flag --name: {request.name!r} is not a valid name for a build",
            hint="use lower-case letters, digits and hyphens (at most 40)",
        )
    home = paths.imported_builds()
    with interruptible():
        leftovers.sweep(_STAGED, home)
        with _opened(request.source, pin, out) as (stream, source):
            with out.waiting(f"Reading {source}"):
                offer = offers.read(stream, source)
            if pin is not None and offer.contents.sha256 != pin:
                raise FetchError(
                    f"{source} has SHA-256 {offer.contents.sha256}, and --sha256 is {pin}",
                    hint="Ask its sender for the file and its SHA-256 again. Nothing was kept.",
                )
            name = request.name or offer.spec.name
            _refuse(name, request.force)
            accepted = _agreed(offer, name, request, out)
            return _keep(stream, offer, name, accepted, home, force=request.force)


def _pin(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digest = sha256.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise UsageError(
            f"flag --sha256: {sha256!r} is not a SHA-256",
            hint="It is 64 hexadecimal digits, as `sha256sum FILE` prints them.",
        )
    return digest


@contextmanager
def _opened(source: str, pin: str | None, out: Output) -> Iterator[tuple[BinaryIO, str]]:
    """The file as a stream, downloaded first from an address; and its name for messages."""
    if "://" in source:
        with _downloaded(source, pin, out) as path, path.open("rb") as stream:
            yield stream, shown(source)
        return
    path = Path(source).expanduser()
    if not path.is_file():
        kind = "is not a regular file" if path.exists() else "does not exist"
        raise ConfigurationError(
            f"{source} {kind}", hint="Name a file that `cf export` wrote, or its address."
        )
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read: {error.strerror}") from error
    with stream:
        yield stream, str(path.absolute())


@contextmanager
def _downloaded(url: str, pin: str | None, out: Output) -> Iterator[Path]:
    if not url.startswith(("https://", "http://")):
        raise UsageError(
            f"{shown(url)} is no web address", hint="Name a file, or an address with https://."
        )
    home = paths.imported_builds()
    make_folder(home)
    if url.startswith("http://") and pin is None:
        out.warning(
            f"{shown(url)} is not encrypted: another machine could change the file on its way. "
            "--sha256 proves it."
        )
    with leftovers.folder(_STAGED, home) as folder:
        target = folder / "build.cf.tar"
        try:
            fetch(
                [url], target, sha256=[pin] if pin else [],
                progress=out.progress, note=out.note, limits=Limits(max_bytes=archive.MAX_BYTES),
            )  # fmt: skip
        except FetchError as error:
            if "unreached" not in error.details:
                error.hint = (
                    "Check the address, or download the file by other means and import that."
                )
            raise
        yield target


def _refuse(name: str, force: bool) -> None:
    """Raise ConflictError if a build has that name; `force` gives way to the user's own only."""
    origin = _origin(name)
    if origin is None or (force and origin in ("imported", "bundled")):
        return
    own = "" if origin in ("imported", "bundled") else " of your own"
    raise ConflictError(
        f"there is a build {name!r}{own} already",
        hint="Choose another name: --name NAME"
        + ("." if own else f", or --force: it takes the place of that {_KINDS[origin]} build."),
        details={"build": name, "origin": origin},
    )


_KINDS = {"imported": "imported", "bundled": "bundled"}


def _origin(name: str) -> str | None:
    if name not in builds.names():
        return None
    return builds.find(name)[0]


def _agreed(offer: Offer, name: str, request: Request, out: Output) -> dict[str, dict[str, str]]:
    """Show the offer and ask; the sender's hashes that the user accepts, by model and path."""
    from compreface_cli.sharing.show import lines

    for line in lines(offer, name):
        out.note(line)
    if not request.yes and not _yes(f"Keep it as the build {name}? [y/N] ", out):
        raise UsageError("the build was not kept", hint="Nothing was changed.")
    _agree_on_terms(offer, request, out)
    claims = offer.claims()
    if not claims:
        return {}
    if not request.yes and not _yes("Accept the hashes that only its sender states? [y/N] ", out):
        out.note("Those hashes are not accepted: `cf up` will ask about the files.")
        return {}
    return {
        model: {path: known.sha256 for path, known in hashes.items()}
        for model, hashes in claims.items()
    }


def _agree_on_terms(offer: Offer, request: Request, out: Output) -> None:
    """Have the terms of the models inside accepted, as before a download."""
    inside = [
        model
        for model in offer.plan.models
        if any(file.path in offer.manifest.files for file in all_files(model))
    ]
    if not inside:
        return
    chosen = settings.resolve({"accept_licence": request.accept_licence or None})
    terms = licences.terms_of(offer.plan)
    licences.agree(
        inside,
        {model.name: terms[model.name] for model in inside},
        chosen.get("accept_licence") or (),
        chosen.origin("accept_licence"),
        out,
        fetches=lambda model: True,
        done="kept",
    )


def _yes(question: str, out: Output) -> bool:
    answer = out.ask(question)
    if answer is None:
        raise UsageError(
            "an imported build is kept only once you agree, and there is no terminal to ask on",
            hint="Read what it has, then add --yes: that also accepts the hashes that only its "
            "sender states.",
        )
    return answer.lower() in ("y", "yes")


def _keep(
    stream: BinaryIO,
    offer: Offer,
    name: str,
    accepted: Mapping[str, Mapping[str, str]],
    home: Path,
    *,
    force: bool,
) -> Kept:
    """Write the build's folder, and rename it into place once it is complete."""
    record = Import(
        source=offer.source,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        sha256=offer.contents.sha256,
        cf=offer.manifest.cf,
        build=offer.spec.name,
        accepted=accepted,
    )
    place = home / name
    make_folder(home)
    with locked(place, note=lambda text: None), leftovers.folder(_STAGED, home) as work:
        _refuse(name, force)  # another run may have kept one of that name meanwhile
        made = work / name
        try:
            made.mkdir()
            _, text = offers.renamed(offer, name)
            (made / f"{name}.yaml").write_text(text, "utf-8")
            (made / imported.RECORD).write_text(imported.text_of(record), "utf-8")
            if offer.manifest.files:
                _extract(stream, offer, made / imported.MODELS)
            _swap(made, place, work / "former")
        except OSError as error:
            raise disk_error(error, place) from error
    return Kept(name, place / f"{name}.yaml", record, offer)


def _swap(made: Path, place: Path, former: Path) -> None:
    try:
        if place.exists():
            place.rename(former)
        made.rename(place)
    except BaseException:  # also a signal
        if former.exists() and not place.exists():
            former.rename(place)
        raise


def _extract(stream: BinaryIO, offer: Offer, folder: Path) -> None:
    """Write the model files, which were proven when the offer was read, and prove them again."""

    def sink(path: str) -> BinaryIO:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")

    size = sum(each.bytes for each in offer.manifest.files.values())
    check_room(offer.source, size, folder.parent)
    stream.seek(0)
    try:
        again = archive.read(stream, sink)
    except archive.BrokenArchive as error:
        raise CfError(f"{offer.source} changed while it was read: {error}") from error
    if again.sha256 != offer.contents.sha256:
        raise CfError(f"{offer.source} changed while it was read", hint="Nothing was kept.")
