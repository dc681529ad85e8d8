"""The models that this machine knows: those of builds and of the catalogue, and those on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from compreface_cli.builds import builds
from compreface_cli.errors import CfError, ConfigurationError, FetchError
from compreface_cli.models import catalogue, licence, origins, prepare, store
from compreface_cli.models.entry import Model
from compreface_cli.models.licence import Terms
from compreface_cli.models.store import Places
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of

# prepared; outdated: prepared from another entry or file than is named now; damaged;
# downloaded: its files are here, not prepared; partial: some of them; absent
State = Literal["prepared", "outdated", "damaged", "downloaded", "partial", "absent"]
INCOMPLETE = (".part", ".part.json", ".draft")  # endings of downloads that are still written
_UNKNOWN = Terms("not known", "unclear", "its terms are not known")


@dataclass(frozen=True, slots=True)
class Row:
    """A model: the builds that name it, its state and bytes on disk, its terms.

    `sources`: where its files came from. `fetch_bytes`: what preparing it would download; None: not
    known.
    """

    name: str
    builds: tuple[str, ...]
    state: State
    prepared_bytes: int
    downloaded_bytes: int
    fetch_bytes: int | None
    terms: Terms
    sources: tuple[str, ...]
    folder: Path | None  # where it is prepared


@dataclass(frozen=True)
class Named:
    """The models that builds and the catalogue name."""

    by_name: Mapping[str, Sequence[Model]]  # those of builds first; several if builds differ
    builds: Mapping[str, Sequence[str]]
    terms: Mapping[str, Terms]
    broken: Mapping[str, str] = field(default_factory=dict)  # build -> why it cannot be read

    @cached_property
    def of_builds(self) -> frozenset[str]:
        """The names of the models that builds name."""
        return frozenset(self.builds)


def named() -> Named:
    """All models with a name; a build that cannot be read is left out."""
    models: dict[str, list[Model]] = {}
    users: dict[str, list[str]] = {}
    terms: dict[str, Terms] = {}
    broken: dict[str, str] = {}
    for build in builds.names():
        try:
            plan = plan_of(build)
        except CfError as error:
            broken[build] = error.message
            continue
        of = licence.of(plugins_of(plan), plan.licence)
        for model in models_of(plan):
            same = models.setdefault(model.name, [])
            if model not in same:
                same.append(model)
            users.setdefault(model.name, []).append(build)
            terms.setdefault(model.name, of.get(model.name, _UNKNOWN))
    for name, model in catalogue.models().items():
        models.setdefault(name, [model])
        terms[name] = licence.terms(catalogue.about()[name])
    return Named(models, users, terms, broken)


def models_of(plan: Plan) -> tuple[Model, ...]:
    """The models of a plan, with those that its fallbacks need."""
    more = (model for fallback in plan.fallbacks for model in fallback.models)
    return tuple({model.name: model for model in (*more, *plan.models)}.values())


def plugins_of(plan: Plan) -> Iterator[str]:
    """The plugins of a plan, with those that may take the place of another."""
    yield from (plan.detector, plan.calculator, *plan.plugins)
    yield from (fallback.instead for fallback in plan.fallbacks if fallback.instead)


def rows(names: Named, *, everything: bool = False) -> list[Row]:
    """The models that are on this machine, and with `everything` all that have a name."""
    places = Places()
    homes = (places.models, places.weights)
    here = [name for name in on_disk(places) if any(_has_files(home / name) for home in homes)]
    wanted = [name for name in names.by_name if everything or name in here]
    wanted += [name for name in here if name not in names.by_name]
    return [_row(name, names, places) for name in wanted]


def on_disk(places: Places) -> list[str]:
    """The names of all models with a folder on this machine, be it empty."""
    homes = (places.models, places.weights)
    return sorted({folder.name for home in homes for folder in home.glob("[!.]*/")})


def _has_files(folder: Path) -> bool:
    """Whether there is any file in it but hidden ones."""
    return any(path.is_file() for path in folder.rglob("[!.]*"))


def _row(name: str, names: Named, places: Places) -> Row:
    folder, downloads = places.models / name, places.weights / name
    return Row(
        name=name,
        builds=tuple(names.builds.get(name, ())),
        state=state(name, names, places),
        prepared_bytes=bytes_of(folder),
        downloaded_bytes=bytes_of(downloads),
        fetch_bytes=_to_fetch(names.by_name.get(name, ())),
        terms=names.terms.get(name, _UNKNOWN),
        sources=_sources(folder, downloads),
        folder=folder if folder.is_dir() else None,
    )


def _sources(folder: Path, downloads: Path) -> tuple[str, ...]:
    record = prepare.read_record(folder)
    files = [path for path in sorted(downloads.glob("[!.]*")) if not path.name.endswith(INCOMPLETE)]
    noted = record.origins.values() if record else map(origins.of, files)
    return tuple(dict.fromkeys(noted))


def _to_fetch(models: Sequence[Model]) -> int | None:
    sizes = [download.bytes for download in store.needed(models[:1])]
    return None if None in sizes else sum(size or 0 for size in sizes)


def state(name: str, names: Named, places: Places) -> State:
    """The model's state by the sizes of its files; hashes are not read."""
    folder, downloads = places.models / name, places.weights / name
    models = names.by_name.get(name, ())
    if any(store.state(model, places) == "here" for model in models):
        return "prepared"
    record = prepare.read_record(folder)
    if record is not None and prepare.intact(folder, record, by_hash=False):
        return "outdated" if models else "prepared"
    if folder.is_dir():
        return "damaged"
    if not _has_files(downloads):
        return "absent"
    files = {path.name for path in downloads.iterdir()}
    choices = [choice for model in models for choice in model.choices]
    whole = any({Path(file.path).name for file in choice.files} <= files for choice in choices)
    return "downloaded" if whole else "partial"


def bytes_of(folder: Path) -> int:
    """The bytes of all files in a folder but hidden ones, which are notes of `cf`; 0 without it."""
    return sum(path.stat().st_size for path in folder.rglob("[!.]*") if path.is_file())


def folder_of(name: str) -> Path:
    """Where the model is prepared; FetchError if it is not, or damaged."""
    places, names = Places(), named()
    now = state(name, names, places) if name in names.by_name or name in on_disk(places) else None
    if now is None:
        raise ConfigurationError(
            f"there is no model {name!r} on this machine or in the catalogue",
            hint="`cf models list --all` shows all models.",
        )
    if now != "prepared":
        raise FetchError(
            f"the model {name} is not prepared here (state: {now})",
            hint=f"`cf models pull {name}` prepares it.",
        )
    return places.models / name
