"""`export.json` of an exported build: its writer, its models as they were there, the files."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from compreface_cli.builds.spec import NAME, ModelSpec
from compreface_cli.builds.spec_entry import SHA256, Strict

FORMAT = 1

Sha256 = Annotated[str, Field(pattern=SHA256)]
Path = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=2000)]


class Hash(Strict):
    """The hash of the file that a model was made from on the sender's machine, and its standing.

    `by`: "entry" if the model's entry has it, "source" if the digest in a source proved the file,
    "user" if the sender accepted it.
    """

    sha256: Sha256
    by: Literal["entry", "source", "user"]


class SharedModel(Strict):
    """A model of the build: its entry, where that stands, and its files' hashes by path."""

    entry: ModelSpec
    known_from: Literal["build", "catalogue"]
    hashes: dict[Path, Hash]


class Inside(Strict):
    """A model file in the archive."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Strict):
    """The content of `export.json`."""

    format: Literal[1]
    cf: Annotated[str, Field(min_length=1, max_length=80)]
    build: Annotated[str, Field(pattern=NAME)]
    models: Annotated[list[SharedModel], Field(max_length=64)]
    files: Annotated[dict[Path, Inside], Field(max_length=512)]

    def model(self, name: str) -> SharedModel | None:
        return next((each for each in self.models if each.entry.name == name), None)


class BrokenManifest(Exception):
    """Why this is no manifest, in words."""


def text_of(manifest: Manifest) -> bytes:
    """Equal manifests give equal bytes."""
    data = manifest.model_dump(mode="json", exclude_defaults=True)
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()


def parse(text: bytes) -> Manifest:
    """Raises BrokenManifest, also for the format of another version."""
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BrokenManifest(f"it is not JSON: {error}") from error
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise BrokenManifest(
            f"its format is {str(data.get('format'))[:20]!r}, and this cf reads format {FORMAT}"
        )
    try:
        return Manifest.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise BrokenManifest(f"{where}: {first['msg']}"[:500]) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key is duplicated")
    return data
