"""`cf scan`: sends photographs to the running engine, one after another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compreface_cli.config import settings
from compreface_cli.deploy import running, unfinished
from compreface_cli.engine.client import LATER, EngineClient, Refused, is_up
from compreface_cli.errors import CfError, UnhealthyError, UsageError
from compreface_cli.photos.pictures import ENDINGS, Picture, Unfit

_BUSY_TRIES = 5
_NO_FACE = "No face is found"
CUT_SHORT = "is truncated: decoded as far as possible"

Face = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The engine's answer for a picture: its faces, which may be none, or an error."""

    picture: Picture
    faces: tuple[Face, ...] = ()
    error: str | None = None
    data: bytes = b""  # the bytes that were sent, if they are still needed
    cut_short: bool = False  # the file is truncated, and was decoded as far as possible


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine's description of itself."""

    url: str
    calculator: str
    similarity: tuple[float, float]  # coefficients c0, c1 of the calculator
    plugins: tuple[str, ...]  # slugs without the detector


def client_of(instance: str | None, url: str | None) -> EngineClient:
    """A client of the engine at `url`, with a key from CF_API_KEYS, or of an instance."""
    if url and instance:
        raise UsageError("--url cannot be combined with --instance", hint="Give one of them.")
    if url:
        keys: str = settings.resolve().get("api_keys") or ""
        return EngineClient(url, key=keys.partition(",")[0])
    record = unfinished.actual(running.pick(instance, only_running=instance is None))
    if record.phase == "stopped" or not record.deployment:
        raise UnhealthyError(
            f"instance '{record.name}' is stopped",
            hint=f"Start it: {running.start_command(record)}",
        )
    engine = running.deployment(record).engine
    return EngineClient(engine.url, key=engine.key)


def describe(client: EngineClient) -> Engine:
    """Ask the engine for its description; raises UnhealthyError when it is no such engine."""
    try:
        status = client.status()
        c0, c1 = (float(value) for value in status["similarity_coefficients"])
        plugins = tuple(slug for slug in status["available_plugins"] if slug != "detector")
        return Engine(client.url, str(status["calculator_version"]), (c0, c1), plugins)
    except Refused as refusal:
        if refusal.status == 401:
            refusal.hint = "Set CF_API_KEYS to a key that the engine accepts."
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UnhealthyError(
            f"the service at {client.url} is not a CompreFace engine: its status lacks {error}",
            hint="With the full stack the engine has a port of its own: see `cf status`.",
        ) from error


def chosen(engine: Engine, words: str | None) -> tuple[str, ...]:
    """The plugins to use: all of the engine's, or those of a list such as `age,gender`.

    `none`: only boxes, since the detector always runs. Raises UsageError for a plugin that the
    engine does not have.
    """
    if words is None:
        return engine.plugins
    hint = f"It has: {', '.join(sorted(engine.plugins)) or 'none'}."
    named = list(dict.fromkeys(word.strip() for word in words.split(",")))
    if named == ["none"]:
        return ()
    if "" in named:
        raise UsageError(
            f"--plugins: '{words}' contains an empty name",
            hint=f"{hint} For boxes alone write none.",
        )
    if "none" in named:
        raise UsageError("--plugins: 'none' cannot be combined with other names", hint=hint)
    if named == ["detector"]:
        raise UsageError(
            "--plugins: the detector always runs and is not selected here",
            hint=f"{hint} For boxes alone write none.",
        )
    unknown = [name for name in named if name not in (*engine.plugins, "detector")]
    if unknown:
        raise UsageError(
            f"--plugins: the engine at {engine.url} has no {', '.join(unknown)}", hint=hint
        )
    return tuple(name for name in named if name != "detector")


