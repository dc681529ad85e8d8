"""The stand-in for api in the end-to-end tests sends the requests of the recorded real one."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.contract.stack_recording import Recorded, content_of, recording
from tests.e2e.standins import front
from tests.e2e.standins.engine import (
    EngineClient,
    EngineFailed,
    Names,
    NoFace,
    Photograph,
    head,
    multipart,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + b'{"result":[]}'
BUSY = b'{"message":"503 Service Unavailable: busy"}\n'
RETRY_LATER = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 44\r\n\r\n" + BUSY
)
NEVER_AGAIN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 44\r\n\r\n" + BUSY
NO_FACE = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"
CLOSE = b""  # end the connection without a word
CUT_SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"
PHOTOGRAPH = Photograph("a.jpg", "image/jpeg", b"a picture")


@pytest.mark.parametrize(
    "recorded",
    [recorded for recorded in recording() if "User-Agent: Java/17.0.15" in recorded.headers],
    ids=lambda recorded: recorded.name,
)
def test_a_request_of_the_standin_is_the_recorded_one(recorded: Recorded) -> None:
    method, path, _ = recorded.request.split()
    if not recorded.parts:
        kind = "multipart/form-data"
        assert head(method, path, kind, "compreface-core:3000", None) == recorded.bytes()
        return
    file = recorded.parts[0]
    disposition, kind, _ = file["headers"]
    kind, body = multipart(
        Photograph(
            disposition.partition("filename=")[2].strip('"'),
            kind.partition(": ")[2],
            content_of(file),
        ),
        {
            name: recorded.field(name)
            for name in ("limit", "det_prob_threshold", "face_plugins", "detect_faces")
        },
        recorded.boundary,
    )
    sent = head(method, path, kind, "compreface-core:3000", len(body)) + body
    assert sent == recorded.bytes()


class Engine:
    """Answers one scripted thing a request, and closes the connection after an empty one."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.asked = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests:
            while line := requests.readline():
                length = 0
                while line.strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    line = requests.readline()
                requests.read(length)
                with self._lock:
                    self.asked += 1
                    answer = self._answers.pop(0) if self._answers else OK
                connection.sendall(answer)
                if answer in (CLOSE, CUT_SHORT):
                    return


@contextmanager
def scripted(*answers: bytes) -> Iterator[Engine]:
    engine = Engine(*answers)
    try:
        yield engine
    finally:
        engine.close()


def client(port: int, **more: object) -> EngineClient:
    variables = {"PYTHON_URL": f"http://127.0.0.1:{port}"}
    return EngineClient.from_environment(
        variables | {key: str(value) for key, value in more.items()}
    )


def find(asks: EngineClient) -> object:
    return asks.find_faces(
        PHOTOGRAPH, limit=0, det_prob_threshold=None, face_plugins="", detect_faces=True
    )


def test_nothing_is_retried_by_default() -> None:
    for answer in (RETRY_LATER, NEVER_AGAIN, CLOSE):
        with scripted(answer) as engine:
            with pytest.raises(EngineFailed):
                find(client(engine.port))
            assert engine.asked == 1, answer


def test_the_apis_message_has_the_engines_body_without_retry_after() -> None:
    with scripted(RETRY_LATER) as engine, pytest.raises(EngineFailed) as caught:
        find(client(engine.port))
    text = str(caught.value)
    assert text.startswith("[503 Service Unavailable] during [POST] to [http://127.0.0.1:")
    assert text.endswith(f": [{BUSY.decode()}]")
    assert "Retry-After" not in text


def test_any_400_is_taken_as_no_face() -> None:
    with scripted(NO_FACE, NO_FACE) as engine:
        with pytest.raises(NoFace):
            find(client(engine.port, MAX_ATTEMPTS=5))
        assert engine.asked == 1


@pytest.mark.parametrize("answer", [RETRY_LATER, CLOSE])
def test_retries_follow_at_once(answer: bytes) -> None:
    with scripted(*[answer] * 9) as engine:
        began = time.monotonic()
        assert find(client(engine.port, MAX_ATTEMPTS=10)) == {"result": []}
        assert engine.asked == 10
        assert time.monotonic() - began < 0.5
    with scripted(*[answer] * 10) as engine:
        with pytest.raises(EngineFailed):
            find(client(engine.port, MAX_ATTEMPTS=10))
        assert engine.asked == 10


