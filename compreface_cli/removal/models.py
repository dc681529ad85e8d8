"""The prepared models and downloaded files that nothing uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compreface_cli import locks
from compreface_cli.instance.records import Record
from compreface_cli.models.files import lock_of, locked
from compreface_cli.models.places import layers, unfinished, whole_of
from compreface_cli.models.store import Places
from compreface_cli.plan.plan import Plan
from compreface_cli.removal import things
from compreface_cli.removal.things import Thing
from compreface_cli.weights import known, verify

_PREPARED, _FETCHED = "prepared model", "fetched model"
_LAYER, _ARCHIVE = "layer of an image", "archive"
_CUT = "not complete"


@dataclass(frozen=True, slots=True)
class Users:
    """What may use a model: plans of builds, records, and texts of build files with a fault."""

    plans: Sequence[Plan]
    records: Sequence[Record]
    unreadable: Mapping[str, str]

    def names(self) -> set[str]:
        """The models that plans and records name."""
        used = {model.name for plan in self.plans for model in known.models_of(plan)}
        return used.union(*(_of_record(record) for record in self.records))

    def may_mean(self, name: str) -> bool:
        """Whether a build file with a fault contains the name."""
        return any(name in text for text in self.unreadable.values())


def unused(users: Users | None) -> Iterator[Thing]:
    """Models that nothing names, and of the others the downloads that no run can use.

    These have a wrong hash, or are not complete. What another `cf` prepares or fetches at this
    moment is left out. `users` None: it is not known what is used, so no model counts as unused.
    """
    places, names = Places(), known.named()
    used = users.names() if users else set()
    for name in known.on_disk(places):
        if locks.holder(lock_of(places.models / name)):
            continue
        if users and name not in used and not users.may_mean(name):
            for kind, home in ((_PREPARED, places.models), (_FETCHED, places.weights)):
                if (home / name).is_dir():
                    yield _thing(kind, name, home / name, "of no build", places)
            continue
        for each in verify.downloads(name, names, places):
            if each.state == "damaged":
                yield _thing(_FETCHED, name, each.path, "with a wrong hash", places)
        for path in sorted((places.weights / name).glob("*")):
            if path.name.endswith(known.INCOMPLETE) and path.is_file():
                yield _thing(_FETCHED, name, path, _CUT, places)
    for path in unfinished(places):  # the next run would resume them
        kind = _LAYER if path.parent == layers(places) else _ARCHIVE
        yield Thing(kind, str(path), things.size_of(path), _removal(whole_of(path), path), _CUT)


def _of_record(record: Record | None) -> set[str]:
    """The models of the instance, and of the one that an unfinished run replaces."""
    names: set[str] = set()
    while record is not None:
        names |= {str(model.get("name")) for model in record.plan.get("models", ())}
        record = record.previous
    return names


def _thing(kind: str, model: str, place: Path, why: str, places: Places) -> Thing:
    """As `things.of_path`; its removal raises ConflictError if another `cf` works on the model."""
    remove = _removal(places.models / model, place)
    return Thing(kind, str(place), things.size_of(place), remove, why)


def _removal(held: Path, place: Path) -> Callable[[], None]:
    """Removes `place` while it holds the lock of `held`."""

    def remove() -> None:
        with locked(held, note=lambda text: None, wait_s=0.0):
            things.erase(place)

    return remove
