"""`cf down`: stops an instance and removes its processes or containers; volumes stay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.deploy import adoption, project_folder, restoring, running, unfinished
from compreface_cli.errors import ConfigurationError, Interruption
from compreface_cli.instance.records import Damaged
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S
from compreface_cli.launchers.supervisor import start_time
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Stopped:
    """The instance that was stopped, and what remains of it: description -> place."""

    instance: str
    launcher: str
    was_running: bool
    kept: Mapping[str, str] = field(default_factory=dict)


def down(name: str | None, out: Output, *, timeout_s: float = STOP_TIMEOUT_S) -> Stopped:
    """Stop the instance of that name, or the only one that runs."""
    store = running.instances()
    try:
        name = running.pick(name, only_running=True, command="cf down").name
    except ConfigurationError as error:
        broken = [damaged for damaged in store.all()[1] if name in (None, damaged.name)]
        if not broken or error.hint == paths.WAY_OUT:  # or the folder may not be read at all
            raise
        raise _by_hand(broken[0]) from error
    with interruptible(), _said_if_cut(name), store.lock(name, f"cf down {name}"):
        record = running.pick(name, only_running=False)  # read again under the lock
        adoption.refuse_half(record)
        if restoring.is_of(record):
            unfinished.announce(record, out, going_down=True)
            restoring.drop(record)
            return Stopped(name, "compose", False)
        if record.unfinished:
            unfinished.announce(record, out, going_down=True)
            project_folder.put_old_back(paths.project_dir(name))
        deployed = unfinished.deployments(record)
        launchers = [(running.launcher(known.launcher), known) for known in deployed]
        runs = any(running.alive(launcher.services(known)) for launcher, known in launchers)
        store.save(unfinished.ending(record, f"cf down {name}"))
        kept: dict[str, str] = {}
        with out.progress(f"Stopping '{name}'"):
            for launcher, known in launchers:
                launcher.stop(known, timeout_s=timeout_s)
                kept |= launcher.keeps(known)
                launcher.remove(known)
        unfinished.ended(unfinished.before(record))
    return Stopped(name, deployed[-1].launcher if deployed else "", runs, kept)


@contextmanager
def _said_if_cut(name: str) -> Iterator[None]:
    try:
        yield
    except Interruption as signalled:
        signalled.outcome = f"'{name}' may be half stopped: `cf down {name}` goes on"
        raise


def _by_hand(broken: Damaged) -> ConfigurationError:
    """The error for a damaged record, with the command that ends what may still run."""
    pids = living(broken.name)
    if pids:
        end = f"End what still runs: kill {' '.join(map(str, pids))}"
    else:
        # Volumes stay; this needs only the name of the project.
        end = (
            "No process of it is left. If it ran in Docker, end it: "
            f"docker compose --project-name cf-{broken.name} down"
        )
    return ConfigurationError(
        f"the record of instance '{broken.name}' is damaged: {broken.reason}",
        hint=f"{end}\nThen move the file away: {broken.path}",
        details={"instance": broken.name, "pids": pids},
    )


def living(name: str) -> list[int]:
    """The pids that still run of the engines in the instance's folder: supervisor, else engine."""
    pids = []
    for path in sorted(running.instances().home(name).glob("engine-*/state.json")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            state = json.loads(path.read_text(encoding="utf-8"))
            for process in filter(None, (state["supervisor"], state["child"])):
                if process["started"] and start_time(int(process["pid"])) == process["started"]:
                    pids.append(int(process["pid"]))
                    break  # with its supervisor the engine ends, too
    return pids
