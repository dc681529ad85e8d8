"""Has the engine's converter make a model ready, as a process of its own, whole or not at all.

A prepared folder holds what the engine loads (`model.json`, `model.onnx`, and with a runtime of its
own the source files) and `prepared.json`: the entry and the source files it was made from, and the
hash of every file in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compreface_cli import engine_python, leftovers
from compreface_cli.errors import CfError, FetchError
from compreface_cli.models.entry import Model
from compreface_cli.models.files import disk_error, make_folder, sha256_of

RECORD = "prepared.json"
SOURCE = "source"  # folder of the kept source files
CONVERT_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepared.json` says."""

    entry: str  # digest of the build's entry
    sources: Mapping[str, str]  # path of each source file -> its SHA-256
    files: Mapping[str, str]  # name -> SHA-256
    sizes: Mapping[str, int]  # name -> bytes

    @property
    def keeps_source(self) -> bool:
        """Whether the source files lie in it, for a runtime that loads them."""
        return any(name.startswith(f"{SOURCE}/") for name in self.files)


def entry_digest(model: Model) -> str:
    """Changes when a change of the entry makes another prepared model (a new source does not)."""
    entry = model.entry()
    entry["files"] = [file.path for file in model.files]
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> Prepared | None:
    """The record of a prepared folder, or None if there is none that can be read."""
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Prepared(data["entry"], data["sources"], data["files"], data["sizes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def intact(folder: Path, record: Prepared, *, by_hash: bool) -> bool:
    """Whether every recorded file is there with its size, and with its hash if that is asked."""
    try:
        for name, size in record.sizes.items():
            if (folder / name).stat().st_size != size:
                return False
        return not by_hash or all(
            sha256_of(folder / name) == digest for name, digest in record.files.items()
        )
    except OSError:
        return False


def prepare(
    model: Model,
    sources: Mapping[str, tuple[Path, str]],
    folder: Path,
    *,
    python: Path,
    portrait: Path,
    timeout_s: float | None = None,
) -> None:
    """Make `folder` from the source files (path in the entry -> where it lies, its SHA-256).

    The converter has `timeout_s` (by default CONVERT_TIMEOUT_S) and ends with this process. Raises
    FetchError for a file that is no such model, CfError when the converter fails otherwise; what
    stood in `folder` is replaced only by a whole new one.
    """
    make_folder(folder.parent)
    try:
        with leftovers.folder(f".{model.name}.", folder.parent) as work:
            made = _convert(model, sources, work, python, portrait, timeout_s)
            _record(model, sources, made)
            _swap(made, folder, work)
    except OSError as error:
        raise disk_error(error, folder) from error


def _convert(
    model: Model,
    sources: Mapping[str, tuple[Path, str]],
    work: Path,
    python: Path,
    portrait: Path,
    timeout_s: float | None,
) -> Path:
    spec, out = work / "entry.json", work / "out"
    entry = model.entry()
    for one in entry["files"]:  # the one hash that was proven, so that the converter can check it
        one["sha256"] = sources[one["path"]][1]
    spec.write_text(json.dumps(entry), encoding="utf-8")
    files = [str(sources[file.path][0]) for file in model.files]
    options = ["--keep-source"] if model.keep_source else []
    limit_s = timeout_s or CONVERT_TIMEOUT_S
    try:
        engine_python.run(
            python, "compreface_convert", "prepare", *options, "--spec", str(spec),
            "--models-source", *files, "--out", str(out), "--portrait", str(portrait),
            timeout_s=limit_s,
        )  # fmt: skip
    except TimeoutError as error:
        more = "give it more with --timeout SECONDS" if timeout_s else "take a faster machine"
        raise FetchError(
            f"model {model.name} was not ready after {limit_s:g} s",
            hint=f"Look at {', '.join(files)}: a network may be made to run without an end. If it "
            f"is right, {more}.",
        ) from error
    except engine_python.Failed as failed:
        said = f"model {model.name} could not be prepared: {failed}"
        if failed.refused:
            hint = f"Look at the entry of {model.name} in the build, and at {', '.join(files)}."
            raise FetchError(said, hint=hint) from failed
        hint = "This is a fault of the converter or of its environment: `cf doctor` looks at it."
        raise CfError(said, hint=hint) from failed
    return out / model.name


def _record(model: Model, sources: Mapping[str, tuple[Path, str]], made: Path) -> None:
    """Check what the converter left, and write `prepared.json` beside it."""
    try:
        said = json.loads((made / "model.json").read_text(encoding="utf-8"))
        weights = made / str(said["file"])
        if said["name"] != model.name or sha256_of(weights) != said["sha256"]:
            raise CfError(f"model {model.name}: the converter's files do not fit together")
    except (OSError, ValueError, KeyError) as error:
        raise CfError(
            f"model {model.name}: the converter left no model that can be read"
        ) from error
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    record = {
        "entry": entry_digest(model),
        "sources": {path: digest for path, (_, digest) in sources.items()},
        "files": {name: sha256_of(made / name) for name in names},
        "sizes": {name: (made / name).stat().st_size for name in names},
    }
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (made / RECORD).write_text(text, encoding="utf-8")


def _swap(made: Path, folder: Path, work: Path) -> None:
    if folder.exists():
        folder.rename(work / "old")
    try:
        made.rename(folder)
    except OSError:
        if (work / "old").exists():
            (work / "old").rename(folder)
        raise
