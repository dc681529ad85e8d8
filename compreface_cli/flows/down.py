"""`cf down`: stop an instance and remove what ran; volumes stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from compreface_cli.flows import running
from compreface_cli.instances import Record
from compreface_cli.launch.base import STOP_TIMEOUT_S, interruptible
from compreface_cli.output import Output


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was stopped, and what is kept where (in words to place)."""

    instance: str
    launcher: str
    was_running: bool
    kept: Mapping[str, str] = field(default_factory=dict)


def down(name: str | None, out: Output, *, timeout_s: float = STOP_TIMEOUT_S) -> Stopped:
    """Stop the instance named, or the only one that runs."""
    store = running.instances()
    name = running.pick(name, only_running=True, command="cf down").name
    with interruptible(), store.lock(name, f"cf down {name}"):
        record = running.pick(name, only_running=False)  # as it is now that nobody else works on it
        known = running.deployment(record)
        launcher = running.launcher(known.launcher)
        runs = running.alive(launcher.services(known))
        out.note(f"Stopping '{name}' ...")
        launcher.stop(known, timeout_s=timeout_s)
        if record.phase == "starting" and record.previous_record is not None:
            _stop_previous(record.previous_record, timeout_s)
        kept = launcher.keeps(known)
        launcher.remove(known)
        if record.services == "full":
            # The data outlive the instance's run, and so does the word which calculator made them.
            store.save(replace(record, phase="stopped", previous_record=None))
        else:
            store.remove(name)
    return Stopped(name, known.launcher, runs, kept)


def _stop_previous(document: Mapping[str, Any], timeout_s: float) -> None:
    """A replacement was killed half-way: what ran before goes as well."""
    before = running.deployment(Record(**document))
    launcher = running.launcher(before.launcher)
    launcher.stop(before, timeout_s=timeout_s)
    launcher.remove(before)
