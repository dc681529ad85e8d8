"""`cf scan`: what the running engine sees in photographs, one picture after another."""

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
CUT_SHORT = "cut short: decoded as far as it goes"

Face = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture's answer: the engine's faces (none is an answer too), or why there is none."""

    picture: Picture
    faces: tuple[Face, ...] = ()
    error: str | None = None
    data: bytes = b""  # what was sent, if it was to be kept
    cut_short: bool = False  # the file ended early; what there is of it was decoded


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine that was asked."""

    url: str
    calculator: str
    similarity: tuple[float, float]  # c0, c1 of the calculator
    plugins: tuple[str, ...]  # slugs without the detector


def client_of(instance: str | None, url: str | None) -> EngineClient:
    """A client of the engine at the address given (CF_API_KEYS has its key), or of an instance."""
    if url and instance:
        raise UsageError("--url and --instance name two engines", hint="Give one of them.")
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
    """What the engine says of itself; raises UnhealthyError when it is none of ours."""
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
            f"what answers at {client.url} is no CompreFace engine: its status lacks {error}",
            hint="With the full stack the engine has a port of its own: see `cf status`.",
        ) from error


def chosen(engine: Engine, words: str | None) -> tuple[str, ...]:
    """The plugins to ask: all that the engine has, or those of a list like `age,gender`.

    `none` is a list without any: boxes alone, since the detector always runs. Raises UsageError for
    what the engine has not.
    """
    if words is None:
        return engine.plugins
    hint = f"It has: {', '.join(sorted(engine.plugins)) or 'none'}."
    named = list(dict.fromkeys(word.strip() for word in words.split(",")))
    if named == ["none"]:
        return ()
    if "" in named:
        raise UsageError(
            f"--plugins: a name is missing in '{words}'",
            hint=f"{hint} For boxes alone write none.",
        )
    if "none" in named:
        raise UsageError("--plugins: 'none' stands alone", hint=hint)
    if named == ["detector"]:
        raise UsageError(
            "--plugins: the detector is no plugin to ask for: it always runs",
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
) -> Iterable[Seen]:
    """Ask for one picture after another; raises UnhealthyError when the engine itself is gone."""
    for picture in pictures:
        seen = _ask(client, picture, plugins, sleep)
        yield seen if keep_data else without_data(seen)
        done(1)


def without_data(seen: Seen) -> Seen:
    """The same without the picture's bytes, which are only needed to draw."""
    return replace(seen, data=b"")


def _ask(
    client: EngineClient,
    picture: Picture,
    plugins: Sequence[str],
    sleep: Callable[[float], None],
) -> Seen:
    try:
        data = picture.read()
    except Unfit as unfit:
        return Seen(picture, error=unfit.message)
    except OSError as error:
        return Seen(picture, error=f"cannot be read: {error.strerror or error}")
    name = picture.path.name if picture.path else "stdin"
    # The name says nothing to the engine, and a header takes no odd characters.
    name = name.encode("ascii", "replace").decode()
    try:
        answer = patiently(client, data, name, plugins, sleep)
        faces, cut_short = tuple(answer["result"]), bool(answer.get("truncated"))
        return Seen(picture, faces, data=data, cut_short=cut_short)
    except Refused as refusal:
        if _NO_FACE in refusal.message:
            return Seen(picture, data=data, cut_short=refusal.truncated)
        return Seen(picture, error=_own_words(refusal), data=data)
    except (KeyError, TypeError):
        return Seen(picture, error="the engine's answer has no faces in it", data=data)
    except UnhealthyError as error:
        if not is_up(client.url, key=client.key):
            raise
        return Seen(picture, error=error.message, data=data)


def patiently(
    client: EngineClient,
    data: bytes,
    name: str,
    plugins: Sequence[str],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The engine's answer; a full queue (503) and a limit of requests (429) are waited for."""
    for pause in (0.5 * 2**n for n in range(_BUSY_TRIES)):
        try:
            return client.scan(data, filename=name, plugins=plugins)
        except Refused as refusal:
            if refusal.status not in LATER:
                raise
            sleep(pause)
    return client.scan(data, filename=name, plugins=plugins)


def _own_words(refusal: Refused) -> str:
    """`400 Bad Request: Image has ...` without its first part, which says nothing to a reader."""
    head, separator, text = refusal.message.partition(": ")
    return text if separator and head[:3].isdigit() else refusal.message


def targets(pictures: Sequence[Picture], out: Path, into_folder: bool) -> list[Path]:
    """Where each picture is drawn, in their order; never over one that is read, none twice.

    Raises UsageError when `out` does not fit: a folder for several pictures, else a file; the
    folder that it is to lie in must be there.
    """
    if into_folder:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--draw: {out} is a file; several pictures need a folder")
        if out.suffix.lower() in ENDINGS and not out.is_dir():
            raise UsageError(
                f"--draw: {out} is a name for one picture; these are drawn into a folder",
                hint=f"Name a folder: --draw {out.with_suffix('')}",
            )
    elif out.is_dir():
        raise UsageError(f"--draw: {out} is a folder; name a file like {out / 'out.jpg'}")
    elif out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise UsageError(f"--draw: {out} must end in .jpg or .png")
    if not out.exists() and not out.parent.is_dir():
        raise UsageError(
            f"--draw: there is no folder {out.parent}", hint=f"Make it first: mkdir -p {out.parent}"
        )
    chosen: list[Path] = []
    taken = {picture.path.resolve() for picture in pictures if picture.path}
    if not into_folder:
        if out.resolve() in taken:
            raise UsageError(f"--draw: {out} is the picture itself", hint="Choose another name.")
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
        chosen.append(target)
    return chosen


def draw(seen: Seen, target: Path) -> str | None:
    """Save the picture with what was seen; the reason if that cannot be done."""
    from compreface_cli.photos import drawing

    try:
        drawing.draw(seen.data, seen.faces, target)
    except CfError as error:
        return error.message
    return None


def short_names(names: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that still tell them apart, for a table."""
    parts = [Path(name).parts[-4:] or (name,) for name in names]
    for length in (1, 2, 3):
        short = [os.path.join(*part[-length:]) for part in parts]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)
