"""The builds that `cf import` kept: a folder each, with build file, model files and import record.

imported/NAME/NAME.yaml     the build file
imported/NAME/import.json   where it came from, and which of its sender's hashes the user accepted
imported/NAME/models/       a mirror of model files, searched for this build only
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from compreface_cli.errors import ConfigurationError
from compreface_cli.models.entry import Model

RECORD = "import.json"
MODELS = "models"


@dataclass(frozen=True, slots=True)
class Import:
    """The content of `import.json`."""

    source: str  # path or address of the file
    at: str  # time in ISO 8601
    sha256: str  # of the file
    cf: str  # version that wrote it
    build: str  # name of the build there
    accepted: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # model -> path -> hash

    @property
    def words(self) -> str:
        return f"imported from {self.source} on {self.at[:10]}; the file's SHA-256 is {self.sha256}"


def files(folder: Path) -> Iterator[Path]:
    """The build files of all imported builds in that folder."""
    for path in folder.glob("*/*.yaml"):
        if path.stem == path.parent.name:
            yield path


def text_of(record: Import) -> str:
    return json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"


def read(build_file: Path) -> Import:
    """The record of an imported build; raises ConfigurationError for a damaged one."""
    path = build_file.with_name(RECORD)
    try:
        data = json.loads(path.read_text("utf-8"))
        known = Import(**data)
        if not all(isinstance(hashes, dict) for hashes in known.accepted.values()):
            raise ValueError("its hashes are no table")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"the record of the imported build {build_file.stem} cannot be read: {path}: {error}",
            hint=f"Import it again with --force, or remove it: cf rm --build {build_file.stem}",
        ) from error
    return known


def with_files(models: Mapping[str, Model], build_file: Path) -> dict[str, Model]:
    """These models of an imported build, with its folder of files and the hashes accepted for it.

    A hash counts for this build alone: other builds with a model of that name do not accept it.
    """
    folder, accepted = build_file.parent / MODELS, read(build_file).accepted

    def of_build(model: Model) -> Model:
        hashes = accepted.get(model.name, {})
        files = tuple(
            replace(file, sha256=tuple(dict.fromkeys((*file.sha256, hashes[file.path]))))
            if file.path in hashes
            else file
            for file in model.files
        )
        paths = (file.path for choice in model.choices for file in choice.files)
        here = model.build_folder or any((folder / path).is_file() for path in paths)
        return replace(
            model,
            files=files,
            build_folder=str(folder) if here else "",
            alternatives=tuple(map(of_build, model.alternatives)),
        )

    return {name: of_build(model) for name, model in models.items()}
