"""Verifies the hashes of prepared models and of downloaded files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from compreface_cli.errors import UsageError
from compreface_cli.models import obtain, prepare
from compreface_cli.models.entry import Model
from compreface_cli.models.files import sha256_of
from compreface_cli.models.store import Places
from compreface_cli.weights.known import INCOMPLETE, Named, on_disk

State = Literal["intact", "damaged", "not proven"]


@dataclass(frozen=True, slots=True)
class Verified:
    """A prepared model or a downloaded file; `not proven`: no hash of it is known."""

    model: str
    kind: Literal["prepared", "download"]
    path: Path
    state: State

    @property
    def remedy(self) -> str:
        """The command that replaces what is damaged; empty where nothing is to be done."""
        if self.state != "damaged":
            return ""
        return f"cf models pull {self.model}" if self.kind == "prepared" else "cf models prune"


def verify(only: Sequence[str], names: Named, looking: Callable[[str], object]) -> list[Verified]:
    """Every prepared model and downloaded file, or those of the models `only`.

    `looking` gets the name of each model before its files are read. Raises UsageError for a model
    that is not on this machine.
    """
    places = Places()
    here = on_disk(places)
    absent = [name for name in only if name not in here]
    if absent:
        raise UsageError(
            f"model {absent[0]} is not on this machine, so there is nothing to verify",
            hint=f"`cf models pull {absent[0]}` fetches a known one; `cf models list` shows those "
            "that are here.",
        )
    done = []
    for name in here:
        if not only or name in only:
            looking(name)
            done += [*_prepared(name, places), *downloads(name, names, places)]
    return done


def _prepared(name: str, places: Places) -> Iterator[Verified]:
    folder = places.models / name
    if folder.is_dir():
        record = prepare.read_record(folder)
        sound = record is not None and prepare.intact(folder, record, by_hash=True)
        yield Verified(name, "prepared", folder, "intact" if sound else "damaged")


def downloads(name: str, names: Named, places: Places) -> Iterator[Verified]:
    """The downloaded files of that model, without those that are not complete."""
    models = names.by_name.get(name, ())
    choices = [choice for model in models for choice in model.choices]
    for path in sorted((places.weights / name).glob("[!.]*")):
        if path.is_file() and not path.name.endswith(INCOMPLETE):
            yield Verified(name, "download", path, _state(path, choices, places))


def _state(path: Path, choices: Sequence[Model], places: Places) -> State:
    hashes = {
        digest
        for model in choices
        for file in model.files
        if PurePosixPath(file.path).name == path.name
        for digest in obtain.right_hashes(model, file, places)
    }
    if not hashes:
        return "not proven"
    return "intact" if sha256_of(path) in hashes else "damaged"
