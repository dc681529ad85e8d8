"""Prepares a model with the engine's converter, in a subprocess and atomically.

A prepared folder has the files that the engine loads (`model.json`, `model.onnx`, and the source
files for a runtime that loads those) and `prepared.json`: the entry and the source files that it
was made from, and the hash of every file in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compreface_cli import engine_python, leftovers
from compreface_cli.errors import CfError, FetchError
from compreface_cli.models import origins
from compreface_cli.models.entry import Model
from compreface_cli.models.files import disk_error, make_folder, sha256_of

RECORD = "prepared.json"
SOURCE = "source"  # folder of the kept source files
CONVERT_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The content of `prepared.json`."""

    entry: str  # digest of the build's entry
    sources: Mapping[str, str]  # path of each source file in the entry -> its SHA-256
    files: Mapping[str, str]  # name -> SHA-256
    sizes: Mapping[str, int]  # name -> bytes
    origins: Mapping[str, str]  # path of each source file in the entry -> where it came from

    @property
    def keeps_source(self) -> bool:
        """Whether the folder has the source files, for a runtime that loads them."""
        return any(name.startswith(f"{SOURCE}/") for name in self.files)


def entry_digest(model: Model) -> str:
    """The digest of what the conversion depends on: of the whole entry but hashes and sources."""
    entry = model.entry()
    entry["files"] = [file.path for file in model.files]
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> Prepared | None:
    """The record of a prepared folder; None if it is missing or cannot be read."""
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        noted = data.get("origins", {})  # absent from records of earlier versions
        return Prepared(data["entry"], data["sources"], data["files"], data["sizes"], noted)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def intact(folder: Path, record: Prepared, *, by_hash: bool) -> bool:
    """Whether every recorded file has the recorded size, and with `by_hash` the recorded hash."""
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
    """Prepare the model in `folder` from `sources` (path in the entry -> local path, SHA-256).

    The converter is limited to `timeout_s` (default: CONVERT_TIMEOUT_S) and ends with this process.
    `folder` is replaced only after success. Raises FetchError for files that are not such a model,
    CfError for other failures of the converter.
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
    for file in entry["files"]:  # the verified hash, for the converter's own check
        file["sha256"] = sources[file["path"]][1]
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
        more = "allow more time with --timeout SECONDS" if timeout_s else "use a faster machine"
        raise FetchError(
            f"model {model.name} was not prepared within {limit_s:g} s",
            hint=f"Check {', '.join(files)}: a broken or malicious network may never finish. If "
            f"the file is right, {more}.",
        ) from error
    except engine_python.Failed as failed:
        message = f"model {model.name} could not be prepared: {failed}"
        if failed.refused:
            hint = f"Check the entry of {model.name} in the build, and {', '.join(files)}."
            raise FetchError(message, hint=hint) from failed
        hint = "This is a bug in the converter, or its environment is damaged: run `cf doctor`."
        raise CfError(message, hint=hint) from failed
    return out / model.name


def _record(model: Model, sources: Mapping[str, tuple[Path, str]], made: Path) -> None:
    """Check the converter's output, and write `prepared.json` beside it."""
    try:
        document = json.loads((made / "model.json").read_text(encoding="utf-8"))
        weights = made / str(document["file"])
        if document["name"] != model.name or sha256_of(weights) != document["sha256"]:
            raise CfError(f"model {model.name}: the converter's files are inconsistent")
    except (OSError, ValueError, KeyError) as error:
        raise CfError(f"model {model.name}: the converter wrote no readable model") from error
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    record = {
        "entry": entry_digest(model),
        "sources": {path: digest for path, (_, digest) in sources.items()},
        "origins": {path: origins.of(local) for path, (local, _) in sources.items()},
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
