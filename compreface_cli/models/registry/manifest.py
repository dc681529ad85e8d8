"""The documents of an image: its index, manifest and config, read with every field checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compreface_cli.cpu import architecture

MANIFEST_BYTES = 4 << 20  # as in Docker and containerd
CONFIG_BYTES = 8 << 20
_LAYERS = 1000  # Docker stops at 127
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Unusable(Exception):
    """The image is not what it must be; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What a manifest names: SHA-256 and length in bytes."""

    digest: str  # sha256:...
    size: int

    @property
    def sha256(self) -> str:
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image for one platform; `layers` from the bottom up."""

    config: Blob
    layers: tuple[Blob, ...]


def read(data: bytes) -> Manifest | Blob:
    """The manifest, or what an index names for this machine: the manifest to be read instead.

    Raises Unusable.
    """
    document = _document(data, "manifest")
    if document.get("schemaVersion") == 1:
        raise Unusable("it has a manifest of the old schema 1, which states no digest of a layer")
    if isinstance(document.get("manifests"), list):
        return _of_index(document["manifests"])
    rows = document.get("layers")
    if not isinstance(rows, list) or not 0 < len(rows) <= _LAYERS:
        raise Unusable("its manifest has no list of layers")
    config = _blob(document.get("config"), CONFIG_BYTES)
    return Manifest(config, tuple(_blob(row) for row in rows))


def commands(data: bytes, layers: int) -> list[str] | None:
    """The command that made each layer, from the config's history.

    None where the history does not line up with the number of layers. Raises Unusable.
    """
    rows = _document(data, "config").get("history")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    made = [str(row.get("created_by") or "") for row in rows if not row.get("empty_layer")]
    return made if len(made) == layers else None


def _of_index(rows: list[Any]) -> Blob:
    """The manifest of linux on this machine's architecture, else the first for linux."""
    linux = []
    for row in rows:
        platform = row.get("platform") if isinstance(row, dict) else None
        if isinstance(platform, dict) and platform.get("os") == "linux":
            linux.append((platform.get("architecture"), row))
    own = [row for name, row in linux if name == architecture()]
    if not linux:
        raise Unusable("its index names no image for linux")
    return _blob((own or [row for _, row in linux])[0], MANIFEST_BYTES)


def _blob(row: Any, at_most: int | None = None) -> Blob:
    if not isinstance(row, Mapping):
        raise Unusable("its manifest is damaged")
    digest, size = row.get("digest"), row.get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise Unusable(f"it names a part by {str(digest)[:80]!r}, not by a SHA-256")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Unusable(f"it gives a part the size {str(size)[:40]!r}")
    if at_most is not None and size > at_most:
        raise Unusable(f"it has a manifest or config of {size} bytes, more than {at_most}")
    return Blob(digest, size)


def _document(data: bytes, kind: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"its {kind} is no JSON document") from error
    if not isinstance(document, dict):
        raise Unusable(f"its {kind} is no JSON object")
    return document
