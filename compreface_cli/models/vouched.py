"""The hashes that a mirror at a web address vouches for: those of its own proven-hashes.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from compreface_cli import leftovers
from compreface_cli.errors import FetchError
from compreface_cli.models import proofs
from compreface_cli.models.download import transfer
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import disk_error, make_folder
from compreface_cli.models.places import Places, is_address
from compreface_cli.models.reach import Unreached
from compreface_cli.models.registry.reference import loopback
from compreface_cli.models.transfer import GiveUp, Limits, Progress

_MAX_BYTES = 4 << 20
Record = Mapping[str, Mapping[str, Mapping[str, str]]]  # model -> path -> source -> SHA-256


def trusted(mirror: str) -> bool:
    """Whether nobody else can answer for that address: it has TLS, or is this machine."""
    if not is_address(mirror):
        return False
    return mirror.startswith("https://") or loopback(urlsplit(mirror).netloc)


def read(
    places: Places,
    *,
    progress: Progress,
    note: Callable[[str], None],
    limits: Limits,
    unreached: Unreached,
) -> Record:
    """The mirror's record; empty if it has none, or one that cannot be read, which is noted."""
    if not trusted(places.mirror):
        return {}
    url = f"{places.mirror.rstrip('/')}/{proofs.NAME}"
    make_folder(places.weights)
    try:
        with leftovers.folder(".mirror-", places.weights) as folder:
            transfer(
                url, folder / proofs.NAME, sha256=(), progress=progress, note=note,
                limits=replace(limits, max_bytes=_MAX_BYTES), unreached=unreached,
                deadline=time.monotonic() + limits.total_s,
            )  # fmt: skip
            return proofs.read(folder / proofs.NAME)
    except GiveUp:  # what it does not have is no fault; that of a file is reported with it
        return {}
    except FetchError as error:
        note(f"{url} is not used: {error.message}")
        return {}
    except RecursionError:
        note(f"{url} is not used: it is nested too deeply")
        return {}
    except OSError as error:
        raise disk_error(error, places.weights) from error


def hashes(record: Record, model: Model, file: ModelFile) -> dict[str, str]:
    """By its present source, the hash that the record has of the file."""
    by_source = record.get(model.name, {}).get(file.path, {})
    return {
        source: digest
        for source in file.sources
        if isinstance(digest := by_source.get(source), str)
    }
