"""A node of a Swarm: a Docker engine in network, mount, name and process namespaces of its own.

The process namespace makes a power cut simple: when its first process is killed, the kernel kills
the engine, containerd and all containers with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

# It reaps what its daemons leave behind, as the init of a machine does.
_INIT = (
    "echo $0 >/proc/sys/kernel/hostname; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
)
_STARTS_S = 60.0


class Node:
    """Its engine answers at `host`; other nodes and this machine reach it at `address`."""

    def __init__(self, name: str, address: str, folder: Path, insecure: str) -> None:
        self.name, self.address, self.folder = name, address, folder
        self.namespace = name
        self.host = f"unix://{folder}/docker.sock"
        self._insecure = insecure  # the network whose registries speak plain HTTP
        self._init: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "daemon.json").write_text("{}")

    def docker(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> str:
        """What `docker` says on this node, stderr too."""
        done = subprocess.run(
            ["docker", f"--host={self.host}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: docker {' '.join(arguments)}:\n{done.stdout}")
        return done.stdout.strip()

    def load(self, archive: IO[bytes]) -> None:
        """`docker load` of an archive."""
        subprocess.run(
            ["docker", f"--host={self.host}", "load", "--quiet"],
            stdin=archive,
            stdout=subprocess.DEVNULL,
            timeout=300,
            check=True,
        )

    def start(self) -> None:
        """Switch the node on: its namespaces, and the engine in them."""
        self._init = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{self.namespace}"),
                *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("bash", "-c", _INIT, self.name),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_dies_with_this,  # unshare ignores SIGTERM
        )
        _until(lambda: bool(self._first()), f"the namespaces of {self.name}")
        self.start_engine()

    def start_engine(self) -> None:
        """Start dockerd, and wait until it answers."""
        for left in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.folder / left).unlink(missing_ok=True)
        with (self.folder / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [
                    *("nsenter", f"--target={self._first()}", "--net", "--mount", "--uts", "--pid"),
                    "dockerd",
                    f"--config-file={self.folder}/daemon.json",
                    f"--data-root={self.folder}/data",
                    f"--exec-root={self.folder}/exec",
                    f"--pidfile={self.folder}/docker.pid",
                    f"--host={self.host}",
                    f"--insecure-registry={self._insecure}",
                    f"--cgroup-parent={self.name}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def answers() -> bool:
            if self._daemon is not None and self._daemon.poll() is not None:
                raise AssertionError(f"dockerd of {self.name} ended:\n{self.log()}")
            return self.docker("version", "--format={{.Server.Version}}", check=False)[:1].isdigit()

        _until(answers, f"the engine of {self.name}")

    def stop_engine(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End dockerd; SIGTERM ends its containers first, after SIGKILL they run on."""
        assert self._daemon is not None, f"no dockerd runs on {self.name}"
        for pid in _children(self._daemon.pid):  # of nsenter, which ends with it
            os.kill(pid, number)
        self._daemon.wait(120)

    def power_off(self) -> None:
        """SIGKILL for the engine and every container at once; the network is cut first."""
        if self._init is None:
            return
        self.cut()
        for pid in [self._first(), self._init.pid]:
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for child in (self._init, self._daemon):
            if child is not None:
                child.wait(60)
        self._init = self._daemon = None

    def power_on(self) -> None:
        """Switch it on after `power_off`, with the data that it had."""
        self.mend()
        self.start()

    def cut(self) -> None:
        """Take its network away; packets are lost, and nothing is refused."""
        self._link("down")

    def mend(self) -> None:
        self._link("up")

    def _link(self, state: str) -> None:
        subprocess.run(
            ["ip", "-n", self.namespace, "link", "set", "eth0", state], timeout=30, check=False
        )

    def log(self) -> str:
        """The last lines of its engine's log."""
        with suppress(FileNotFoundError):
            return "\n".join((self.folder / "dockerd.log").read_text().splitlines()[-30:])
        return ""

    def _first(self) -> int:
        """The first process of its namespace, by its number on this machine; 0: none."""
        children = _children(self._init.pid) if self._init is not None else []
        return children[0] if children else 0

    def containers(self) -> list[str]:
        return self.docker("ps", "--quiet", "--no-trunc").split()

    def state(self) -> str:
        """The Swarm's word for this engine: "active", "inactive", ..."""
        text = self.docker("info", "--format={{json .Swarm.LocalNodeState}}")
        return str(json.loads(text.splitlines()[-1]))


def _children(parent: int) -> list[int]:
    """The children of a process."""
    with suppress(OSError):
        return [
            int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        ]
    return []


def _dies_with_this() -> None:
    """A `preexec_fn`: Linux sends the child SIGKILL when this process ends, however it does."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _until(true: Callable[[], bool], what: str, limit_s: float = _STARTS_S) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, f"{what} did not start within {limit_s:g} s"
        time.sleep(0.1)
