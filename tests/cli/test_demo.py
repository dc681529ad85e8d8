"""`cf demo` tells the shipped portraits apart, through an engine that is one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from compreface_cli.app import make_app
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import UnhealthyError
from compreface_cli.photos import demo
from tests.cli.picture_engine import STATUS, a_face, picture_engine


class FakeEngine(EngineClient):
    """Answers each picture in turn with an embedding at this angle (degrees)."""

    def __init__(self, angles: Sequence[float | None]) -> None:
        self.url = "http://127.0.0.1:1"
        self._angles = list(angles)

    def status(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        return {
            "status": "OK",
            "calculator_version": "fake.Calculator",
            "similarity_coefficients": [1.1, 6.0],
            "available_plugins": {"detector": "fake.FaceDetector", "calculator": "fake.Calculator"},
        }

    def scan(self, picture: bytes, **_: Any) -> dict[str, Any]:
        angle = self._angles.pop(0)
        if angle is None:
            return {"result": []}
        radians = math.radians(angle)
        box = {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4, "probability": 0.9}
        return {"result": [{"box": box, "embedding": [math.cos(radians), math.sin(radians)]}]}


def test_demo_compares_the_first_portrait_with_each_change_and_with_the_other_person() -> None:
    shown = demo.run(FakeEngine([0, 90, 5, 10, 0]))
    values = [one.similarity for one in shown.likenesses]
    assert [one.second for one in shown.likenesses] == [
        "herself, mirrored",
        "herself, darkened to 40 %",
        "herself, re-encoded as JPEG, quality 30",
        "Grace Hopper (US Navy)",
    ]
    assert values[2] > values[0] > values[1] > 0.5 > values[3]


def test_demo_says_which_portrait_had_no_face() -> None:
    with pytest.raises(UnhealthyError, match=r"grace_hopper\.jpg"):
        demo.run(FakeEngine([0, None]))


@pytest.mark.parametrize("name", demo.CHANGES)
def test_every_change_gives_another_readable_picture_of_the_same_size(name: str) -> None:
    from io import BytesIO

    from PIL import Image

    from compreface_cli import resources

    before = (resources.portraits_dir() / demo.FIRST).read_bytes()
    after = demo.CHANGES[name](before)
    assert after != before
    assert Image.open(BytesIO(after)).size == Image.open(BytesIO(before)).size


def test_demo_prints_tables_whose_rows_end_in_no_blanks() -> None:
    with picture_engine() as engine:
        engine.answers = {b"": [[a_face()]]}  # any picture
        result = CliRunner().invoke(make_app(["demo"]), ["demo", "--url", engine.url])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any("10, 12 - 40, 52" in line for line in lines)
    assert lines == [line.rstrip() for line in lines]


def test_demo_shows_age_and_gender_of_the_portraits_and_asks_for_them_only_there() -> None:
    with picture_engine() as engine:
        more = {"age": "age.Detector", "gender": "gender.Detector"}
        engine.status = {**STATUS, "available_plugins": {**STATUS["available_plugins"], **more}}
        age = {"low": 23, "high": 35, "probability": 0.8}
        face = a_face(age=age, gender={"value": "female", "probability": 0.987})
        engine.answers = {b"": [[face]]}  # any picture
        result = CliRunner().invoke(make_app(["demo"]), ["demo", "--url", engine.url])
        asked = list(engine.asked)
        document = CliRunner().invoke(make_app(["demo"]), ["demo", "--url", engine.url, "--json"])
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "photograph box x, y - x, y sure age gender"
    assert lines[2] == "Eileen Collins (NASA) 10, 12 - 40, 52 0.9900 23-35 female 0.99"
    assert max(map(len, result.stdout.splitlines()[:5])) <= 80
    everything = ("calculator", "landmarks", "pose", "age", "gender")
    assert asked == [everything] * 2 + [("calculator",)] * 3
    assert json.loads(document.stdout)["faces"][1]["age"] == age


@pytest.mark.parametrize(
    ("given", "heading"),
    [({"age": {"low": 1, "high": 3}}, "age"), ({"gender": {"value": "male"}}, "gender"), ({}, "")],
)
def test_demo_leaves_out_what_the_engine_does_not_say(given: Any, heading: str) -> None:
    with picture_engine() as engine:
        engine.answers = {b"": [[a_face(**given)]]}
        result = CliRunner().invoke(make_app(["demo"]), ["demo", "--url", engine.url])
    head = " ".join(result.stdout.splitlines()[0].split())
    assert head == f"photograph box x, y - x, y sure {heading}".strip()
