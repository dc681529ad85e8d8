"""A real engine process for tests, on a free loopback port."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.shared import ROOT

READY = "compreface-engine: ready at "


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as it came."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        import json

        return json.loads(self.body)


def part(
    name: str, value: bytes, filename: str | None = None, content_type: str | None = None
) -> bytes:
    """One part of a multipart form, its boundary left to `multipart`."""
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    if content_type is not None:
        head += f"\r\nContent-Type: {content_type}"
    return head.encode() + b"\r\n\r\n" + value


def multipart(parts: Iterable[bytes], boundary: str = "a-boundary-of-the-tests") -> bytes:
    """A whole multipart body."""
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + body + b"\r\n" for body in parts) + mark + b"--\r\n"


MULTIPART = "multipart/form-data; boundary=a-boundary-of-the-tests"


def photograph_form(data: bytes, **fields: str) -> bytes:
    """A form with one photograph and text fields."""
    return multipart(
        [
            *(part(name, value.encode()) for name, value in fields.items()),
            part("file", data, "a.jpg", "image/jpeg"),
        ]
    )


class Engine:
    """`python -m compreface_engine` with the given variables and nothing else of ours.

    `arguments` for Python replace `-m compreface_engine`.
    """

    def __init__(self, *arguments: str, **variables: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
        }
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", "compreface_engine"))],
            env={
                **inherited,
                "PYTHONPATH": f"{ROOT / 'engine'}{os.pathsep}{ROOT}",
                "CF_PORT": "0",
                **variables,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ready = threading.Event()
        self._address: str | None = None
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if line.startswith(READY):
                self._address = line.removeprefix(READY).strip()
                self._ready.set()
        self._ready.set()

    def __enter__(self) -> Engine:
        self._ready.wait(60)
        if self._address is None:
            self.stop()
            raise AssertionError(f"the engine did not start:\n{self.log}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def port(self) -> int:
        assert self._address is not None
        port = urlsplit(self._address).port
        assert port is not None
        return port

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal, waits, returns the exit code; kills what does not go."""
        if self.alive:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._log.close()
        return self.process.returncode

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(
                answer.status,
                answer.reason,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def find(self, data: bytes, query: str = "", **fields: str) -> Reply:
        """POST /find_faces with one photograph."""
        path = "/find_faces" + (f"?{query}" if query else "")
        return self.request(
            "POST", path, photograph_form(data, **fields), {"Content-Type": MULTIPART}
        )

    def resident_bytes(self) -> int:
        """Memory in RAM of the process (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def wait_until(condition: Any, seconds: float = 20) -> bool:
    """Polls until `condition()` holds; False when it never did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
