"""Half-closed connections: a listening client gets its answer, a gone one ends its request."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.contract.process import MULTIPART, Engine, photograph_form, wait_until

pytestmark = pytest.mark.slow

# A photograph of "1" takes half a second in stages of 50 ms, of "9" nine times as long.
STAGES = """
import sys, time
from compreface_engine import __main__
from compreface_engine.admission import stop_if_disconnected
from compreface_engine.pipeline import Pipeline
from tests.engine.fakes import FakePipeline

class Stages(FakePipeline):
    def scan(self, image, **rest):
        for _ in range(10 * image.shape[0]):
            time.sleep(0.05)
            stop_if_disconnected()
        return super().scan(image, **rest)

Pipeline.load = lambda config, *_: Stages()
sys.exit(__main__.main([]))
"""


def post(photograph: bytes, path: str = "/find_faces", version: str = "1.1") -> bytes:
    body, kind = photograph_form(photograph), MULTIPART
    if path == "/find_faces_base64":
        body, kind = b'{"file":"MQ=="}', "application/json"
    return (
        f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


SHORT, LONG = post(b"1"), post(b"9")


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine("-c", STAGES, CF_MAX_CONCURRENCY="1") as engine:
        yield engine


def connect(engine: Engine, sent: bytes) -> socket.socket:
    wire = socket.create_connection(("127.0.0.1", engine.port), timeout=30)
    wire.sendall(sent)
    return wire


def rest(wire: socket.socket) -> bytes:
    response = b""
    while got := wire.recv(65536):
        response += got
    return response


def half_closed(engine: Engine, sent: bytes) -> bytes:
    """Sends all bytes, closes the sending side, and reads until the engine closes."""
    with connect(engine, sent) as wire:
        wire.shutdown(socket.SHUT_WR)
        return rest(wire)


def number(engine: Engine, sample: str) -> float:
    lines = engine.request("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample))


def running(engine: Engine) -> float:
    return number(engine, "compreface_running ")


def waiting(engine: Engine) -> float:
    return number(engine, "compreface_queue_length ")


def gone(engine: Engine) -> float:
    return sum(
        number(engine, f'compreface_requests_total{{method="POST",route="{route}",status="499"}}')
        for route in ("/find_faces", "/scan_faces")
    )


@pytest.mark.parametrize("path", ["/find_faces", "/scan_faces", "/find_faces_base64"])
def test_a_half_closed_client_gets_its_answer(engine: Engine, path: str) -> None:
    response = half_closed(engine, post(b"1", path))
    answer = response.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"result":[{' in answer
    assert gone(engine) == 0


def test_a_half_closed_client_in_the_queue_gets_its_answer(engine: Engine) -> None:
    with connect(engine, SHORT) as ahead:
        assert wait_until(lambda: running(engine) == 1)
        assert b"HTTP/1.1 200 OK\r\n" in half_closed(engine, SHORT)
        assert ahead.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("path", ["/status", "/healthcheck", "/nowhere", "/docs"])
def test_a_half_closed_client_gets_reads_and_refusals(engine: Engine, path: str) -> None:
    response = half_closed(engine, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert response.startswith(b"HTTP/1.1 404 " if path == "/nowhere" else b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_except_an_incomplete_last_one(
    engine: Engine,
) -> None:
    response = half_closed(engine, SHORT + b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n" + SHORT[:-9])
    assert response.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b'"result":[{' in response
    assert b'"available_plugins"' in response
    assert running(engine) == 0


def test_an_http_1_0_client_gets_no_interim_response(engine: Engine) -> None:
    """HTTP/1.0 has no interim responses."""
    response = half_closed(engine, post(b"2", version="1.0"))
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.count(b"HTTP/1.1 ") == 1


def reset(wire: socket.socket) -> None:
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def half_closed_first(wire: socket.socket) -> None:
    wire.shutdown(socket.SHUT_WR)
    assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.close()


@pytest.mark.parametrize(
    ("leave", "seconds"),
    [(reset, 0.5), (socket.socket.close, 1.0), (half_closed_first, 3.0)],
    ids=["reset", "closed", "half closed, then closed"],
)
def test_a_disconnect_ends_the_request_after_the_current_stage(
    engine: Engine, leave: Callable[[socket.socket], None], seconds: float
) -> None:
    wire = connect(engine, LONG)
    assert wait_until(lambda: running(engine) == 1)
    began = time.monotonic()
    leave(wire)
    assert wait_until(lambda: running(engine) == 0 and gone(engine) == 1)
    assert time.monotonic() - began < seconds + 0.5, "of 4.5 s"


@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "closed"])
def test_a_disconnected_client_leaves_the_queue(
    engine: Engine, leave: Callable[[socket.socket], None]
) -> None:
    with connect(engine, LONG):
        assert wait_until(lambda: running(engine) == 1)
        wire = connect(engine, LONG)
        assert wait_until(lambda: waiting(engine) == 1)
        leave(wire)
        assert wait_until(lambda: gone(engine) == 1, 2)
        assert (running(engine), waiting(engine)) == (1, 0)


def test_a_body_that_can_never_be_complete_is_abandoned_at_once(engine: Engine) -> None:
    assert half_closed(engine, SHORT[:-9]) == b""
    assert gone(engine) == 1