@pytest.mark.parametrize("answer", [NEVER_AGAIN, CUT_SHORT])
def test_other_statuses_are_not_retried(answer: bytes) -> None:
    with scripted(answer) as engine:
        with pytest.raises(EngineFailed):
            find(client(engine.port, MAX_ATTEMPTS=10))
        assert engine.asked == 1


def test_an_answer_before_the_end_of_the_form_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(
                    b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
                )

        refusing = threading.Thread(target=refuse)
        refusing.start()
        asks = client(listener.getsockname()[1])
        large = Photograph("a.jpg", "image/jpeg", b"x" * 30_000_000)
        with pytest.raises(EngineFailed, match=r"\[413 Too Large\] during \[POST\]"):
            asks.find_faces(
                large, limit=0, det_prob_threshold=None, face_plugins="", detect_faces=True
            )
        refusing.join()


def test_refused_connections_and_timeouts_are_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port: int = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(EngineFailed, match="Read timed out executing POST"):
            find(client(port, MAX_ATTEMPTS=3, READ_TIMEOUT=100))
        assert 0.3 <= time.monotonic() - began < 2
    with pytest.raises(EngineFailed, match="Connection refused executing POST"):
        find(client(port, MAX_ATTEMPTS=3))


def test_one_connection_serves_many_requests_and_a_closed_one_is_noticed() -> None:
    with scripted(OK, OK, CLOSE, OK) as engine:
        asks = client(engine.port)
        for _ in range(2):
            find(asks)
        assert engine.connections == 1
        with pytest.raises(EngineFailed, match="Unexpected end of file from server"):
            find(asks)  # the request was under way: the JVM does not send a form again
        find(asks)
        assert engine.connections == 2


def test_a_connection_closed_while_idle_is_replaced() -> None:
    with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as engine:
        asks = client(engine.port)
        find(asks)
        (kept,) = asks._idle._kept
        kept[1].shutdown(socket.SHUT_RDWR)  # as if the engine had ended
        find(asks)
        assert engine.connections == 2


def test_the_status_is_requested_again_when_its_connection_breaks() -> None:
    with scripted(CLOSE) as engine:
        assert client(engine.port).status() == {"result": []}
        assert engine.asked == 2


def test_five_connections_are_kept() -> None:
    with scripted() as engine:
        asks = client(engine.port)
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: find(asks), range(60)))
        assert len(asks._idle._kept) <= 5


def test_a_name_is_kept_for_30_s_unless_an_option_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def resolved(host: str, *more: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(0, 0, 0, "", (f"10.0.0.{len(asked)}", 0)), (0, 0, 0, "", ("10.0.0.99", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    kept = Names()
    assert [kept.address("core") for _ in range(3)] == ["10.0.0.1"] * 3
    assert len(asked) == 1
    always = EngineClient("http://core:3000", java_options="-Xmx4g -Dsun.net.inetaddr.ttl=0")
    assert [always._names.address("core") for _ in range(3)] == [
        f"10.0.0.{number}" for number in (2, 3, 4)
    ]


def test_an_unknown_name_stays_unknown_for_10_s(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unknown(host: str, *more: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    options = "-Dsun.net.inetaddr.ttl=0 -Dsun.net.inetaddr.negative.ttl=0"
    asks = EngineClient("http://core:3000", max_attempts=10, java_options=options)
    with pytest.raises(EngineFailed, match=r"^core executing POST http://core:3000/find_faces$"):
        find(asks)
    assert asked == ["core"]


def test_200_threads_answer_and_further_requests_wait() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    released = threading.Event()

    def slow(request: front.Request) -> front.Answer:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        released.wait(20)
        with lock:
            at_once -= 1
        return front.Answer(200, {"status": "OK"})

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    serving = loop.create_task(front._serve(slow, port))

    def run() -> None:
        try:
            loop.run_until_complete(serving)
        except asyncio.CancelledError:
            pass

    server = threading.Thread(target=run)
    server.start()
    try:
        wires = [_connected(port) for _ in range(250)]
        for wire in wires:
            wire.sendall(b"GET /api/v1/consistence/status HTTP/1.0\r\n\r\n")
        deadline = time.monotonic() + 10
        while at_once < front.WORKERS and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        released.set()
        for wire in wires:
            with wire:
                assert wire.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        assert most == front.WORKERS
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        server.join()
        loop.close()


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
