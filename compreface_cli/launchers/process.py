"""Runs the engine alone, as a local process under a supervisor, without Docker."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from compreface_cli.child_processes import die_with, inherited_environment
from compreface_cli.cleanup import CleanUp, Report, deferred
from compreface_cli.config import paths
from compreface_cli.errors import CfError, ConflictError
from compreface_cli.facts.host import free_port
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState, State
from compreface_cli.launchers import keys, supervisor
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S, LaunchInputs
from compreface_cli.launchers.supervisor import start_time
from compreface_cli.plan.plan import Plan

_GONE_AFTER_REBOOT = "the machine was restarted, and a local process does not survive that"
_SUPERVISOR_GONE = "its supervisor is gone; it will not be restarted after a crash"


class ProcessLauncher:
    """The process launcher; `homes` returns the folder of an instance, created when needed."""

    kind: Kind = "process"

    def __init__(self, homes: Callable[[str], Path]) -> None:
        self._homes = homes

    def prepare(
        self, plan: Plan, inputs: LaunchInputs, undo: CleanUp, report: Report
    ) -> Deployment:
        if inputs.python is None:
            raise CfError("the process launcher needs the engine's environment")
        folder = self._homes(plan.instance) / f"engine-{secrets.token_hex(4)}"
        undo.push(f"folder {folder}", lambda: shutil.rmtree(folder, ignore_errors=True))
        folder.mkdir(mode=0o700, parents=True)
        environment = plan.engine_environment()
        if plan.api_keys:
            environment["CF_API_KEYS_FILE"] = str(keys.write(folder, plan.api_keys))
        # What was measured on this host is valid for all instances on it.
        environment["CF_CHOICES_DIR"] = str(paths.cache_dir() / "runtimes")
        if inputs.models_dir is not None:
            environment["CF_MODELS_DIR"] = str(folder / "models")
            for model in plan.models:
                _keep(inputs.models_dir / model.name, folder / "models" / model.name)
        return Deployment(
            launcher="process",
            instance=plan.instance,
            engine=inputs.engine,
            data={
                "folder": str(folder),
                "argv": [str(inputs.python), "-I", "-m", "compreface_engine"],
                "env": environment,
            },
        )

    @contextmanager
    def trial(
        self, deployment: Deployment, report: Report
    ) -> Iterator[tuple[Endpoint, Callable[[], ServiceState]]]:
        endpoint = Endpoint("127.0.0.1", free_port(), deployment.engine.key)
        log_path = _folder(deployment) / "trial.log"
        with log_path.open("wb") as log:
            engine = subprocess.Popen(
                deployment.data["argv"],
                env=_environment(deployment, endpoint),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )

        def look() -> ServiceState:
            code = engine.poll()
            if code is None:
                return ServiceState("core", "running", pid=engine.pid)
            return ServiceState("core", "failed", _end_words(code))

        try:
            yield endpoint, look
        finally:
            with suppress(ProcessLookupError):
                os.killpg(engine.pid, signal.SIGTERM)
            try:
                engine.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(engine.pid, signal.SIGKILL)
                engine.wait()

    def start(
        self,
        deployment: Deployment,
        report: Report,
        *,
        replacing: Deployment | None = None,
        limit_s: float | None = None,
        new_volume: bool = False,
    ) -> None:
        if replacing is not None:  # only one process can bind the port
            self.stop(replacing)
        folder = _folder(deployment)
        spec = {
            "argv": deployment.data["argv"],
            "env": _environment(deployment, deployment.engine),
            "stop_timeout_s": STOP_TIMEOUT_S,
        }
        with suppress(FileNotFoundError):
            (folder / "trial.log").unlink()
        # 0600: an environment that an earlier version prepared contains the keys
        handle = os.open(folder / "spec.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, 0o600)
            json.dump(spec, file)
        with deferred():  # a signal between fork and state would leave an unknown process
            started = subprocess.run(
                [sys.executable, "-I", supervisor.__file__, "--detach", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd="/",
                start_new_session=True,
                timeout=30,
                check=False,
            )
        if started.returncode == supervisor.ALREADY_SUPERVISED:
            return
        if started.returncode:
            raise CfError("the supervisor could not be started", hint=started.stderr.strip()[-600:])

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        """Nothing to do: a trial ends with its `cf`."""

    def resume(self, deployment: Deployment, report: Report) -> None:
        """Nothing to do: only containers can be paused."""

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        folder = _folder(deployment)
        state = _read_state(folder)
        watcher, child = _alive(state.get("supervisor")), _alive(state.get("child"))
        if watcher is not None:
            _end(watcher, timeout_s + 5.0, group=False)
            child = _alive(_read_state(folder).get("child"))
        if child is not None:
            _end(child, timeout_s, group=True)

    def remove(self, deployment: Deployment) -> None:
        shutil.rmtree(_folder(deployment), ignore_errors=True)

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        return (self._core(_read_state(_folder(deployment))),)

    @staticmethod
    def _core(state: Mapping[str, Any]) -> ServiceState:
        if not state:
            return ServiceState("core", "missing", "nothing was started")
        watcher, child = _alive(state["supervisor"]), _alive(state["child"])
        phase, exit_code, restarts = state["phase"], state["last_exit"], state["restarts"]
        ended = "" if exit_code is None else f"last {_end_words(exit_code)}"
        now: State
        if phase == "stopped":
            now, detail = "stopped", ""
        elif phase == "failed":
            now, detail = "failed", f"not restarted after repeated crashes, {ended}"
        elif watcher is None and child is None:
            now, detail = "failed", "killed, together with its supervisor"
            if _another_boot(state["supervisor"]["started"]):
                detail = _GONE_AFTER_REBOOT
        elif watcher is None:
            now, detail = "running", _SUPERVISOR_GONE
        elif child is None:
            now, detail = ("restarting" if restarts else "starting"), ended
        else:
            times = "once" if restarts == 1 else f"{restarts} times"
            now, detail = "running", f"restarted {times}, {ended}" if restarts else ""
        return ServiceState(
            "core",
            now,
            detail,
            pid=child,
            restarts=restarts,
            since=state["since"],
            exit_code=_exit_code(exit_code),
        )

    def logs(
        self,
        deployment: Deployment,
        *,
        tail: int,
        follow: bool,
        service: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[str]:
        if service not in (None, "core"):
            raise CfError(f"there is no service '{service}': the engine runs alone")
        path = log_file(deployment)
        lines, file = _last_lines(path, tail)
        if since is not None:
            lines = list(_later(lines, since))
        if follow:
            yield from _follow(path, lines, file, lambda: self.services(deployment)[0])
            return
        if file is not None:
            file.close()
        yield from lines

    def keeps(self, deployment: Deployment) -> Mapping[str, str]:
        return {}


def log_file(deployment: Deployment) -> Path:
    """The file of the engine's output; that of the trial while there is no other."""
    folder = _folder(deployment)
    trial = folder / "trial.log"
    return trial if trial.exists() else folder / "engine.log"


