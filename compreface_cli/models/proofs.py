"""The hashes of files that an archive's or image's digest has proven, from their first fetch on.

A record is a JSON object: model -> path in its entry -> source -> SHA-256. The user's own lies
beside the accepted hashes. A mirror folder may have one too (NAME in it), so that a machine without
a network accepts its files: whoever names a folder as the mirror vouches for what lies in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compreface_cli.errors import FetchError
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.files import locked, read_table, write_table
from compreface_cli.models.places import Places, mirror_folder
from compreface_cli.models.sources import parse

NAME = "proven-hashes.json"


def known(model: Model, file: ModelFile, places: Places) -> tuple[str, ...]:
    """The recorded hashes of the file from its present sources; raises FetchError."""
    return tuple(dict.fromkeys(_by_source(model, file, places).values()))


def hold(model: Model, file: ModelFile, digest: str, places: Places) -> None:
    """Keep the hash of a file that was used, where it is a mirror's record that has it."""
    for source, proven in _by_source(model, file, places).items():
        if proven == digest:
            record(places.proven, model.name, file.path, source, digest)


def _by_source(model: Model, file: ModelFile, places: Places) -> dict[str, str]:
    """The hash that is recorded for each source: the user's own record comes first."""
    proven = [text for text in file.sources if parse(text).proven]
    if not proven:
        return {}
    tables = [read(each).get(model.name, {}).get(file.path, {}) for each in _records(places)]
    digests = {text: next((t[text] for t in tables if text in t), "") for text in proven}
    return {text: digest for text, digest in digests.items() if digest}


def check(places: Places) -> None:
    """Raises FetchError for a record that cannot be read."""
    for each in _records(places):
        read(each)


def _records(places: Places) -> list[Path]:
    folder = mirror_folder(places)
    return [places.proven, *([folder / NAME] if folder else [])]


def recorded(record: Path, model: str, path: str, source: str) -> str | None:
    """The hash that the record has of that file from that source."""
    return read(record).get(model, {}).get(path, {}).get(source)


def record(record: Path, model: str, path: str, source: str, digest: str) -> None:
    """Keep the hash of the file from that source; raises FetchError."""
    if recorded(record, model, path, source) == digest:
        return
    with locked(record, note=lambda text: None):
        table = {name: dict(paths) for name, paths in read(record).items()}
        sources = dict(table.setdefault(model, {}).get(path, {}))
        table[model][path] = {**sources, source: digest}
        write_table(record, table)


def read(record: Path) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """The record; empty if there is none. Raises FetchError."""
    what, cost = "the proven hashes", "the files are fetched again"
    data = read_table(record, what=what, values=dict, without_it=cost)
    if all(isinstance(files, dict) for paths in data.values() for files in paths.values()):
        return data
    raise FetchError(
        f"{what} in {record} cannot be read: a file has no table of sources",
        hint=f"Repair or remove that file; without it, {cost}.",
    )
