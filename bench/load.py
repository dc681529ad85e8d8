"""Load over a fixed number of connections, and its measurements."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_BOUNDARY = "compreface-bench-7f3a"


@dataclass(frozen=True, slots=True)
class Run:
    """One block of requests: seconds as a whole and for each request."""

    elapsed_s: float
    latencies_s: tuple[float, ...]
    refused: int = 0

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.elapsed_s


def multipart(picture: bytes) -> tuple[bytes, dict[str, str]]:
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="picture.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


def ask(port: int, picture: bytes) -> bytes:
    """One `/scan_faces` answer. Raises RuntimeError for any status but 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        return _post(connection, *multipart(picture))
    finally:
        connection.close()


def block(
    port: int, picture: bytes, requests: int, connections: int, *, refusals: bool = False
) -> Run:
    """`requests` scans of the picture over kept-alive connections.

    With `refusals` an answer 503 is counted instead of raising; it is not retried.
    """
    return _share(port, iter([picture] * requests), connections, refusals)


def mixed(port: int, pictures: Sequence[bytes], connections: int) -> Run:
    """One scan of each picture; pictures without a face count too."""
    return _share(port, iter(pictures), connections, refusals=False, no_face=True)


def _share(
    port: int,
    ahead: Iterator[bytes],
    connections: int,
    refusals: bool,
    no_face: bool = False,
) -> Run:
    lock = threading.Lock()
    latencies: list[float] = []
    refused: list[float] = []
    failures: list[BaseException] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            while True:
                with lock:
                    picture = next(ahead, None)
                if picture is None:
                    return
                body, headers = multipart(picture)
                start = time.perf_counter()
                status, answer = _exchange(connection, body, headers)
                taken = time.perf_counter() - start
                if status == 503 and refusals:
                    refused.append(taken)
                elif status == 200 or (no_face and status == 400 and b"No face" in answer):
                    latencies.append(taken)
                else:
                    raise RuntimeError(f"status {status}: {answer[:200]!r}")
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(connections)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    if failures:
        raise RuntimeError(f"a request failed: {failures[0]}") from failures[0]
    return Run(elapsed, tuple(latencies), len(refused))


def _exchange(
    connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection.request("POST", "/scan_faces", body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def _post(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> bytes:
    status, answer = _exchange(connection, body, headers)
    if status != 200:
        raise RuntimeError(f"status {status}: {answer[:200]!r}")
    return answer


def middle(runs: Sequence[Run]) -> float:
    """Median request time over all blocks, seconds."""
    return statistics.median(value for run in runs for value in run.latencies_s)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def status(port: int) -> dict[str, Any]:
    """The document of `/status`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/status")
        document: dict[str, Any] = json.loads(connection.getresponse().read())
        return document
    finally:
        connection.close()


def progress(text: str) -> None:
    """Prints a line on stderr that the next one replaces; nothing where it is not a terminal."""
    if sys.stderr.isatty():
        print(f"{text:<60}", end="\r", file=sys.stderr, flush=True)
