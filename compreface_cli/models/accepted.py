"""The hashes of model files that the user accepted, by flags and in earlier runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from compreface_cli.errors import UsageError
from compreface_cli.models.files import locked, read_table, write_table

Accepted: TypeAlias = Mapping[str, Sequence[str]]  # model -> SHA-256s
_HEX = frozenset("0123456789abcdef")


def parse(pairs: Iterable[str]) -> dict[str, list[str]]:
    """The hashes of `--accept-hash NAME=SHA256` by model; raises UsageError."""
    digests: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, digest = pair.partition("=")
        digest = digest.strip().lower()
        if not name or len(digest) != 64 or not _HEX.issuperset(digest):
            raise UsageError(
                f"--accept-hash: {pair!r} is not NAME=SHA256",
                hint="SHA256 is 64 hexadecimal digits, as `sha256sum FILE` prints them.",
            )
        digests.setdefault(name.strip(), []).append(digest)
    return digests


def read(path: Path) -> dict[str, list[str]]:
    """The accepted hashes in that file by model; empty if it does not exist; raises FetchError."""
    data = read_table(
        path,
        what="the accepted hashes",
        values=list,
        without_it="each hash must be accepted again",
    )
    return {str(name): list(map(str, digests)) for name, digests in data.items()}


def record(path: Path, model: str, digests: Sequence[str]) -> None:
    """Add the model's hashes to that file."""
    if not set(digests) - set(read(path).get(model, ())):
        return
    with locked(path, note=lambda text: None):
        accepted = read(path)
        kept = accepted.setdefault(model, [])
        kept += [digest for digest in digests if digest not in kept]
        write_table(path, accepted)
