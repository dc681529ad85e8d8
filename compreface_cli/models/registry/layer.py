"""Reads wanted files out of the layers of an image, each a tar stream, within bounds.

The names of members are compared, never used as paths: a file is written to where its caller says.
Whiteouts are those of the OCI image specification (layer.md): `.wh.NAME` removes NAME of the layers
below, `.wh..wh..opq` all that they have in its folder.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from compreface_cli.models.registry.manifest import Unusable
from compreface_cli.models.sources import matches
from compreface_cli.models.tar_stream import (
    BROKEN,
    Bounds,
    Forward,
    Readable,
    Refused,
    kind,
    members,
    plain_name,
    save,
)

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(slots=True)
class Search:
    """A search for files through the layers of an image, from the top down.

    `open`: path or pattern of each file that is still to come, and where it is written. Within a
    layer the last of several members of one name counts, as when the layer is unpacked.
    `refused`: why the image does not give a file, by its path or pattern.
    """

    open: dict[str, Path]
    bounds: Bounds = field(default_factory=Bounds)
    refused: dict[str, str] = field(default_factory=dict)
    _removed: set[str] = field(default_factory=set)  # by the layers above
    _emptied: set[str] = field(default_factory=set)

    def layer(self, stream: Readable, *, below: str = "") -> None:
        """Write the files that this tar stream has, and remember what it removes.

        `below`: the folder that its names are relative to. Raises Unusable, FetchError, OSError.
        """
        try:
            self._layer(stream, below)
        except Refused as refused:
            raise Unusable(f"a layer is not used: {refused}") from refused
        except BROKEN as error:
            raise Unusable(f"a layer is damaged: {str(error) or type(error).__name__}") from error

    def refuse(self, pattern: str, reason: str) -> None:
        del self.open[pattern]
        self.refused[pattern] = reason

    def _layer(self, stream: Readable, below: str) -> None:
        here: dict[str, dict[str, str]] = {}  # pattern -> name of each match -> "" or its kind
        removed: set[str] = set()
        emptied: set[str] = set()
        for member, forward in members(stream, self.bounds):
            name = "/".join([*([below] if below else []), plain_name(member.name)])
            folder, _, last = name.rpartition("/")
            if last == _OPAQUE:
                emptied.add(folder)
            elif last.startswith(_WHITEOUT):
                gone = f"{folder}/{last.removeprefix(_WHITEOUT)}".lstrip("/")
                if any(_concerns(gone, pattern) for pattern in self.open):
                    removed.add(gone)
            elif not self._hidden(name):
                for pattern, target in list(self.open.items()):
                    try:
                        self._consider(member, name, pattern, target, here, forward)
                    except Refused as refused:
                        self.refuse(pattern, str(refused))
        for pattern in [pattern for pattern in here if pattern in self.open]:
            name, what = next(iter(here[pattern].items()))
            if len(here[pattern]) > 1:
                names = " and ".join(sorted(here[pattern])[:3])
                self.refuse(pattern, f"{pattern} matches more than one file: {names}")
            elif what:
                self.refuse(
                    pattern, f"{name} is {what} in the image, and only plain files are read"
                )
            else:
                del self.open[pattern]
        self._removed |= removed
        self._emptied |= {folder for folder in emptied if self._above(folder)}
        for pattern in list(self.open):
            if self._hidden(pattern):
                self.refuse(pattern, f"{pattern} is missing: a layer of the image removes it")

    def _consider(
        self,
        member: tarfile.TarInfo,
        name: str,
        pattern: str,
        target: Path,
        here: dict[str, dict[str, str]],
        forward: Forward,
    ) -> None:
        """Write the member if it is the file; raises Refused if the file cannot be taken."""
        if matches(pattern, name):
            if member.isdir() and "*" in pattern:
                return
            matched = here.setdefault(pattern, {})
            matched[name] = kind(member)
            if not matched[name] and len(matched) == 1:
                save(member, forward, target)
        elif pattern.startswith(f"{name}/") and not member.isdir():
            raise Refused(f"{pattern} lies behind {name}, which is {kind(member) or 'a file'}")

    def _hidden(self, name: str) -> bool:
        """Whether a layer above has removed this file."""
        if name in self._removed:
            return True
        parts = name.split("/")
        folders = ("/".join(parts[:length]) for length in range(len(parts)))
        return any(folder in self._removed or folder in self._emptied for folder in folders)

    def _above(self, folder: str) -> bool:
        return any(not folder or pattern.startswith(f"{folder}/") for pattern in self.open)


def _concerns(gone: str, pattern: str) -> bool:
    return matches(pattern, gone) or pattern.startswith(f"{gone}/")
