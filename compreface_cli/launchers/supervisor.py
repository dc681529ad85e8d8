"""Supervises one process after `cf` has ended; a program whose argument is a FOLDER.

Reads FOLDER/spec.json ({argv, env} and the keys of DEFAULTS), writes FOLDER/state.json and
FOLDER/engine.log. With `--detach` it returns once the state is written and runs in the background.
It imports little beyond the standard library, since it runs as long as the engine does.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, TypeAlias

from compreface_cli.child_processes import die_with

State: TypeAlias = dict[str, Any]

ALREADY_SUPERVISED = 3  # exit code

DEFAULTS: State = {
    "cwd": "/",
    "stop_timeout_s": 15.0,
    "max_log_bytes": 5 * 1024 * 1024,
    "kept_logs": 3,
    "give_up_after": 5,  # crashes in a row, each within quick_s of its start
    "quick_s": 10.0,
    "back_off_s": 0.5,  # doubled with each quick crash
    "longest_back_off_s": 30.0,
}


class RotatingLog:
    """engine.log, engine.log.1 ... `.N`; rotated at the end of a line, at twice the size anyway."""

    def __init__(self, path: Path, max_bytes: int, kept: int) -> None:
        self._path = path
        self._max = max_bytes
        self._kept = kept
        self._file = self._open()

    def _open(self) -> BinaryIO:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(handle, "ab", buffering=0)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            size = self._file.tell()
            if size >= self._max and (data.endswith(b"\n") or size >= 2 * self._max):
                self._rotate()
        except OSError:
            pass  # a full disk must not stop the engine; these lines are lost

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        if self._kept:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        else:
            self._path.unlink()
        self._file = self._open()

    def close(self) -> None:
        self._file.close()


class Supervisor:
    """Starts one child process, restarts it after a crash and stops it on SIGTERM."""

    def __init__(self, folder: Path, spec: State) -> None:
        self._folder = folder
        self._spec = {**DEFAULTS, **spec}
        self._log = RotatingLog(
            folder / "engine.log", self._spec["max_log_bytes"], self._spec["kept_logs"]
        )
        self._stop_requested = False
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._state: State = {
            "supervisor": {"pid": os.getpid(), "started": start_time(os.getpid())},
            "child": None,
            "phase": "starting",
            "restarts": 0,
            "last_exit": None,
            "since": _now(),
        }

    def run(self, on_ready: Callable[[], None] = lambda: None) -> int:
        """Run until SIGTERM or SIGINT (returns 0) or repeated quick crashes of the child (1)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_in)
        self._save()
        on_ready()
        quick = 0
        while not self._stopping():
            begun = time.monotonic()
            code = self._run_child()
            if self._stopping():
                break
            quick = quick + 1 if time.monotonic() - begun < self._spec["quick_s"] else 0
            self._note(f"the engine ended {_in_words(code)}")
            if quick >= self._spec["give_up_after"]:
                self._note(f"it ended {quick} times in a row right after its start; giving up")
                self._save(phase="failed", child=None, last_exit=code)
                self._log.close()
                return 1
            wait = min(
                self._spec["longest_back_off_s"], self._spec["back_off_s"] * 2 ** max(0, quick - 1)
            )
            self._save(
                phase="restarting",
                child=None,
                last_exit=code,
                restarts=self._state["restarts"] + 1,
            )
            self._wait_for_signal(wait)
        self._save(phase="stopped", child=None)
        self._log.close()
        return 0

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requested = True

    def _stopping(self) -> bool:
        return self._stop_requested

    def _run_child(self) -> int:
        """Start the child, copy its output to the log until it ends, return its exit code."""
        try:
            child = subprocess.Popen(
                self._spec["argv"],
                env=self._spec["env"],
                cwd=self._spec["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        except OSError as error:
            self._note(f"the engine could not be started: {error}")
            return 127
        self._save(
            phase="running",
            child={"pid": child.pid, "started": start_time(child.pid)},
            since=_now(),
        )
        return self._watch(child)

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        assert child.stdout is not None  # noqa: S101  (for the type checker)
        os.set_blocking(child.stdout.fileno(), False)
        deadline: float | None = None
        with selectors.DefaultSelector() as selector, child.stdout as output:
            selector.register(output, selectors.EVENT_READ)
            selector.register(self._wake_out, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(timeout=0.2 if deadline else 1.0):
                    if key.fd == self._wake_out:
                        self._drain()
                    elif (data := output.read(65536)) == b"":
                        selector.unregister(output)
                    elif data:
                        self._log.write(data)
                code = child.poll()
                if code is not None:
                    while data := output.read(65536):
                        self._log.write(data)
                    _signal_group(child.pid, signal.SIGKILL)  # its own children
                    return code
                if self._stopping() and deadline is None:
                    self._note("stopping the engine")
                    self._save(phase="stopping")
                    deadline = time.monotonic() + self._spec["stop_timeout_s"]
                    child.send_signal(signal.SIGTERM)
                elif deadline is not None and time.monotonic() > deadline:
                    self._note("the engine did not stop in time; killing it")
                    _signal_group(child.pid, signal.SIGKILL)

    def _wait_for_signal(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_out, selectors.EVENT_READ)
            while not self._stopping() and (left := deadline - time.monotonic()) > 0:
                if selector.select(timeout=left):
                    self._drain()

    def _drain(self) -> None:
        try:
            while os.read(self._wake_out, 512):
                pass
        except BlockingIOError:
            pass

    def _note(self, text: str) -> None:
        self._log.write(f"{_now()} supervisor: {text}\n".encode())

    def _save(self, **changes: Any) -> None:
        self._state.update(changes)
        temporary = self._folder / ".state.json"
        try:
            temporary.write_text(json.dumps(self._state), encoding="utf-8")
            temporary.replace(self._folder / "state.json")
        except OSError as error:
            self._note(f"the state could not be written: {error}")


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _in_words(code: int) -> str:
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def start_time(pid: int) -> str | None:
    """When a process started, as text that differs from a later process with the same pid.

    Linux: boot id and clock ticks since the boot (field 22 of /proc/PID/stat, 20 fields after the
    name). Elsewhere the output of `ps`. None if there is no such process, or it is a zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if sys.platform == "linux" else _start_time_from_ps(pid)
    after_name = fields.rpartition(")")[2].split()
    if after_name[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}:{after_name[19]}"


def _start_time_from_ps(pid: int) -> str | None:
    output = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return output.partition(" ")[2].strip() or None if output and output[0] != "Z" else None


def main(arguments: list[str]) -> int:
    """Supervise until a stop is requested; a lock allows one supervisor for each folder."""
    detach = arguments[0] == "--detach"
    folder = Path(arguments[-1])
    lock = os.open(folder / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ALREADY_SUPERVISED
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    if not detach:
        return Supervisor(folder, spec).run()
    out, ready = os.pipe()
    if os.fork():
        os.close(ready)
        return 0 if os.read(out, 1) else 1
    os.setsid()
    os.close(out)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # a reader of this program's output must not wait until it ends
        os.dup2(nowhere, stream)

    def signal_ready() -> None:
        os.write(ready, b"1")
        os.close(ready)

    return Supervisor(folder, spec).run(on_ready=signal_ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
