"""Writes a rendered project atomically; keeps secrets, and refuses to overwrite edited files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compreface_cli import __version__
from compreface_cli.errors import CfError, ConfigurationError, ConflictError
from compreface_cli.project.rendered import FileRef, RenderedProject
from compreface_cli.project.targets.compose import (
    ENV_FILE,
    KEYS_FILE,
    KEYS_FOLDER,
    PRIVATE,
    key_digests,
)
from compreface_cli.project.targets.templating import env_text, secret_text

MANIFEST = ".cf-manifest.json"
OVERRIDE = "compose.override.yaml"
_OWN = frozenset({ENV_FILE, MANIFEST, OVERRIDE, "compose.override.yml"})
_OF_MANIFEST = ("instance", "calculator", "volume")  # what a project was rendered for
_DIFF_LINES = 60
_SECRETS: Mapping[str, str] = {  # key of `.env` -> setting
    "POSTGRES_PASSWORD": "postgres_password",
    "EMAIL_PASSWORD": "email_password",
}


@dataclass(frozen=True, slots=True)
class Written:
    """The paths in the folder that a write has changed and removed."""

    folder: Path
    changed: tuple[str, ...]
    removed: tuple[str, ...] = ()


def state(rendered: RenderedProject, folder: Path) -> Literal["absent", "same", "differs"]:
    """Whether this project stands in the folder already.

    Raises ConflictError for a database password other than the one the project was made with.
    """
    manifest = _manifest(folder)
    if manifest is None or not (folder / ENV_FILE).is_file():
        return "absent"
    wanted = rendered.hashes()
    if manifest["files"] != wanted or manifest.get("pending"):
        return "differs"
    if any(_text(folder / path) != text for path, text in _secrets(rendered, folder).items()):
        return "differs"
    same = all(_hash(folder / path) == digest for path, digest in wanted.items())
    return "same" if same else "differs"


@dataclass(frozen=True, slots=True)
class RenderedFor:
    """What a project in a folder was rendered for."""

    instance: str = ""  # "": not known
    calculator: str = ""  # of the database; "": none, or not known
    volume: str = ""  # with existing data; "": it has one of its own, or none
    password: bool = False  # whether `.env` has the database's password


def rendered_for(folder: Path) -> RenderedFor:
    """What the project in the folder was rendered for, by its manifest; empty without one."""
    manifest = _manifest(folder) or {}
    return RenderedFor(
        str(manifest.get("instance", "")),
        str(manifest.get("calculator", "")),
        str(manifest.get("volume", "")),
        bool(read_env(folder / ENV_FILE).get("POSTGRES_PASSWORD")),
    )


def write(rendered: RenderedProject, folder: Path) -> Written:
    """Write the project to the folder; a failure leaves the folder as it was.

    Raises ConflictError for a file that was edited by hand (with a diff), for a folder with files
    that `cf` did not render, and for another database password than the project was created with.
    """
    created = _make_folder(folder)
    try:
        return _write(rendered, folder)
    except BaseException as error:
        if created is not None:
            shutil.rmtree(created, ignore_errors=True)
        if isinstance(error, OSError):
            raise CfError(f"{folder} cannot be written: {error.strerror or error}") from error
        raise


def _make_folder(folder: Path) -> Path | None:
    """Create the folder; returns the topmost folder that was created, None if it existed."""
    if folder.is_dir():
        return None
    topmost = folder
    while not topmost.parent.exists():
        topmost = topmost.parent
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise CfError(f"{folder} cannot be created: {error.strerror}") from error
    return topmost


def _write(rendered: RenderedProject, folder: Path) -> Written:
    manifest = _manifest(folder)
    if manifest is None:
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OWN)
        if foreign:
            raise ConflictError(
                f"{folder} was not rendered by cf and is not empty ({', '.join(foreign[:5])})",
                hint="choose an empty folder",
            )
        manifest = {"files": {}, "pending": {}}
    wanted = rendered.hashes()
    known: dict[str, str] = manifest["files"]
    _refuse_hand_edits(rendered, folder, known, manifest.get("pending", {}))
    private = _secrets(rendered, folder)

    changed = [path for path, digest in wanted.items() if _hash(folder / path) != digest]
    removed = [path for path in known if path not in wanted and (folder / path).is_file()]
    private = {path: text for path, text in private.items() if _text(folder / path) != text}
    stage = Path(tempfile.mkdtemp(dir=folder, prefix=".cf-stage-"))
    try:
        for path in changed:
            _stage(rendered.files[path], stage / "new" / path, 0o600 if path in PRIVATE else 0o644)
        for path, text in private.items():
            _write_text(stage / "new" / path, text, 0o600)
        moves = [*changed, *private]
        # Saved before the first move, so that a killed run is not taken for a hand edit.
        _save_manifest(folder, known, wanted, manifest)
        _swap(folder, stage, moves, removed, manifest)
        of = {key: getattr(rendered, key) for key in _OF_MANIFEST}
        _save_manifest(folder, wanted, {}, of)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    for path in removed:
        _prune(folder, (folder / path).parent)
    return Written(folder, tuple(moves), tuple(removed))


def _swap(
    folder: Path, stage: Path, moves: list[str], removed: list[str], manifest: Mapping[str, Any]
) -> None:
    """Move the staged files into place; on failure restore all."""
    done: list[str] = []
    try:
        for path in (*moves, *removed):
            target, old = folder / path, stage / "old" / path
            done.append(path)
            if target.exists():
                old.parent.mkdir(parents=True, exist_ok=True)
                if path == KEYS_FILE and path in moves:
                    shutil.copyfile(target, old)
                else:
                    os.replace(target, old)
            if path in moves:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.parent == folder / KEYS_FOLDER:
                    target.parent.chmod(0o700)
                replace_mounted(stage / "new" / path, target)
    except BaseException:
        for path in reversed(done):
            old = stage / "old" / path
            if old.exists():
                replace_mounted(old, folder / path)
            else:
                with suppress(FileNotFoundError, NotADirectoryError):
                    (folder / path).unlink()
        _save_manifest(folder, manifest["files"], {}, manifest)
        raise


def replace_mounted(source: Path, target: Path) -> None:
    """Move a file over another; one that a running container has mounted is written in place.

    A mount is of the file itself, so that the container would keep the old one. All lines of the
    file of key digests have one length: whoever reads it meanwhile sees whole lines.
    """
    if target.name != Path(KEYS_FILE).name or not target.is_file():
        os.replace(source, target)
        return
    content = source.read_bytes()
    handle = os.open(target, os.O_WRONLY)
    try:
        os.pwrite(handle, content, 0)
        os.ftruncate(handle, len(content))
        os.fsync(handle)
    finally:
        os.close(handle)
    source.unlink()


def set_keys(folder: Path, keys: str) -> None:
    """Change the API keys of a project, comma-separated: in `.env`, and as digests."""
    set_env(folder, "CF_API_KEYS", keys)
    manifest = _manifest(folder)
    if manifest is None:
        return
    text = key_digests(keys)
    files = {**manifest["files"], KEYS_FILE: hashlib.sha256(text.encode()).hexdigest()}
    # Saved before, so that a killed run is not taken for a hand edit.
    _save_manifest(folder, manifest["files"], files, manifest)
    part = folder / KEYS_FOLDER / ".part"
    _write_text(part, text, 0o644)
    replace_mounted(part, folder / KEYS_FILE)
    _save_manifest(folder, files, {}, manifest)


def _refuse_hand_edits(
    rendered: RenderedProject,
    folder: Path,
    known: Mapping[str, str],
    pending: Mapping[str, str],
) -> None:
    wanted = rendered.hashes()
    faults = []
    for path in sorted({*wanted, *known}):
        present = _hash(folder / path)
        if present in (None, known.get(path), pending.get(path), wanted.get(path)):
            continue
        faults.append(_edit(folder / path, rendered.files.get(path)))
    if faults:
        raise ConflictError(
            "\n".join(faults),
            hint=f"Put your changes in {OVERRIDE}, which cf never changes. To have a file written "
            "again, move yours away first.",
        )


def _edit(path: Path, wanted: str | FileRef | None) -> str:
    head = f"{path} was edited by hand and is not replaced"
    if not isinstance(wanted, str):
        return head
    from difflib import unified_diff

    try:
        present = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return head
    lines = list(
        unified_diff(
            present,
            wanted.splitlines(),
            path.name,
            f"{path.name}, as cf would write it",
            "",
            "",
            2,
            lineterm="",
        )
    )
    more = [f"... {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else []
    return "\n".join([f"{head}:", *lines[:_DIFF_LINES], *more])


def _secrets(rendered: RenderedProject, folder: Path) -> dict[str, str]:
    """The texts of `.env`, and of what is made of it, by their paths."""
    values = _env(rendered, folder)
    others = {
        path: secret_text(template, rendered.instance, rendered.services, values)
        for path, template in rendered.secret_files.items()
    }
    return {ENV_FILE: env_text(rendered.instance, values), **others}


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None


def _env(rendered: RenderedProject, folder: Path) -> dict[str, str]:
    """The values of `.env`: existing ones are kept, missing passwords are generated."""
    kept = read_env(folder / ENV_FILE)
    values: dict[str, str] = dict(kept)
    if "api_keys" in rendered.secrets:
        values["CF_API_KEYS"] = rendered.secrets["api_keys"]
    else:
        values.pop("CF_API_KEYS", None)  # only while it is set
    for key, setting in _SECRETS.items():
        given = rendered.secrets.get(setting)
        if key == "POSTGRES_PASSWORD" and not rendered.own_database:
            values[key] = given or kept.get(key) or refuse_no_password()
        elif key == "POSTGRES_PASSWORD":
            if given and kept.get(key) not in (None, given):
                raise ConflictError(
                    f"{folder / ENV_FILE} has another database password than the setting {setting}",
                    hint="The password of a database is set when its volume is created. Leave the "
                    "setting out; `cf secrets rotate` gives the database a new password.",
                )
            values.setdefault(key, given or secrets.token_urlsafe(24))
        elif given is not None:
            values[key] = given
        else:
            values.setdefault(key, "")
    for key in rendered.generated:
        values.setdefault(key, secrets.token_urlsafe(24))
    return values


def refuse_no_password() -> str:
    """Raise ConfigurationError: no password of a database elsewhere is known."""
    raise ConfigurationError(
        "the password of the database elsewhere is not set",
        hint="Put it into the address (CF_DATABASE_URL, database_url_file), or set "
        "CF_POSTGRES_PASSWORD.",
    )


def set_env(folder: Path, key: str, value: str) -> None:
    """Change one value in the `.env` of a project, which is written whole or not at all."""
    path = folder / ENV_FILE
    values = {**read_env(path), key: value}
    instance = str((_manifest(folder) or {}).get("instance", folder.name))
    write_whole(path, env_text(instance, values), mode=0o600)


def write_whole(path: Path, text: str, *, mode: int) -> None:
    """Write a file that survives a power failure, or leave the old one."""
    part = path.with_name(f"{path.name}.part")
    _write_text(part, text, mode, sync=True)
    os.replace(part, path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_env(path: Path) -> dict[str, str]:
    """The values of an `.env` file that `cf` wrote; empty without a file."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    values = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=(?:'([^']*)'|\"(.*)\"|(.*))", line.strip())
        if match is None:
            continue
        key, literal, escaped, bare = match.groups()
        if literal is None and escaped is not None:
            literal = re.sub(r"\\(.)", r"\1", escaped)
        values[key] = literal if literal is not None else bare
    return values


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise ConflictError(
            f"{folder} is not a folder", hint="choose the path of a folder, new or empty"
        ) from error
    except (OSError, ValueError) as error:
        raise ConflictError(
            f"{path} cannot be read: {error}", hint="render into an empty folder instead"
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("files"), dict):
        raise ConflictError(f"{path} is damaged", hint="render into an empty folder instead")
    return document


def _save_manifest(
    folder: Path, files: Mapping[str, str], pending: Mapping[str, str], of: Mapping[str, Any]
) -> None:
    whose = {key: of[key] for key in _OF_MANIFEST if key in of}
    document = {"schema": 1, "version": __version__, **whose, "files": dict(sorted(files.items()))}
    if pending:
        document["pending"] = dict(sorted(pending.items()))
    part = folder / f"{MANIFEST}.part"
    _write_text(part, json.dumps(document, indent=1) + "\n", 0o644)
    os.replace(part, folder / MANIFEST)


def _stage(content: str | FileRef, target: Path, mode: int) -> None:
    if isinstance(content, str):
        _write_text(target, content, mode)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(content.source, target)
    target.chmod(mode)
    if _hash(target) != content.sha256:
        raise CfError(f"{content.source} changed while it was copied")


def _write_text(path: Path, text: str, mode: int, *, sync: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        if sync:
            stream.flush()
            os.fsync(stream.fileno())


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _prune(root: Path, folder: Path) -> None:
    """Remove the folder and its parents below `root` while they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
