"""Fetches files out of archives and images, each archive or layer once for all models of a run."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from compreface_cli.errors import FetchError, UnreachableError
from compreface_cli.models import archives, origins, proofs
from compreface_cli.models.download import Failed, shown, transfer
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import locked, make_folder, sha256_of
from compreface_cli.models.places import Places, fetched, layers, unpacking
from compreface_cli.models.reach import Unreached
from compreface_cli.models.sources import Source, parse
from compreface_cli.models.tar_stream import Refused
from compreface_cli.models.transfer import GiveUp, Limits, Progress, WrongFile

if TYPE_CHECKING:
    from compreface_cli.models.registry import Local

ARCHIVE = "archive"  # folder of the archive while it is downloaded and read


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of a model that is to be fetched; `sha256`: what a listed or accepted hash allows."""

    model: Model
    file: ModelFile
    sha256: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.model.name, self.file.path

    def source_in(self, container: tuple[str, ...]) -> Source | None:
        """Its source in that archive or layer."""
        sources = map(parse, self.file.sources)
        return next((source for source in sources if source.container == container), None)


@dataclass(slots=True)
class Unpacking:
    """The archives and images of one run of the store.

    `all`: the files that the run is to fetch, so that those of one container come together.
    """

    places: Places
    progress: Progress
    note: Callable[[str], None]
    limits: Limits
    local: Local | None = None  # the images that Docker has
    all: Sequence[Wanted] = ()
    refused: dict[tuple[str, str, str], GiveUp] = field(default_factory=dict)
    unreached: Unreached = field(default_factory=dict)

    def take(self, wanted: Wanted, source: Source) -> None:
        """Fetch the file, and with it those of other models that lie in the same container.

        Raises GiveUp; OSError and FetchError for a file that cannot be written.
        """
        self._raise_if_refused(wanted, source)
        folder = unpacking(self.places) / source.proof[:32]
        with locked(folder, note=self.note):
            if self._is_here(wanted, source):  # another cf has just fetched it
                return
            make_folder(folder)
            together = self._together(wanted, source)
            self._unpack(source, {path: folder / f"file-{n}" for n, path in enumerate(together)},
                         folder, together)  # fmt: skip
        self._raise_if_refused(wanted, source)

    def _raise_if_refused(self, wanted: Wanted, source: Source) -> None:
        if failure := self.refused.get((*wanted.key, source.text)):
            raise failure

    def _is_here(self, wanted: Wanted, source: Source) -> bool:
        target = fetched(wanted.model, wanted.file, self.places)
        digest = proofs.recorded(self.places.proven, *wanted.key, source.text)
        return digest is not None and target.is_file() and sha256_of(target) == digest

    def _together(self, wanted: Wanted, source: Source) -> dict[str, list[tuple[Wanted, Source]]]:
        """The files that lie in the container, by their paths in it; the wanted one first."""
        paths = {source.path: [(wanted, source)]}
        for other in self.all:
            there = other.source_in(source.container)
            if there is None or other.key == wanted.key or self._is_here(other, there):
                continue
            if (*other.key, there.text) not in self.refused:
                paths.setdefault(there.path, []).append((other, there))
        return paths

    def _unpack(
        self,
        source: Source,
        drafts: Mapping[str, Path],
        folder: Path,
        together: Mapping[str, list[tuple[Wanted, Source]]],
    ) -> None:
        try:
            try:
                reasons = self._read(source, drafts, folder)
            except GiveUp as failure:  # as for the others that lie in it
                for files in together.values():
                    self.refused |= {(*wanted.key, its.text): failure for wanted, its in files}
                raise
            for path, files in together.items():
                for number, (wanted, its) in enumerate(files, start=1):
                    move = os.replace if number == len(files) else shutil.copyfile
                    self._keep(wanted, its, drafts[path], reasons.get(path, ""), move)
        finally:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)
            for empty in (folder / ARCHIVE, folder):  # unless a part of the archive is in it
                with suppress(OSError):
                    empty.rmdir()
        shutil.rmtree(folder, ignore_errors=True)

    def _read(self, source: Source, drafts: Mapping[str, Path], folder: Path) -> dict[str, str]:
        """Write the drafts; returns why, for each that the container does not give."""
        if source.kind != "oci":
            return self._from_archive(source, drafts, folder)
        from compreface_cli.models import registry

        refused: dict[str, str] = {}
        try:
            registry.fetch(
                source, drafts, progress=self.progress, note=self.note, limits=self.limits,
                local=self.local, folder=layers(self.places), refused=refused,
                unreached=self.unreached,
            )  # fmt: skip
        except FetchError as error:
            answered = "reason" in error.details or "status" in error.details
            if isinstance(error, UnreachableError) or answered:
                raise Failed(error) from error
            raise  # of this machine: its disk, its settings
        return refused

    def _from_archive(
        self, source: Source, drafts: Mapping[str, Path], folder: Path
    ) -> dict[str, str]:
        name = PurePosixPath(urlsplit(source.url).path).name or source.kind
        archive = folder / ARCHIVE / name[-100:]
        make_folder(archive.parent)
        deadline = time.monotonic() + self.limits.total_s
        if not (archive.is_file() and sha256_of(archive) == source.proof):
            transfer(
                source.url, archive, sha256=(source.proof,), limits=self.limits,
                progress=self.progress, note=self.note, deadline=deadline,
                unreached=self.unreached,
            )  # fmt: skip
        try:
            with self.progress(f"unpacking {name}", archive.stat().st_size) as advance:
                return archives.extract(archive, source.kind, drafts, advance=advance)
        except Refused as refused:
            archive.unlink()
            raise GiveUp(str(refused)) from refused

    def _keep(
        self,
        wanted: Wanted,
        source: Source,
        draft: Path,
        reason: str,
        move: Callable[[Path, Path], object],
    ) -> None:
        """Move the file to its place and record its hash; remembers why it is refused."""
        # Upstream's names in its images are not known, and an entry of the catalogue may miss them.
        absent = not wanted.model.build_folder
        failure: GiveUp | None = GiveUp(reason, absent=absent) if reason else None
        if failure is None and draft.is_file():
            digest = sha256_of(draft)
            failure = self._fault(wanted, source, digest)
            if failure is None:
                target = fetched(wanted.model, wanted.file, self.places)
                make_folder(target.parent)
                part = target.with_name(f".{target.name}.new")
                move(draft, part)
                proofs.record(self.places.proven, *wanted.key, source.text, digest)
                part.replace(target)
                origins.keep(target, shown(source))
        if failure is not None:
            self.refused[(*wanted.key, source.text)] = failure

    def _fault(self, wanted: Wanted, source: Source, digest: str) -> WrongFile | None:
        """Why a file of this hash is not taken from the source."""
        if digest in wanted.sha256:
            return None
        before = proofs.recorded(self.places.proven, *wanted.key, source.text)
        if before not in (None, digest):
            return WrongFile(
                f"it was SHA-256 {before} at the first fetch, and is {digest} now; to use it, "
                f"if you trust it: --accept-hash {wanted.model.name}={digest}"
            )
        if source.kind != "oci" and wanted.file.sha256:
            expected = " or ".join(wanted.sha256)
            return WrongFile(f"wrong hash: SHA-256 {digest}, expected {expected}")
        return None
