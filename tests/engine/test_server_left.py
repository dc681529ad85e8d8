"""A disconnect ends the client's request after the current stage, or between the stage's parts."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tests.contract.process import MULTIPART, Engine, photograph_form, wait_until
from tests.engine.costly_pictures import grain, jpeg_of_scans, saved
from tests.engine.hanging_engine import IN_PARTS

pytestmark = pytest.mark.slow

SIDE = 8000


def disconnect(engine: Engine, picture: bytes, after_s: float) -> None:
    """Sends a whole request and resets the connection a while later."""
    body = photograph_form(picture)
    head = (
        f"POST /find_faces HTTP/1.1\r\nHost: engine\r\nContent-Type: {MULTIPART}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", engine.port), timeout=30) as caller:
        caller.sendall(head.encode() + body)
        assert wait_until(lambda: running(engine) == 1)
        time.sleep(after_s)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def running(engine: Engine) -> int:
    text = engine.request("GET", "/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith("compreface_running "))
    return int(float(line.split()[1]))


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_parallel_stage_ends_after_a_disconnect(concurrency: int) -> None:
    settings = {"CF_MAX_CONCURRENCY": str(concurrency), "EXTRA_PLUGINS": ","}
    with Engine("-m", "tests.engine.hanging_engine", **settings) as engine:
        disconnect(engine, saved(grain(IN_PARTS, 40), "PNG"), 0.3)
        assert wait_until(lambda: running(engine) == 0, 20), "it would take 50 to 100 s"
        assert "the client disconnected" in engine.log
        assert engine.find(saved(grain(40, 40), "PNG")).status == 200


def test_after_a_disconnect_during_decoding_nothing_is_detected() -> None:
    with Engine("-m", "tests.engine.hanging_engine", EXTRA_PLUGINS=",") as engine:
        disconnect(engine, jpeg_of_scans(90, width=SIDE, height=SIDE), 0.1)
        assert wait_until(lambda: running(engine) == 0, 60)
        assert "the client disconnected" in engine.log
        assert f"detecting in {SIDE} rows" not in engine.log
        engine.find(saved(grain(40, 40), "PNG"))
        assert wait_until(lambda: "detecting in 40 rows" in engine.log)
