"""`manifest.json` of a backup: whose faces, by which programs, and the rows of each table."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT: Literal[1] = 1
_MAX_TABLES = 5_000

Text = Annotated[str, Field(max_length=500)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]


class _Part(BaseModel):
    # A later cf may add to it without a new format.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Postgres(_Part):
    """The server that was dumped; `version` is its server_version_num, 150017 for 15.17."""

    version: Annotated[int, Field(ge=80000, lt=10_000_000)]
    user: Text
    database: Text


class ChangeSets(_Part):
    """Liquibase's change sets in the database; `sha256` of their ids, a line each."""

    count: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Part):
    """The content of `manifest.json`; all counts are of the dump's own snapshot."""

    format: Literal[1]
    cf: Text
    created: Text  # ISO 8601, UTC
    instance: Text  # "": of a volume that no instance of cf uses
    volume: Text
    build: Text  # "": not known
    calculator: Text  # of the instance; "": not known
    calculators: Annotated[dict[Text, Count], Field(max_length=1000)]  # faces of each
    tables: Annotated[dict[Text, Count], Field(max_length=_MAX_TABLES)]  # rows, by SQL name
    change_sets: ChangeSets
    postgres: Postgres
    database_bytes: Count
    images: Annotated[dict[Text, Text], Field(max_length=20)]  # service -> image
    settings: Annotated[dict[Text, Any], Field(max_length=200)]  # that somebody has set; no secrets


class BrokenManifest(Exception):
    """Why this is no manifest, in words."""


def text_of(manifest: Manifest) -> bytes:
    """The manifest as JSON; equal manifests give equal bytes."""
    data = manifest.model_dump(mode="json")
    return (json.dumps(data, indent=1) + "\n").encode()


def parse(text: bytes) -> Manifest:
    """Raises BrokenManifest, also for the format of another version."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenManifest(f"its manifest is not JSON: {str(error)[:200]}") from error
    form = data.get("format") if isinstance(data, dict) else None
    if form != FORMAT:
        raise BrokenManifest(f"its format is {str(form)[:20]!r}, and this cf reads {FORMAT}")
    try:
        return Manifest.model_validate(data)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        where = ".".join(map(str, first["loc"])) if first else "its depth"
        raise BrokenManifest(f"its manifest has a fault in {where[:100]}") from error