def scan(
    client: EngineClient,
    pictures: Iterable[Picture],
    plugins: Sequence[str],
    *,
    keep_data: bool = False,
    done: Callable[[float], None] = lambda amount: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterable[ScanResult]:
    """Scan the pictures in order; raises UnhealthyError when the engine stops answering."""
    for picture in pictures:
        result = _scan_one(client, picture, plugins, sleep)
        yield result if keep_data else without_data(result)
        done(1)


def without_data(result: ScanResult) -> ScanResult:
    """The result without the picture's bytes, which are needed only for drawing."""
    return replace(result, data=b"")


def _scan_one(
    client: EngineClient,
    picture: Picture,
    plugins: Sequence[str],
    sleep: Callable[[float], None],
) -> ScanResult:
    try:
        data = picture.read()
    except Unfit as error:
        return ScanResult(picture, error=error.message)
    except OSError as error:
        return ScanResult(picture, error=f"cannot be read: {error.strerror or error}")
    name = picture.path.name if picture.path else "stdin"
    # The engine ignores the name, and a header cannot contain every character.
    name = name.encode("ascii", "replace").decode()
    try:
        answer = with_retries(client, data, name, plugins, sleep)
        faces, cut_short = tuple(answer["result"]), bool(answer.get("truncated"))
        return ScanResult(picture, faces, data=data, cut_short=cut_short)
    except Refused as refusal:
        if _NO_FACE in refusal.message:
            return ScanResult(picture, data=data, cut_short=refusal.truncated)
        return ScanResult(picture, error=_reason(refusal), data=data)
    except (KeyError, TypeError):
        return ScanResult(picture, error="the engine's answer has no list of faces", data=data)
    except UnhealthyError as error:
        if not is_up(client.url, key=client.key):
            raise
        return ScanResult(picture, error=error.message, data=data)


def with_retries(
    client: EngineClient,
    data: bytes,
    name: str,
    plugins: Sequence[str],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The engine's answer; retries when its queue is full (503) or its rate limit is hit (429)."""
    for pause in (0.5 * 2**n for n in range(_BUSY_TRIES)):
        try:
            return client.scan(data, filename=name, plugins=plugins)
        except Refused as refusal:
            if refusal.status not in LATER:
                raise
            sleep(pause)
    return client.scan(data, filename=name, plugins=plugins)


def _reason(refusal: Refused) -> str:
    """The message without its status line: `400 Bad Request: Image has ...`."""
    status, separator, text = refusal.message.partition(": ")
    return text if separator and status[:3].isdigit() else refusal.message


def targets(pictures: Sequence[Picture], out: Path, into_folder: bool) -> list[Path]:
    """The path of each picture's drawing, in order; all different, and none is an input.

    Raises UsageError when `out` does not fit: it must be a folder for several pictures, else a
    file, and its parent folder must exist.
    """
    if into_folder:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--draw: {out} is a file; several pictures need a folder")
        if out.suffix.lower() in ENDINGS and not out.is_dir():
            raise UsageError(
                f"--draw: {out} names one picture; several pictures need a folder",
                hint=f"Name a folder: --draw {out.with_suffix('')}",
            )
    elif out.is_dir():
        raise UsageError(f"--draw: {out} is a folder; name a file like {out / 'out.jpg'}")
    elif out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise UsageError(f"--draw: {out} must end in .jpg or .png")
    if not out.exists() and not out.parent.is_dir():
        raise UsageError(
            f"--draw: there is no folder {out.parent}",
            hint=f"Create it first: mkdir -p {out.parent}",
        )
    drawings: list[Path] = []
    taken = {picture.path.resolve() for picture in pictures if picture.path}
    if not into_folder:
        if out.resolve() in taken:
            raise UsageError(f"--draw: {out} would be overwritten", hint="Choose another name.")
        return [out]
    for picture in pictures:
        stem = picture.path.stem if picture.path else "stdin"
        ending = ".png" if picture.path and picture.path.suffix.lower() == ".png" else ".jpg"
        number = 1
        target = out / f"{stem}{ending}"
        while target.resolve() in taken:
            number += 1
            target = out / f"{stem}-{number}{ending}"
        taken.add(target.resolve())
        drawings.append(target)
    return drawings


def draw(result: ScanResult, target: Path) -> str | None:
    """Draw the faces and save the picture; returns the reason if that fails."""
    from compreface_cli.photos import drawing

    try:
        drawing.draw(result.data, result.faces, target)
    except CfError as error:
        return error.message
    return None


def short_names(names: Sequence[str]) -> list[str]:
    """The shortest endings of the paths that are unique, for a table."""
    parts = [Path(name).parts[-4:] or (name,) for name in names]
    for length in (1, 2, 3):
        short = [os.path.join(*part[-length:]) for part in parts]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)
