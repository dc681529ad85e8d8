"""Where the store keeps models, and where it looks for their files on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from compreface_cli import locks
from compreface_cli.config import paths
from compreface_cli.errors import ConfigurationError
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import lock_of
from compreface_cli.models.sources import Source, parse


def _mirror_of_environment() -> str:
    return os.environ.get("CF_MODELS_MIRROR", "")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of the store; by default this user's."""

    models: Path = field(default_factory=paths.models_dir)  # prepared, a folder per model
    weights: Path = field(default_factory=lambda: paths.cache_dir() / "weights")  # downloads
    accepted: Path = field(default_factory=lambda: paths.state_dir() / "accepted-hashes.json")
    mirror: str = field(default_factory=_mirror_of_environment)  # "": none

    @property
    def proven(self) -> Path:
        """The hashes that a digest has proven, as `models.proofs` records them."""
        return self.accepted.with_name("proven-hashes.json")


def local(model: Model, file: ModelFile, places: Places, *, mirror: bool = True) -> Iterable[Path]:
    """The candidates for the file on this machine."""
    candidates = []
    if model.build_folder:
        candidates.append(Path(model.build_folder) / file.path)
    if mirror and (folder := mirror_folder(places)):
        inside = PurePosixPath(file.path)
        if not inside.is_absolute() and ".." not in inside.parts:
            candidates.append(folder / inside)
    if mirror:
        candidates.append(fetched(model, file, places))
    return [path for path in candidates if path.is_file()]


def mirror_folder(places: Places) -> Path | None:
    """The mirror, if it is a folder."""
    if not places.mirror or is_address(places.mirror):
        return None
    return Path(places.mirror).expanduser()


def fetched(model: Model, file: ModelFile, places: Places) -> Path:
    return places.weights / model.name / PurePosixPath(file.path).name


def unpacking(places: Places) -> Path:
    """Where archives are downloaded to and unpacked; a folder for each, while it is needed."""
    return places.weights / ".fetching"  # no model has such a name


def layers(places: Places) -> Path:
    """Where the layers of images are downloaded to."""
    return places.weights.with_name("layers")


def unfinished(places: Places) -> list[Path]:
    """The archives and layers whose download or use was cut off, as files and folders.

    The next run resumes them; what another `cf` works on now is left out.
    """
    folders = (unpacking(places), layers(places))
    parts = [path for folder in folders for path in sorted(folder.glob("*"))]
    return [path for path in parts if path.suffix != ".lock" and not _in_use(path)]


def _in_use(path: Path) -> bool:
    return locks.holder(lock_of(whole_of(path))) is not None


def whole_of(path: Path) -> Path:
    """What this part, or its record, becomes: the path that its download locks."""
    return path.with_name(path.name.removesuffix(".json").removesuffix(".part"))


def addresses(file: ModelFile, places: Places) -> list[Source]:
    """Where to fetch the file, in order: the mirror if it is an address, then its sources."""
    own = []
    if is_address(places.mirror):
        url = f"{places.mirror.rstrip('/')}/{quote(file.path)}"
        own = [Source("https", url, url)]
    return [*own, *map(parse, file.sources)]


def is_proven(file: ModelFile) -> bool:
    """Whether a source of the file proves it by a digest."""
    return any(parse(source).proven for source in file.sources)


def is_address(mirror: str) -> bool:
    return "://" in mirror


def mirror_fault(mirror: str) -> str:
    """Why this mirror cannot be used; empty if it can."""
    if not mirror or mirror.startswith(("https://", "http://")):
        return ""
    if is_address(mirror):
        return "an address must begin with https:// or http://"
    return "" if Path(mirror).expanduser().is_dir() else f"there is no folder {mirror}"


def check_mirror(places: Places) -> None:
    if fault := mirror_fault(places.mirror):
        raise ConfigurationError(
            f"CF_MODELS_MIRROR={places.mirror}: {fault}",
            hint="Set CF_MODELS_MIRROR to a folder that exists or to an address that begins with "
            "https:// or http://, or leave it out.",
        )
