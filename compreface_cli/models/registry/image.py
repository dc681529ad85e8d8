"""Files out of an image in a registry, without Docker: each proven by the manifest's digest."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from compreface_cli import leftovers
from compreface_cli.config import paths
from compreface_cli.errors import CfError, ConfigurationError, FetchError, UnreachableError
from compreface_cli.models import reach
from compreface_cli.models.files import disk_error, locked, make_folder, sha256_of
from compreface_cli.models.registry import manifest
from compreface_cli.models.registry.credentials import Credentials, credentials_for
from compreface_cli.models.registry.layer import Search
from compreface_cli.models.registry.manifest import Blob, Manifest, Unusable
from compreface_cli.models.registry.mirrors import VARIABLE, Endpoint, endpoints
from compreface_cli.models.registry.reference import Image, Reference
from compreface_cli.models.registry.session import Session, opened
from compreface_cli.models.tar_stream import Bounds, Counted, Readable, Refused, unpacked
from compreface_cli.models.transfer import GiveUp, Limits, OutOfReach, Progress, Transfer, WrongFile

# Opens a folder of the image that the local Docker has under this name (REPOSITORY@DIGEST): a tar
# stream whose names begin with the folder's last part. None: Docker does not have the image.
Local: TypeAlias = Callable[[str, str], AbstractContextManager[Readable | None]]
Note: TypeAlias = Callable[[str], None]


_BY_HAND = (
    "If you have the files, put them into a folder and set CF_MODELS_MIRROR to it. In a build file "
    "of your own, correct the source."
)
_MIRROR = f"Or set {VARIABLE} to a mirror of Docker Hub."


def layers_folder() -> Path:
    """Where layers are downloaded to; empty but for those whose download was cut off."""
    return paths.cache_dir() / "layers"


def fetch(
    image: Image,
    wanted: Mapping[str, Path],
    *,
    progress: Progress,
    note: Note,
    limits: Limits | None = None,
    bounds: Bounds | None = None,
    local: Local | None = None,
    folder: Path | None = None,
    refused: dict[str, str] | None = None,
    unreached: reach.Unreached | None = None,
    environ: Mapping[str, str] = os.environ,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write files of an image to their targets: each of them whole, and all of them or none.

    `wanted`: the target of each path in the image, without a leading slash. The last part of a path
    may have one `*`; it must match one file. `local`: the copy of the image that Docker has, which
    is used if there is one. `folder`: for layers while they are downloaded. `refused`: takes why
    the image does not give a file, by its path; the others are written nevertheless. `unreached`:
    takes the hosts to which there is no connection, and names those that are not to be tried.
    Raises UnreachableError (`details`: image, host, status, failures), FetchError for other bytes
    than the digest's, for what the image has (`details`: image, reason) and for the disk,
    ConflictError (another cf holds the lock).
    """
    reference = Reference.of(image)
    try:
        with ExitStack() as stack:
            drafts = _drafts(wanted, stack)
            bounds = bounds or Bounds()
            if local is None or not _from_local(
                reference, Search(dict(drafts), bounds), local, progress, note
            ):
                search = Search(dict(drafts), bounds)
                source = _Source(
                    reference, folder or layers_folder(), limits or Limits(), progress, note,
                    environ, stack, sleep, clock, {} if unreached is None else unreached,
                )  # fmt: skip
                source.find(search)
                for path, reason in search.refused.items():
                    if refused is None:
                        raise Unusable(reason)
                    del drafts[path]
                    refused[path] = reason
            for path, draft in drafts.items():
                draft.replace(wanted[path])
    except Unusable as error:
        raise FetchError(
            f"image {reference.name}: {error}",
            hint=_BY_HAND,
            details={"image": reference.name, "reason": str(error)},
        ) from error
    except OSError as error:
        raise disk_error(error, next(iter(wanted.values()))) from error


def _drafts(wanted: Mapping[str, Path], stack: ExitStack) -> dict[str, Path]:
    """A temporary file for each target, on the target's own file system."""
    folders: dict[Path, Path] = {}
    drafts = {}
    for number, (path, target) in enumerate(wanted.items()):
        if target.parent not in folders:
            make_folder(target.parent)
            made = stack.enter_context(leftovers.folder(".image-", target.parent))
            folders[target.parent] = made
        drafts[path] = folders[target.parent] / str(number)
    return drafts


