"""`cf compare` says how alike faces are, by the engine's own coefficients, and claims no more."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from compreface_cli.app import make_app
from compreface_cli.errors import CfError, UsageError
from compreface_cli.flows.compare import Pair, distance, similarity
from tests.cli.picture_engine import NO_FACE, PictureEngine, a_face, picture_engine

NORTH, NORTH_EAST, EAST = (0.0, 2.0), (1.0, 1.0), (3.0, 0.0)


@pytest.fixture
def engine() -> Iterator[PictureEngine]:
    with picture_engine() as started:
        yield started


def photograph(folder: Path, name: str, engine: PictureEngine, answer: Any) -> Path:
    path = folder / name
    path.write_bytes(f"picture {name}".encode())
    engine.answers[path.read_bytes()] = [answer]
    return path


def run(engine: PictureEngine, *arguments: object) -> Result:
    words = ["compare", *map(str, arguments), "--url", engine.url]
    return CliRunner(env={"COLUMNS": "80"}).invoke(make_app(["compare"]), words)


def test_two_pictures_give_similarity_and_verdict(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    b = photograph(tmp_path, "b.jpg", engine, [a_face(embedding=EAST)])
    result = run(engine, a, b)
    expected = (math.tanh((1.1 - math.sqrt(2)) * 6.0) + 1) / 2
    assert result.exit_code == 0
    assert f"{expected:.3f}  probably different" in result.stdout
    assert "custom.Calculator@stand-in" in result.stdout
    assert engine.asked == [("calculator",), ("calculator",)]


def test_only_direction_counts_not_length(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    b = photograph(tmp_path, "b.jpg", engine, [a_face(embedding=(0.0, 77.0))])
    (pair,) = json.loads(run(engine, a, b, "--json").stdout)["pairs"]
    assert pair["distance"] == pytest.approx(0.0, abs=1e-9)
    assert pair["verdict"] == "probably the same"


def test_each_face_of_the_second_picture_is_compared(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH), a_face(embedding=EAST)])
    b = photograph(tmp_path, "b.jpg", engine, [a_face(embedding=EAST), a_face(embedding=NORTH)])
    result = run(engine, a, b, "--json")
    document = json.loads(result.stdout)
    assert [(one["face_a"], one["face_b"]) for one in document["pairs"]] == [(0, 0), (0, 1)]
    assert [one["verdict"] for one in document["pairs"]] == [
        "probably different",
        "probably the same",
    ]
    assert document["remarks"] == [
        f"{a} has 2 faces; the largest is compared",
        f"{b} has 2 faces; each is compared",
    ]


def test_more_pictures_give_a_matrix(engine: PictureEngine, tmp_path: Path) -> None:
    photos = [
        photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)]),
        photograph(tmp_path, "b.jpg", engine, [a_face(embedding=NORTH_EAST)]),
        photograph(tmp_path, "c.jpg", engine, [a_face(embedding=EAST)]),
    ]
    result = run(engine, *photos)
    rows = [line.split() for line in result.stdout.splitlines()]
    near, far = (similarity(distance(NORTH, other), (1.1, 6.0)) for other in (NORTH_EAST, EAST))
    assert ["1", "a.jpg", "-", f"{near:.2f}", f"{far:.2f}"] in rows
    assert ["3", "c.jpg", f"{far:.2f}", f"{near:.2f}", "-"] in rows


def test_a_matrix_wider_than_the_screen_becomes_a_list(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photos = [
        photograph(tmp_path, f"{n:02}.jpg", engine, [a_face(embedding=NORTH)]) for n in range(12)
    ]
    result = run(engine, *photos)
    assert len([line for line in result.stdout.splitlines() if "probably" in line]) == 66
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_a_picture_without_face_is_said_and_fails(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    b = photograph(tmp_path, "b.jpg", engine, NO_FACE)
    result = run(engine, a, b)
    assert result.exit_code == 1
    assert "no face was found" in result.stdout.replace("\n", " ")
    assert "nothing to compare" in result.stdout


def test_a_picture_cut_short_is_said_and_compared(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    b = photograph(tmp_path, "b.jpg", engine, [a_face(embedding=NORTH)])
    engine.cut_short = {b.read_bytes()}
    result = run(engine, a, b, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["remarks"] == [f"{b} cut short: decoded as far as it goes"]
    assert document["pairs"][0]["verdict"] == "probably the same"


def test_a_folder_without_pictures_is_named(engine: PictureEngine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    a = photograph(tmp_path, "a.jpg", engine, [a_face()])
    result = run(engine, tmp_path / "empty", a)
    assert isinstance(result.exception, UsageError)
    assert result.exception.message == f"no picture in {tmp_path / 'empty'}"
    assert "no picture in" in run(engine, tmp_path / "empty", a, a).stderr


def test_no_row_ends_in_blanks(engine: PictureEngine, tmp_path: Path) -> None:
    photos = [
        photograph(tmp_path, f"{n}.jpg", engine, [a_face(embedding=at)])
        for n, at in enumerate((NORTH, NORTH, EAST))
    ]
    for count in (2, 3):
        lines = run(engine, *photos[:count]).stdout.splitlines()
        assert lines == [line.rstrip() for line in lines]


def test_one_picture_is_a_usage_error(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face()])
    result = run(engine, a)
    assert isinstance(result.exception, UsageError)


def test_an_engine_without_calculator_cannot_compare(engine: PictureEngine, tmp_path: Path) -> None:
    engine.status = {**engine.status, "available_plugins": {"detector": "facenet.FaceDetector"}}
    a = photograph(tmp_path, "a.jpg", engine, [a_face()])
    result = run(engine, a, a)
    assert isinstance(result.exception, CfError)
    assert "no calculator" in result.exception.message


def test_an_embedding_without_direction_is_named(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=(0.0, 0.0))])
    result = run(engine, a, a)
    assert isinstance(result.exception, CfError)
    assert "without direction" in result.exception.message


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.99, "probably the same"), (0.6, "perhaps the same"), (0.4, "probably different")],
)
def test_a_verdict_never_says_that_it_is_certain(value: float, verdict: str) -> None:
    assert Pair(0, 1, 0, 0, 1.0, value).verdict == verdict


@given(
    st.floats(0, 2),
    st.floats(0, 2),
    st.tuples(st.floats(0.5, 2), st.floats(1, 10)),
)
def test_nearer_faces_are_never_less_alike(
    one: float, other: float, coefficients: tuple[float, float]
) -> None:
    near, far = sorted((one, other))
    assert 0 <= similarity(far, coefficients) <= similarity(near, coefficients) <= 1


@given(st.lists(st.floats(-9, 9).map(lambda v: round(v, 3)), min_size=3, max_size=3))
def test_a_face_is_at_no_distance_from_itself(vector: list[float]) -> None:
    if any(vector):
        assert distance(vector, vector) == 0
        assert distance(vector, [-v for v in vector]) == pytest.approx(2)
