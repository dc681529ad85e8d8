"""200 clients at once get the right answer or a clear refusal, and nothing leaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from tests.contract.process import Engine, Reply
from tests.shared import ROOT

pytestmark = pytest.mark.slow

PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()
CALLERS = 200
MEBIBYTE = 1024 * 1024


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(CF_MAX_WAIT_S="100") as engine:  # the machine may be busy
        yield engine


def boxes(reply: Reply) -> list[dict[str, float]]:
    return [face["box"] for face in reply.json()["result"]]


def test_a_flood_of_requests_is_answered_or_refused_and_leaks_nothing(engine: Engine) -> None:
    known = boxes(engine.find(PORTRAIT, "face_plugins=calculator"))
    for _ in range(8):
        engine.find(PORTRAIT, "face_plugins=calculator")
    before = engine.resident_bytes()
    start = threading.Barrier(CALLERS)

    def call() -> Reply:
        start.wait()
        return engine.find(PORTRAIT, "face_plugins=calculator")

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(call) for _ in range(CALLERS)]
        most = before
        health_came_first = False
        for _ in as_completed(calls):
            most = max(most, engine.resident_bytes())
            if not health_came_first and any(not call.done() for call in calls):
                assert engine.request("GET", "/healthcheck").status == 200
                health_came_first = any(not call.done() for call in calls)
        replies = [call.result() for call in calls]
    served = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 503]
    assert len(served) + len(refused) == CALLERS
    assert len(served) >= 60, "the queue holds 64"
    assert all(boxes(reply) == known for reply in served)
    for reply in refused:
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json()["message"].startswith("503 Service Unavailable: ")
    assert health_came_first, "health waited behind the queue"
    assert most - before < 200 * MEBIBYTE
    assert boxes(engine.find(PORTRAIT)) == known, "it serves at once again"
    assert engine.request("GET", "/ready").status == 200
    assert engine.resident_bytes() - before < 100 * MEBIBYTE


def test_a_request_that_waits_too_long_is_refused() -> None:
    with (
        Engine(CF_MAX_CONCURRENCY="1", CF_MAX_WAIT_S="0.001") as engine,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = list(pool.map(lambda _: engine.find(PORTRAIT), range(16)))
        assert {reply.status for reply in replies} == {200, 503}
        texts = {reply.json()["message"] for reply in replies if reply.status == 503}
        assert any("0.001 s" in text for text in texts)


def test_behind_the_api_all_requests_are_answered_even_when_their_bodies_do_not_fit_in_memory() -> (
    None
):
    """With the settings of `cf`'s full stack: 200 MB of bodies, of which 16 MB may be in memory."""
    padded = PORTRAIT + bytes(MEBIBYTE)  # a decoder stops at the end of the picture
    with (
        Engine(
            CF_MAX_QUEUE="256",
            CF_MAX_WAIT_S="100",
            CF_RETRY_AFTER="false",
            CF_MAX_BODY_BYTES=str(4 * MEBIBYTE),
            CF_MAX_QUEUE_BYTES=str(16 * MEBIBYTE),
        ) as engine,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        known = boxes(engine.find(PORTRAIT))
        for _ in range(8):
            engine.find(padded)
        before = most = engine.resident_bytes()
        calls = [pool.submit(engine.find, padded) for _ in range(CALLERS)]
        for _ in as_completed(calls):
            most = max(most, engine.resident_bytes())
        assert [call.result().status for call in calls] == [200] * CALLERS
        assert all(boxes(call.result()) == known for call in calls)
        # Beside the bodies: up to 320 kB read ahead for each connection, and the computations.
        assert most - before < 140 * MEBIBYTE


def test_cf_retry_after_false_leaves_out_the_header() -> None:
    settings = {"CF_MAX_CONCURRENCY": "1", "CF_MAX_WAIT_S": "0.001", "CF_RETRY_AFTER": "false"}
    with Engine(**settings) as engine, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: engine.find(PORTRAIT), range(16)))
    refused = [reply for reply in replies if reply.status == 503]
    assert refused
    for reply in refused:
        assert "retry-after" not in reply.headers
        assert reply.json()["message"].endswith("No worker was free within 0.001 s")