def _from_local(
    reference: Reference, search: Search, local: Local, progress: Progress, note: Note
) -> bool:
    """Whether the local Docker's copy of the image has given all files."""
    parent = posixpath.commonpath([posixpath.dirname(path) for path in search.open])
    if not parent:
        return False
    try:
        with local(reference.name, f"/{parent}") as stream:
            if stream is None:
                return False
            with progress(f"copying from the local image {reference.short}", None) as advance:
                search.layer(Counted(stream, advance), below=posixpath.dirname(parent))
    except FetchError:  # of the disk
        raise
    except (Unusable, CfError) as error:
        note(f"the local image {reference.name} is not used: {error}")
        return False
    for path in search.open:
        note(f"the local image {reference.name} is not used: it has no {path}")
    for reason in search.refused.values():
        note(f"the local image {reference.name} is not used: {reason}")
    return not search.open and not search.refused


@dataclass(slots=True)
class _Source:
    """The image at its endpoints."""

    reference: Reference
    folder: Path
    limits: Limits
    progress: Progress
    note: Note
    environ: Mapping[str, str]
    stack: ExitStack
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    unreached: reach.Unreached
    endpoints: list[Endpoint] = field(default_factory=list)
    sessions: dict[Endpoint, tuple[Session, Endpoint]] = field(default_factory=dict)
    known: dict[str, Credentials | None] = field(default_factory=dict)  # by host

    def find(self, search: Search) -> None:
        """Go through the layers until each file is there."""
        try:
            self.endpoints = endpoints(self.reference, self.environ)
        except ValueError as error:
            raise ConfigurationError(
                f"environment {VARIABLE}: {error}",
                hint=f"Set {VARIABLE} to the address of a mirror of Docker Hub, or leave it out.",
            ) from error
        make_folder(self.folder)
        for blob in self._layers():
            path = self.folder / f"{blob.sha256}.layer"
            with locked(path, note=self.note):
                self._download(blob, path)
                try:
                    with (
                        self.progress(
                            f"reading {_label(blob)} of {self.reference.short}", blob.size
                        ) as advance,
                        unpacked(path, advance) as stream,
                    ):
                        search.layer(stream)
                except Unusable:
                    path.unlink(missing_ok=True)
                    raise
                except Refused as refused:
                    path.unlink(missing_ok=True)
                    raise Unusable(f"a layer is not used: {refused}") from refused
                path.unlink()
            if not search.open:
                return
        for pattern in list(search.open):
            search.refuse(pattern, f"{pattern} is missing in it")

    def _layers(self) -> list[Blob]:
        """The layers to be searched, from the top down: all, or those that the hint names."""
        found = self._manifest()
        hint = self.reference.layer
        if not hint:
            return list(reversed(found.layers))
        made_by = manifest.commands(self._document("blobs", found.config), len(found.layers))
        if made_by is None:
            raise Unusable(f"its history does not say which layer {hint!r} made")
        pairs = zip(found.layers, made_by, strict=True)
        layers = [layer for layer, command in pairs if hint in command]
        if not layers:
            raise Unusable(f"none of its layers was made by a command with {hint!r}")
        return layers[::-1]

    def _manifest(self) -> Manifest:
        named = Blob(self.reference.digest, -1)
        for _ in range(2):  # an index, and the manifest that it names
            read = manifest.read(self._document("manifests", named))
            if isinstance(read, Manifest):
                return read
            named = read
        raise Unusable("its index names another index")

    def _document(self, part: str, blob: Blob) -> bytes:
        most = manifest.MANIFEST_BYTES if part == "manifests" else manifest.CONFIG_BYTES
        with leftovers.folder(".document-", self.folder) as folder:
            path = folder / blob.sha256
            kind = "the manifest" if part == "manifests" else "the config"
            self._obtain(part, blob, path, most, kind, _no_progress)
            return path.read_bytes()

    def _download(self, blob: Blob, path: Path) -> None:
        if blob.size > self.limits.max_bytes:
            raise Unusable(
                f"its layer has {blob.size} bytes, more than the limit of {self.limits.max_bytes}"
            )
        if path.exists() and sha256_of(path) == blob.sha256:
            return  # of a run that was cut off after the download
        self._obtain("blobs", blob, path, blob.size, _label(blob), self.progress)

    def _obtain(
        self, part: str, blob: Blob, path: Path, most: int, what: str, progress: Progress
    ) -> None:
        """Download a part of the image from the first endpoint that delivers it correctly."""
        name = f"{what} of {self.reference.short}"
        failures: list[tuple[Endpoint, GiveUp]] = []
        for endpoint in list(self.endpoints):
            with ExitStack() as bar:
                try:
                    if endpoint.host in self.unreached:
                        raise OutOfReach(endpoint.host, self.unreached[endpoint.host])
                    session, at = self._session(endpoint)
                    Transfer(
                        client=session, url=f"{at.url}/{part}/{blob.digest}", target=path,
                        wanted=(blob.sha256,), limits=replace(self.limits, max_bytes=most),
                        stack=bar, progress=progress, note=self.note, sleep=self.sleep,
                        clock=self.clock, deadline=self.clock() + self.limits.total_s, name=name,
                        size=None if blob.size < 0 else blob.size, unreached=self.unreached,
                    ).run()  # fmt: skip
                except GiveUp as failure:
                    failures.append((endpoint, failure))
                    if endpoint.mirror:
                        self.note(f"could not read {name} from {endpoint.host}: {failure}")
                    continue
            self.endpoints.remove(endpoint)
            self.endpoints.insert(0, endpoint)
            return
        raise self._failure(what, failures)

    def _session(self, endpoint: Endpoint) -> tuple[Session, Endpoint]:
        if endpoint not in self.sessions:
            entered = opened(endpoint, lambda: self._credentials(endpoint.host), self.limits)
            self.sessions[endpoint] = self.stack.enter_context(entered)
        return self.sessions[endpoint]

    def _credentials(self, host: str) -> Credentials | None:
        if host not in self.known:
            self.known[host], problem = credentials_for(host, self.environ)
            if problem:
                self.note(f"docker login for {host}: {problem}")
        return self.known[host]

    def _failure(self, what: str, failures: list[tuple[Endpoint, GiveUp]]) -> FetchError:
        hosts = {host: why for _, failure in failures for host, why in failure.unreached.items()}
        each = [
            f"{endpoint.host}: {failure}" for endpoint, failure in failures if not failure.unreached
        ]
        reasons = "; ".join([*each, *([reach.words(hosts)] if hosts else [])])
        endpoint, last = next(
            (pair for pair in reversed(failures) if not pair[0].mirror), failures[-1]
        )
        login = " ".join(("docker login", self.reference.login)).rstrip()
        if last.status in (401, 403) and self.known.get(endpoint.host):
            hint = (
                f"Log in anew ({login}), or for a public image log out "
                f"({login.replace('login', 'logout', 1)}), then run the command again."
            )
        elif last.status in (401, 403):
            hint = f"Log in with an account that may pull it ({login}), then run the command again."
        elif last.status == 429:
            hint = f"Wait, or log in for a higher limit ({login}), then run the command again."
        elif last.unreached:
            hint = f"{reach.NETWORK} {_MIRROR}" if self.reference.hub else reach.NETWORK
        elif last.again:
            hint = "Run the command again, which resumes a partial download."
        else:
            hint = _BY_HAND
        wrong = any(isinstance(failure, WrongFile) for _, failure in failures)
        return (FetchError if wrong else UnreachableError)(
            f"could not read {what} of image {self.reference.name}: {reasons}",
            hint=hint,
            details={
                "image": self.reference.name,
                "host": endpoint.host,
                "status": last.status,
                "failures": reasons,
                **({} if each else {"unreached": hosts}),
            },
        )


def _label(blob: Blob) -> str:
    return f"layer {blob.sha256[:12]}"


@contextmanager
def _no_progress(label: str, total: float | None) -> Iterator[Callable[[float], None]]:
    yield lambda amount: None
