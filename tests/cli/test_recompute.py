"""Embeddings of stored pictures: at unit length, in order, and no picture that stops the rest."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from compreface_cli.data import recompute
from compreface_cli.data.recompute import Seen
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import UnhealthyError
from tests.cli.local_cf import free_port
from tests.cli.picture_engine import BROKEN, BUSY, NO_FACE, PictureEngine, a_face, picture_engine

FAILED = (500, {"message": "500 Internal Server Error: The engine failed"})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PictureEngine]:
    monkeypatch.setattr(recompute, "_PAUSE_S", 0.01)
    with picture_engine() as engine:
        yield engine


def seen(engine: PictureEngine, *answers: Any, limit_s: float = 5.0) -> Seen:
    engine.answers = {b"picture": list(answers)}
    with EngineClient(engine.url) as client:
        return recompute.faces(client, b"the picture", limit_s=limit_s)


def test_an_embedding_has_unit_length_and_the_box_is_the_engines(engine: PictureEngine) -> None:
    (face,) = seen(engine, [a_face(10, embedding=(30.0, 40.0))]).faces
    assert face.embedding == (0.6, 0.8)
    assert math.hypot(*face.embedding) == 1.0
    assert face.box == (10.0, 12.0, 40.0, 52.0)
    assert face.probability == 0.99
    assert engine.asked == [("calculator",)]  # as the api asks, and nothing more


def test_the_largest_face_comes_first(engine: PictureEngine) -> None:
    large = a_face(60, embedding=(0.0, 1.0))
    large["box"] |= {"x_max": 160, "y_max": 140}
    looked = seen(engine, [a_face(10), large])
    assert looked.kind == "several faces"
    assert [face.embedding for face in looked.faces] == [(0.0, 1.0), (1.0, 0.0)]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([a_face()], "one face"),
        ([], "no face"),
        (NO_FACE, "no face"),
        (BROKEN, "unreadable"),
        ((422, {"message": "422 Unprocessable Entity: too many pixels"}), "unreadable"),
        ((413, {"message": "413 Request Entity Too Large: too large"}), "unreadable"),
        (FAILED, "unreadable"),
    ],
)
def test_what_is_wrong_with_a_picture_is_a_value(
    engine: PictureEngine, answer: Any, kind: str
) -> None:
    assert seen(engine, answer).kind == kind


def test_an_engine_that_is_busy_or_fails_once_is_asked_again(engine: PictureEngine) -> None:
    assert seen(engine, BUSY, FAILED, BUSY, [a_face()]).kind == "one face"
    assert len(engine.asked) == 4
    with pytest.raises(UnhealthyError, match=engine.url):
        seen(engine, BUSY, limit_s=0.1)


@pytest.mark.parametrize(
    "face",
    [{}, {"box": {}}, {**a_face(), "embedding": [0.0, 0.0]}, {**a_face(), "embedding": ["x"]}],
    ids=["nothing", "no-box", "no-length", "no-number"],
)
def test_an_answer_that_breaks_the_contract_is_the_engines_fault(
    engine: PictureEngine, face: Any
) -> None:
    with pytest.raises(UnhealthyError, match=engine.url):
        seen(engine, [face])


def test_an_engine_that_is_gone_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with EngineClient(url) as client, pytest.raises(UnhealthyError, match=url):
        recompute.faces(client, b"the picture")


def test_many_pictures_keep_their_order_and_few_are_in_memory(engine: PictureEngine) -> None:
    taken, given, most = 0, 0, 0
    engine.answers = {b"odd": [NO_FACE], b"even": [[a_face()]]}

    def pictures() -> Iterator[tuple[int, bytes]]:
        nonlocal taken, most
        for number in range(40):
            taken += 1
            most = max(most, taken - given)
            yield number, b"odd" if number % 2 else b"even"

    kinds = []
    with EngineClient(engine.url) as client:
        for number, looked in recompute.several(client, pictures(), at_once=3):
            given += 1
            assert number == given - 1
            kinds.append(looked.kind)
    assert kinds == ["one face", "no face"] * 20
    assert most <= 4
    assert not [each for each in threading.enumerate() if each.name.startswith("recompute")]


def test_an_engine_that_goes_ends_the_rest(engine: PictureEngine) -> None:
    engine.answers = {b"good": [[a_face()]], b"bad": [[{}]]}
    pictures = [(number, b"bad" if number == 2 else b"good") for number in range(100)]
    with EngineClient(engine.url) as client:
        looked = recompute.several(client, iter(pictures), at_once=2)
        assert [next(looked)[0], next(looked)[0]] == [0, 1]
        with pytest.raises(UnhealthyError):
            next(looked)
    assert len(engine.asked) < 10
