"""The hashes of model files that the user accepted: as flags give them, as a file keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from compreface_cli.errors import FetchError, UsageError
from compreface_cli.models.files import disk_error, locked, make_folder

Accepted: TypeAlias = Mapping[str, Sequence[str]]  # model -> SHA-256s
_HEX = frozenset("0123456789abcdef")


def parse(pairs: Iterable[str]) -> dict[str, list[str]]:
    """`--accept-hash NAME=SHA256` values by model; a model of several files has several."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, digest = pair.partition("=")
        digest = digest.strip().lower()
        if not name or len(digest) != 64 or not _HEX.issuperset(digest):
            raise UsageError(
                f"--accept-hash: {pair!r} is not NAME=SHA256",
                hint="SHA256 is 64 hexadecimal digits, as `sha256sum FILE` prints them.",
            )
        found.setdefault(name.strip(), []).append(digest)
    return found


def read(path: Path) -> dict[str, list[str]]:
    """What that file keeps; nothing if there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or not all(isinstance(one, list) for one in data.values()):
            raise ValueError("it is no table of models and hashes")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FetchError(
            f"the accepted hashes in {path} cannot be read: {error}",
            hint="Repair or remove that file; without it --accept-hash asks again.",
        ) from error
    return {str(name): list(map(str, digests)) for name, digests in data.items()}


def record(path: Path, model: str, digests: Sequence[str]) -> None:
    """Keep those of the model's hashes that are not kept yet."""
    if not set(digests) - set(read(path).get(model, ())):
        return
    with locked(path, note=lambda text: None):
        accepted = read(path)
        kept = accepted.setdefault(model, [])
        kept += [digest for digest in digests if digest not in kept]
        make_folder(path.parent)
        part = path.with_suffix(".part")
        try:
            part.write_text(json.dumps(accepted, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise disk_error(error, path) from error
