"""Replaces the API keys of an engine that runs alone: new ones beside the old, then without them.

The user's file of keys says which keys are valid; a comment in it stands above the old ones. It is
written whole, and the running engine reads the keys again, so that no request fails.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli.cleanup import interruptible
from compreface_cli.config import settings
from compreface_cli.config.textfile import read_text
from compreface_cli.deploy import running, same_settings, unfinished
from compreface_cli.deploy.observe import digest
from compreface_cli.engine.client import is_up
from compreface_cli.errors import ConfigurationError, UnhealthyError
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.launchers import keys
from compreface_cli.project import writer
from compreface_cli.terminal.output import Output

MARK = "# These are replaced; `cf secrets rotate --api-keys --drop-old` removes them:"
_TAKEN_S = 10.0  # the engine reads the file at the next request


@dataclass(frozen=True, slots=True)
class Replaced:
    """How many keys are valid now (in a dry run: would be), and how many of them are old."""

    record: Record
    file: Path
    valid: int
    old: int
    running: bool


def rotate(name: str | None, out: Output, *, drop_old: bool, dry_run: bool = False) -> Replaced:
    """Add as many new keys as there are, or with `drop_old` remove those that they replace.

    Raises ConfigurationError where the keys do not come from a file, or there is nothing to drop.
    """
    store = running.instances()
    name = running.pick(name, only_running=False, command="cf secrets rotate").name
    with interruptible(), store.lock(name, f"cf secrets rotate {name} --api-keys"):
        record = running.pick(name, only_running=False)
        running.refuse_swarm(record, f"cf secrets rotate {name} --api-keys")
        if not dry_run:
            record = unfinished.settle(name, record, out) or record
        file = _file(record)
        text = read_text(file, str(file))
        new, old = split(text)
        present = set(keys.all_of(running.deployment(record)))
        if drop_old:
            if not old and present <= set(new):
                raise ConfigurationError(
                    f"{file} has no replaced keys",
                    hint=f"`cf secrets rotate {name} --api-keys` adds new ones first.",
                )
            text, old = text.partition(MARK)[0], ()
        elif not old:
            if present != set(new):
                raise ConfigurationError(
                    f"'{name}' accepts other keys than those of {file}",
                    hint=f"Apply the file first: {running.start_command(record)}",
                )
            made = {key: secrets.token_urlsafe(24) for key in new}
            text = with_new(text, made)
            new, old = tuple(made.values()), new
        runs = record.phase == "running"
        done = Replaced(record, file, len(new) + len(old), len(old), runs)
        if dry_run:
            return done
        mode = stat.S_IMODE(file.stat().st_mode)
        writer.write_whole(Path(os.path.realpath(file)), text, mode=mode)
        if runs:
            _apply(record, ",".join((*new, *old)), out)
        return done


def split(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of a file that are to stay, and those that are replaced."""
    staying, _, replaced_ = text.partition(MARK)
    return _keys(staying), _keys(replaced_)


def with_new(text: str, made: Mapping[str, str]) -> str:
    """The text with each key of `made` replaced by its new one, and all of it again below."""
    fresh = text
    for old in sorted(made, key=len, reverse=True):  # one may be a part of another
        fresh = fresh.replace(old, made[old])
    return f"{fresh.rstrip()}\n{MARK}\n{text.rstrip()}\n"


def _keys(text: str) -> tuple[str, ...]:
    bare = re.sub(r"(^|\s)#.*", "", text, flags=re.MULTILINE)
    return tuple(key for key in re.split(r"[,\s]+", bare) if key)


def _file(record: Record) -> Path:
    """The user's file of keys."""
    chosen = settings.resolve()
    file, given = chosen.given("api_keys_file"), chosen.given("api_keys")
    if file is not None:
        return Path(file.value)
    if not keys.all_of(running.deployment(record)):
        raise ConfigurationError(
            f"the engine of '{record.name}' requires no API keys",
            hint="An engine that runs alone can: CF_API_KEYS_FILE=FILE with `cf up`.",
        )
    where = f" but by {given.where}" if given else ""
    raise ConfigurationError(
        f"the API keys of '{record.name}' are not given by a file{where}",
        hint="Write them into a file, one a line, and set CF_API_KEYS_FILE to it here and for "
        "`cf up`.",
    )


def _apply(record: Record, valid: str, out: Output) -> None:
    """Give the keys to the running engine, and wait until it accepts the first one."""
    known = running.deployment(record)
    before = ",".join(keys.all_of(known))
    plan = same_settings.as_it_was(record, out)
    was = digest(replace(plan, secrets={**plan.secrets, "api_keys": before}))
    if known.launcher == "compose":
        writer.set_keys(Path(known.data["folder"]), valid)
    else:
        writer.write_whole(keys.file_of(known), f",{valid}\n", mode=0o600)
    if was == record.digest:  # so that `cf up` with the file finds nothing to do
        now = digest(replace(plan, secrets={**plan.secrets, "api_keys": valid}))
        running.instances().save(replace(record, digest=now))
    _wait(known, valid.partition(",")[0])


def _wait(known: Deployment, key: str) -> None:
    end = time.monotonic() + _TAKEN_S
    while not is_up(known.engine.url, key=key):
        if time.monotonic() > end:
            raise UnhealthyError(
                f"the engine of '{known.instance}' does not accept the new keys",
                hint=f"cf restart {known.instance}",
            )
        time.sleep(0.2)
