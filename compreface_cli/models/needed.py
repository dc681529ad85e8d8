"""What would be downloaded for models that are not prepared yet, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from compreface_cli.models import catalogue
from compreface_cli.models.entry import Model
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

    def on_disk(self, places: Places | None = None) -> int | None:
        """The bytes of its files once they are here; None if they are not among the downloads."""
        folder = (places or Places()).weights
        names = {PurePosixPath(path).name for path in self.files}
        paths = [folder / model / name for model in self.models for name in names]
        return sum(path.stat().st_size for path in paths if path.is_file()) or None


def of(models: Sequence[Model], places: Places, catalogue_path: Path) -> tuple[Download, ...]:
    """The transfers that these models begin with, each archive or layer once.

    Files that exist on this machine are taken to be right, since reading them takes time; those
    without a source are left out.
    """
    wanted = [
        (model, file, tried)
        for model, file in ((m, f) for m in models for f in first(m, places).files)
        if (tried := addresses(file, places)) and not any(local(model, file, places))
    ]
    downloads = []
    while wanted:
        source = wanted[0][2][0]
        together = [row for row in wanted if row is wanted[0] or _lies_in(source, row[2])]
        size = catalogue.download_size(source, catalogue_path)
        downloads.append(
            Download(
                source=source,
                models=tuple(dict.fromkeys(model.name for model, _, _ in together)),
                files=tuple(file.path for _, file, _ in together),
                bytes=size if source.proven else wanted[0][1].bytes,
            )
        )
        wanted = [row for row in wanted if row not in together]
    return tuple(downloads)


def _lies_in(source: Source, tried: Sequence[Source]) -> bool:
    """Whether a file with these sources comes with the archive or layer of that one."""
    return source.proven and any(other.container == source.container for other in tried)


def first(model: Model, places: Places) -> Model:
    """The choice that is tried first: one whose files are here, else one that can be fetched."""
    choices = model.choices
    here = (c for c in choices if all(any(local(c, file, places)) for file in c.files))
    within = (c for c in choices if can_be_had(c, places))
    return next(here, None) or next(within, choices[0])


def can_be_had(choice: Model, places: Places) -> bool:
    """Whether each file of this choice is on this machine or has a source."""
    return all(addresses(file, places) or any(local(choice, file, places)) for file in choice.files)
