"""`cf restart`: stop an instance, start the same again, and ask it for the known face."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from compreface_cli.errors import ConfigurationError, Interruption, UnhealthyError
from compreface_cli.flows import ready, running
from compreface_cli.flows.up import TIMEOUT_S
from compreface_cli.instances import Record
from compreface_cli.launch.base import Deployment, ServiceState, interruptible
from compreface_cli.output import Output


@dataclass(frozen=True, slots=True)
class Restarted:
    """What runs again, and how right its answer is."""

    record: Record
    deployment: Deployment
    services: tuple[ServiceState, ...]
    proof: ready.Proof


def restart(name: str | None, out: Output, *, timeout_s: float | None = None) -> Restarted:
    """Restart the instance named, or the only one that runs; the same engine, the same settings."""
    store = running.instances()
    name = running.pick(name, only_running=True, command="cf restart").name
    with interruptible(), store.lock(name, f"cf restart {name}"):
        record = running.pick(name, only_running=False)
        if record.phase != "running":
            raise ConfigurationError(
                f"instance '{name}' does not run", hint=f"Start it with `cf up {record.build}`."
            )
        known = running.deployment(record)
        if known.launcher == "process" and not Path(known.data["folder"]).is_dir():
            raise ConfigurationError(
                f"instance '{name}' cannot start again: {known.data['folder']} is gone",
                hint=f"Start it anew with `cf up {record.build}`.",
            )
        launcher = running.launcher(known.launcher)
        try:
            out.note(f"Stopping '{name}' ...")
            launcher.stop(known)
            out.note(f"Starting '{name}' ...")
            launcher.start(known, out.note)
        except Interruption:
            out.note(f"'{name}' may be stopped now. To start it: cf restart {name}")
            raise
        deadline = time.monotonic() + (timeout_s or TIMEOUT_S[known.launcher])
        answer = ready.KnownAnswer.from_dict(record.answer)
        try:
            ready.wait(known.engine, lambda: launcher.services(known)[0], deadline)
            running.refuse_stranger(known)
            proof = ready.check(known.engine, answer, deadline)
            ready.wait_for_all(lambda: launcher.services(known), deadline)
        except UnhealthyError as error:
            raise running.explain(error, known) from error
        return Restarted(record, known, launcher.services(known), proof)
