"""Connections without complete requests take no place from others."""

from __future__ import annotations

import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compreface_engine.api.connections import Connections
from tests.contract.process import MULTIPART, Engine, photograph_form, wait_until
from tests.shared import ROOT


class FakeConnection:
    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_a_new_connection_replaces_the_longest_idle_one() -> None:
    connections = Connections(3)
    first, second, asking, new, newest = (FakeConnection() for _ in range(5))
    for connection in (first, asking, second):
        connections.opened(connection)
    connections.in_body(asking)
    connections.computing(asking)
    connections.idle(first)  # it begins a new head
    connections.opened(new)
    dropped = [connection.dropped for connection in (first, second, asking, new)]
    assert dropped == [False, True, False, False]
    connections.closed(second)
    connections.opened(newest)
    assert first.dropped
    assert (len(connections), connections.dropped) == (3, 2)


def test_a_new_connection_replaces_one_of_the_larger_group() -> None:
    connections = Connections(4)
    slow, slower, slowest, new, newer = (FakeConnection() for _ in range(5))
    for connection in (slowest, slower, slow):
        connections.opened(connection)
        connections.in_body(connection)
    connections.opened(new)
    connections.opened(newer)
    dropped = [connection.dropped for connection in (slowest, slower, slow, new)]
    assert dropped == [True, False, False, False]


def test_connections_with_a_complete_request_are_kept() -> None:
    connections = Connections(2)
    asking, new, last = (FakeConnection() for _ in range(3))
    connections.opened(asking)
    connections.computing(asking)
    connections.opened(new)
    connections.computing(new)
    connections.opened(last)
    assert last.dropped
    connections.idle(last)
    connections.in_body(last)
    connections.computing(last)
    assert len(connections) == 2
    connections.idle(asking)
    connections.opened(FakeConnection())
    assert asking.dropped


PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()
FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from compreface_engine import __main__
sys.exit(__main__.main([]))
"""
HEAD = b"GET /status HTTP/1.1\r\nHost: "
BODY = (
    f"POST /find_faces HTTP/1.1\r\nContent-Type: {MULTIPART}\r\nContent-Length: 9000000\r\n\r\nx"
).encode()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine("-c", FEW_FILES.format(soft=1024, hard=1024)) as engine:
        yield engine


@contextmanager
def attack(port: int, count: int, begun: bytes) -> Iterator[list[int]]:
    """Holds `count` connections that have sent `begun`, and replaces those that are closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * count + 500), hard))
    closed, stop = [0], threading.Event()

    def hold() -> None:
        with selectors.DefaultSelector() as held:
            while not stop.is_set():
                if len(held.get_map()) < count:
                    wire = socket.create_connection(("127.0.0.1", port), timeout=20)
                    wire.sendall(begun)
                    held.register(wire, selectors.EVENT_READ)
                for key, _ in held.select(0 if len(held.get_map()) < count else 0.01):
                    held.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.close()
                    closed[0] += 1
            for key in list(held.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield closed
    finally:
        stop.set()
        thread.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("begun", [HEAD, b"", BODY], ids=["half a head", "nothing", "half a body"])
def test_requests_are_answered_while_another_client_holds_connections(
    engine: Engine, begun: bytes
) -> None:
    form = photograph_form(PORTRAIT)
    with attack(engine.port, 1500, begun) as closed:
        assert wait_until(lambda: closed[0] > 1000)
        for _ in range(8):
            began = time.monotonic()
            assert engine.request("GET", "/healthcheck").status == 200
            assert time.monotonic() - began < 2
        reply = engine.request("POST", "/find_faces", form, {"Content-Type": MULTIPART})
        assert reply.status == 200
    metrics = engine.request("GET", "/metrics").body
    assert b'compreface_refused_total{cause="connections"}' in metrics
    assert b'compreface_refused_total{cause="connections"} 0.0' not in metrics


@pytest.mark.slow
def test_the_soft_limit_is_raised_and_a_thousand_connections_are_kept() -> None:
    with Engine("-c", FEW_FILES.format(soft=256, hard=4096)) as engine:
        assert "1024 connections" in engine.log
        wires = [socket.create_connection(("127.0.0.1", engine.port), 20) for _ in range(400)]
        for wire in wires:
            wire.sendall(HEAD + b"x\r\nConnection: close\r\n\r\n")
        for wire in wires:
            assert wire.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
            wire.close()


@pytest.mark.slow
def test_very_few_files_are_enough() -> None:
    with Engine("-c", FEW_FILES.format(soft=64, hard=64)) as engine:
        assert engine.find(PORTRAIT).status == 200
