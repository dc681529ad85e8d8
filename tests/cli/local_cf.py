"""`cf` as a user runs it, in an empty home; the engine's environment is made once and shared."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compreface_cli.engine import venv
from compreface_cli.terminal.output import Output
from tests.shared import ROOT

ENVIRONMENTS = ROOT / ".cache" / "test-engine-env"
PATIENCE_S = 280.0  # two busy cores prepare FaceNet in more than a minute


def shared_environment() -> venv.EngineEnv:
    """A real, proven environment of the engine, kept between test runs."""
    out = Output(quiet=True)
    wanted = venv.inputs("cpu")
    return venv.ensure(ENVIRONMENTS, wanted, report=out.note, progress=out.progress)


ONE_INSTANCE = 3
"""Processes of a running instance: its supervisor, the engine, and the one that watches it."""


class LocalCf:
    """Runs `cf` in an empty home below `root`."""

    def __init__(self, root: Path, environment: venv.EngineEnv) -> None:
        self.root = root
        self.environment = environment
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CF_")},
            "HOME": str(root),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            **{
                f"XDG_{name.upper()}_HOME": str(root / name) for name in ("data", "state", "config")
            },
            "XDG_CACHE_HOME": str(root / "cache"),
        }
        self.data = root / "data" / "compreface-cli"
        self.state = root / "state" / "compreface-cli"
        homes = self.data / "engine-env"
        homes.mkdir(parents=True)
        (homes / environment.key).symlink_to(environment.folder)

    def home(self) -> list[Path]:
        """All below the home but the cache, where `cf` keeps what it has parsed."""
        return sorted(
            path for path in self.root.rglob("*") if path.relative_to(self.root).parts[0] != "cache"
        )

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "compreface_cli.cli", *arguments],
            cwd=self.root,
            env={**self.env, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **more)
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"cf {arguments} does not end:\n{out}\n{err}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments: str, exit_code: int = 0, **more: str) -> dict[str, Any]:
        """The document of `cf ... --json`; the exit code is checked."""
        done = self.run(*arguments, "--json", **more)
        assert done.returncode == exit_code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def up(self, *arguments: str, exit_code: int = 0, **more: str) -> dict[str, Any]:
        """`cf up embedded` as a process."""
        flags = ("up", "embedded", "--launcher", "process", *arguments)
        return self.json(*flags, exit_code=exit_code, **more)

    def status(self, name: str = "embedded") -> dict[str, Any]:
        done = self.run("status", name, "--json")
        instance: dict[str, Any] = json.loads(done.stdout)["instances"][0]
        return instance

    def files(self) -> list[str]:
        """What is kept of instances, below the state folder."""
        return sorted(str(p.relative_to(self.state)) for p in self.state.rglob("*") if p.is_file())

    def processes(self) -> list[int]:
        """Every process that was started from these folders and still lives."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            except OSError:
                continue
            if str(self.root).encode() in words and alive and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def sweep(self) -> None:
        """End what a failed test has left."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def eventually(true: Callable[[], bool], *, seconds: float = 60.0) -> bool:
    """Whether it becomes true before long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def listening() -> Iterator[int]:
    """A port that this test holds."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]
