"""What would be downloaded for models that are not prepared yet, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compreface_cli.models import catalogue
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.places import Places, addresses, local
from compreface_cli.models.sources import Source


@dataclass(frozen=True, slots=True)
class Download:
    """One transfer: of a file, of an archive, or of an image's layer with all files in it.

    `source`: that of its first file. `models`: their names. `files`: the paths of the files in
    their entries. `bytes`: what is transferred; None: not known.
    """

    source: Source
    models: tuple[str, ...]
    files: tuple[str, ...]
    bytes: int | None


def of(models: Sequence[Model], places: Places, catalogue_path: Path) -> tuple[Download, ...]:
    """The transfers that these models begin with, each archive or layer once.

    Files that exist on this machine are taken to be right, since reading them takes time; those
    without a source are left out.
    """
    wanted: dict[tuple[str, ...], list[tuple[Model, ModelFile, Source]]] = {}
    for model in models:
        for file in first(model, places).files:
            tried = addresses(file, places)
            if not tried or any(local(model, file, places)):
                continue
            wanted.setdefault(tried[0].container, []).append((model, file, tried[0]))
    return tuple(
        Download(
            source=group[0][2],
            models=tuple(dict.fromkeys(model.name for model, _, _ in group)),
            files=tuple(file.path for _, file, _ in group),
            bytes=catalogue.download_size(group[0][2], catalogue_path)
            if group[0][2].proven
            else group[0][1].bytes,
        )
        for group in wanted.values()
    )


def first(model: Model, places: Places) -> Model:
    """The choice that is tried first: one whose files are here, else one that can be fetched."""
    choices = model.choices
    here = (c for c in choices if all(any(local(c, file, places)) for file in c.files))
    within = (c for c in choices if can_be_had(c, places))
    return next(here, None) or next(within, choices[0])


def can_be_had(choice: Model, places: Places) -> bool:
    """Whether each file of this choice is on this machine or has a source."""
    return all(addresses(file, places) or any(local(choice, file, places)) for file in choice.files)
