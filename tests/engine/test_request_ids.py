"""Each request has an id in its answer and in each of its log lines, and in no other's."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from compreface_engine import logs
from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.core.types import Image
from compreface_engine.settings import Settings
from tests.contract.process import MULTIPART, photograph_form
from tests.engine.fakes import Caller, FakeFace, FakePipeline


class TalkativePipeline(FakePipeline):
    """Writes a line in the worker thread."""

    def scan(self, image: Image, **rest: Any) -> Sequence[FakeFace]:
        logging.getLogger(logs.NAME).warning("scanning")
        return super().scan(image, **rest)


class Service:
    """One application that logs into a text."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        self._text = io.StringIO()
        logs.set_up(level, "1.2.0", self._text)
        gate = Gate(concurrency=2, max_queue=9, max_bytes=1_000_000, max_wait_s=9)
        self.app = App(Settings.from_env({}, cores=2), TalkativePipeline(), gate)

    def caller(self, picture: bytes, request_id: str | None = None) -> Caller:
        headers = {"Content-Type": MULTIPART}
        if request_id is not None:
            headers["X-Request-Id"] = request_id
        body = photograph_form(picture)
        return Caller(self.app, "POST", "/find_faces", headers=headers, body=body)

    def find(self, picture: bytes, request_id: str | None = None) -> str:
        """The id in the answer."""
        return asyncio.run(self.caller(picture, request_id).run()).headers["x-request-id"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._text.getvalue().splitlines()]


@pytest.fixture
def service() -> Iterator[Service]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield Service()
    root.handlers[:], level = before
    root.setLevel(level)
    logging.getLogger(logs.NAME).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    "good", ["a", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "Root=1".replace("=", ":"), "x" * 64]
)
def test_a_clients_request_id_is_returned(service: Service, good: str) -> None:
    assert service.find(b"1", good) == good
    assert all(line["request"]["id"] == good for line in service.lines)


@pytest.mark.parametrize("bad", ["", "x" * 65, "a b", 'a"b', "\u00e4", "-a", "a\tb", "{}", "a,b"])
def test_an_invalid_request_id_is_replaced_and_not_logged(service: Service, bad: str) -> None:
    made = service.find(b"1", bad)
    assert made != bad
    assert len(made) == 16
    assert all(line["request"]["id"] == made for line in service.lines)


def test_generated_ids_differ(service: Service) -> None:
    assert len({service.find(b"1") for _ in range(20)}) == 20


def test_log_lines_of_the_worker_thread_and_of_errors_have_the_id(service: Service) -> None:
    service.find(b"1", "works")
    service.find(b"X", "fails")
    lines = [(line["request"]["id"], line["message"]) for line in service.lines]
    assert lines == [
        ("works", "scanning"),
        ("works", "answered"),
        ("fails", "a request failed"),
        ("fails", "answered"),
    ]
    assert "RuntimeError" in service.lines[2]["traceback"]


def test_concurrent_requests_keep_their_ids(service: Service) -> None:
    async def together() -> None:
        await asyncio.gather(*(service.caller(b"1", f"number-{n}").run() for n in range(8)))

    asyncio.run(together())
    messages: dict[str, list[str]] = {}
    for line in service.lines:
        messages.setdefault(line["request"]["id"], []).append(line["message"])
    assert messages == {f"number-{n}": ["scanning", "answered"] for n in range(8)}


def test_a_log_line_outside_a_request_has_no_id(service: Service) -> None:
    logging.getLogger(logs.NAME).info("starting")
    assert "request" not in service.lines[0]


def test_the_access_line_has_method_path_status_and_time(service: Service) -> None:
    service.find(b"!", "one")
    request = service.lines[-1]["request"]
    assert request.pop("ms") > 0
    assert request == {"id": "one", "method": "POST", "path": "/find_faces", "status": 400}
