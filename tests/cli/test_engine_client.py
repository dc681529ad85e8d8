"""HTTP to an engine: answers, refusals, and what is no engine at all; always in bounded time."""

from __future__ import annotations

import socket

import pytest

from compreface_cli.engine.client import EngineClient, Refused, is_up
from compreface_cli.errors import UnhealthyError, UsageError
from tests.cli.local_cf import free_port
from tests.cli.picture_engine import NO_FACE, a_face, picture_engine
from tests.cli.talking_engine import CALCULATOR, TalkingEngine, face, serving


def test_it_reads_status_and_faces() -> None:
    engine = TalkingEngine()
    with serving(engine) as endpoint, EngineClient(endpoint.url) as client:
        assert client.status()["calculator_version"] == CALCULATOR
        with pytest.raises(Refused, match="No face is found") as refused:
            client.scan(b"no picture", plugins=["calculator", "pose"], limit=2, min_score=0.5)
    assert refused.value.status == 400
    assert engine.asked[-1] == (
        "/find_faces?face_plugins=calculator%2Cpose&limit=2&det_prob_threshold=0.5"
    )


def test_faces_are_returned_as_the_engine_sends_them() -> None:
    from compreface_cli import resources

    engine = TalkingEngine()
    engine.says("astronaut.png", face((1, 2, 3, 4), [1.0]))
    picture = (resources.portraits_dir() / "astronaut.png").read_bytes()
    with serving(engine) as endpoint, EngineClient(endpoint.url) as client:
        assert client.scan(picture)["result"] == [face((1, 2, 3, 4), [1.0])]


def test_a_truncated_picture_is_reported_with_and_without_faces() -> None:
    with picture_engine() as engine, EngineClient(engine.url) as client:
        engine.answers = {b"some": [[a_face()]], b"none": [NO_FACE]}
        assert client.scan(b"some")["truncated"] is False
        engine.cut_short = {b"some", b"none"}
        assert client.scan(b"some")["truncated"] is True
        with pytest.raises(Refused) as refused:
            client.scan(b"none")
    assert refused.value.truncated


def test_an_unreachable_engine_is_unhealthy() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with EngineClient(url) as client, pytest.raises(UnhealthyError, match=url):
        client.status()
    assert not is_up(url)


def test_an_engine_that_does_not_answer_is_a_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            EngineClient(url, timeout_s=0.2) as client,
            pytest.raises(UnhealthyError, match=url),
        ):
            client.status()
        assert not is_up(url, timeout_s=0.2)


@pytest.mark.parametrize("raw", [b"<html>", b"[1]", b"", b"\xff"])
def test_a_service_that_is_not_an_engine_is_reported(raw: bytes) -> None:
    with (
        serving(TalkingEngine(raw=raw)) as endpoint,
        EngineClient(endpoint.url) as client,
        pytest.raises(UnhealthyError, match=endpoint.url) as caught,
    ):
        client.status()
    assert caught.value.details["status"] == 200


@pytest.mark.parametrize("url", ["", "127.0.0.1:3000", "ftp://x", "http://"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=f"'{url}'"):
        EngineClient(url)


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with serving(TalkingEngine()) as endpoint:
        assert is_up(endpoint.url)
