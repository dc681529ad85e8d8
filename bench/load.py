"""Requests in a fixed number of connections, and what they took."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

_BOUNDARY = "compreface-bench-7f3a"


@dataclass(frozen=True, slots=True)
class Run:
    """One block of requests: seconds as a whole and for each request."""

    elapsed_s: float
    latencies_s: tuple[float, ...]

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
    """One `/scan_faces` answer; RuntimeError for any status but 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        return _post(connection, *multipart(picture))
    finally:
        connection.close()


def block(port: int, picture: bytes, requests: int, connections: int) -> Run:
    """`requests` scans of the picture, shared out among kept-alive connections."""
    body, headers = multipart(picture)
    ahead = iter(range(requests))
    lock = threading.Lock()
    latencies: list[float] = []
    failures: list[BaseException] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            while True:
                with lock:
                    if next(ahead, None) is None:
                        return
                start = time.perf_counter()
                _post(connection, body, headers)
                latencies.append(time.perf_counter() - start)
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
    return Run(elapsed, tuple(latencies))


def _post(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> bytes:
    connection.request("POST", "/scan_faces", body, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {answer[:200]!r}")
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