def _keep(model: Path, target: Path) -> None:
    """Link the model's files into the deployment, which a later preparation leaves unchanged."""
    for path in sorted(model.rglob("*")):
        if path.is_file():
            name = target / path.relative_to(model)
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, name)
            except OSError:  # another file system
                shutil.copy2(path, name)


def _exit_code(code: int | None) -> int:
    """As a shell has it: 128 and the signal's number for a process that a signal ended."""
    return 0 if code is None else code if code >= 0 else 128 - code


def _end_words(code: int) -> str:
    """How a process ended, by its return code as `subprocess` gives it."""
    if code >= 0:
        return f"exit code {code}" + (": a computation hung; the log names it" if code == 5 else "")
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", probably out of memory" if name == "SIGKILL" else "")


def _folder(deployment: Deployment) -> Path:
    return Path(deployment.data["folder"])


def _environment(deployment: Deployment, endpoint: Endpoint) -> dict[str, str]:
    return {
        **inherited_environment(),
        **deployment.data["env"],
        "CF_HOST": endpoint.bind,
        "CF_PORT": str(endpoint.port),
    }


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _alive(process: Mapping[str, Any] | None) -> int | None:
    """The pid, if that same process still runs and not a later one with its pid."""
    if not process or process["started"] is None:
        return None
    return process["pid"] if start_time(process["pid"]) == process["started"] else None


def _another_boot(started: str | None) -> bool:
    own = start_time(os.getpid())
    if not own or not started or ":" not in started:
        return False
    return own.partition(":")[0] != started.partition(":")[0]


def _end(pid: int, timeout_s: float, *, group: bool) -> None:
    """End the process by SIGTERM, and by SIGKILL if it still runs after `timeout_s`."""
    started = start_time(pid)
    if started is None:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if start_time(pid) != started:
            return
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        if group:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while start_time(pid) == started:
        if time.monotonic() > deadline:
            raise ConflictError(f"process {pid} cannot be stopped, not even by SIGKILL")
        time.sleep(0.02)


def _last_lines(path: Path, count: int) -> tuple[list[str], TextIO | None]:
    """The last lines, and the log opened at the position after them, to be followed from there."""
    lines: deque[str] = deque(maxlen=max(0, count))
    file: TextIO | None = None
    for part in (path.with_name(f"{path.name}.1"), path):
        with suppress(FileNotFoundError):
            opened = part.open(encoding="utf-8", errors="replace")
            if file is not None:
                file.close()
            file = opened
            lines.extend(line.rstrip("\n") for line in file)
    return list(lines), file


def _later(lines: Iterable[str], begin: datetime) -> Iterator[str]:
    """The lines from `begin` on; a line without a time belongs to the one before it."""
    shown = False
    for line in lines:
        time = _time(line)
        shown = shown if time is None else time >= begin
        if shown:
            yield line


def _time(line: str) -> datetime | None:
    if not line.startswith("{"):
        return None
    try:
        document = json.loads(line)
        return datetime.fromisoformat(document["time"])
    except (ValueError, KeyError, TypeError):
        return None


def _follow(
    path: Path, lines: Iterable[str], file: TextIO | None, look: Callable[[], ServiceState]
) -> Iterator[str]:
    """`lines`, then new ones of `file`, across rotations, until the service has ended."""
    rest = ""
    try:
        yield from lines
        while True:
            ended = look().state in ("stopped", "failed", "missing")
            if file is None and path.exists():
                file = path.open(encoding="utf-8", errors="replace")
            while file is not None and (text := file.readline()):
                rest += text
                if rest.endswith("\n"):
                    yield rest.rstrip("\n")
                    rest = ""
            if file is not None and _rotated(file.fileno(), path):
                file.close()
                file = None
                continue
            if ended:
                if rest:
                    yield rest
                return
            time.sleep(0.25)
    finally:
        if file is not None:
            file.close()


def _rotated(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino != path.stat().st_ino
    except FileNotFoundError:
        return False
