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
from compreface_cli.engine.embeddings import cosine, distance, similarity
from compreface_cli.errors import CfError, UsageError
from compreface_cli.instance.records import Instances, Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.models import catalogue
from compreface_cli.models.entry import Border
from compreface_cli.photos.compare import scale, verdict
from compreface_cli.photos.scan import CUT_SHORT
from tests.cli.names import assert_named
from tests.cli.picture_engine import NO_FACE, PictureEngine, a_face, picture_engine

NORTH, NORTH_EAST, EAST = (0.0, 2.0), (1.0, 1.0), (3.0, 0.0)
EMBEDDED = "embedded.Calculator@mobilefacenet192"
# similarity and the border's place of calculators that were measured
FACENET = ("facenet.Calculator", [1.1817961, 5.291995557])


@pytest.fixture
def engine() -> Iterator[PictureEngine]:
    """It says that it runs the embedded calculator, whose border is 0.52."""
    with picture_engine() as started:
        started.status = {**started.status, "calculator_version": EMBEDDED}
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
    assert EMBEDDED in result.stdout
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
    assert len([line for line in result.stdout.splitlines() if "probably the same" in line]) == 66
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_a_picture_without_a_face_is_reported_and_fails(
    engine: PictureEngine, tmp_path: Path
) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    b = photograph(tmp_path, "b.jpg", engine, NO_FACE)
    result = run(engine, a, b)
    assert result.exit_code == 1
    assert_named(result.stdout.replace("\n", ""), str(b))
    assert not json.loads(run(engine, a, b, "--json").stdout)["pairs"]


def test_a_truncated_picture_gets_a_note_and_is_compared(
    engine: PictureEngine, tmp_path: Path
) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    b = photograph(tmp_path, "b.jpg", engine, [a_face(embedding=NORTH)])
    engine.cut_short = {b.read_bytes()}
    result = run(engine, a, b, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["remarks"] == [f"{b} {CUT_SHORT}"]
    assert document["pairs"][0]["verdict"] == "probably the same"


def test_a_folder_without_pictures_is_named(engine: PictureEngine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    a = photograph(tmp_path, "a.jpg", engine, [a_face()])
    result = run(engine, tmp_path / "empty", a)
    assert isinstance(result.exception, UsageError)
    assert_named(result.exception.message, tmp_path / "empty")
    assert_named(run(engine, tmp_path / "empty", a, a).stderr, tmp_path / "empty")


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
    assert_named(result.exception.message, engine.url, "calculator")


def test_an_embedding_without_direction_is_named(engine: PictureEngine, tmp_path: Path) -> None:
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=(0.0, 0.0))])
    result = run(engine, a, a)
    assert isinstance(result.exception, CfError)
    assert_named(result.exception.message, a)


@pytest.mark.parametrize(
    ("calculator", "value", "said"),
    [
        ("facenet.Calculator", 0.94, "probably the same"),
        ("facenet.Calculator", 0.93, "perhaps the same"),
        ("facenet.Calculator", 0.80, "probably different"),
        ("insightface.Calculator", 0.78, "probably the same"),
        ("insightface.Calculator", 0.69, "perhaps the same"),
        ("insightface.Calculator", 0.6, "probably different"),
        (EMBEDDED, 0.66, "probably the same"),
        (EMBEDDED, 0.6, "perhaps the same"),
        (EMBEDDED, 0.5, "probably different"),
        ("custom.Calculator@my-model", 0.99, None),
    ],
)
def test_a_verdict_follows_from_the_calculators_border_and_never_claims_certainty(
    calculator: str, value: float, said: str | None
) -> None:
    assert verdict(value, catalogue.border(calculator)) == said


def test_a_border_without_a_sure_value_gives_no_probable_match() -> None:
    assert verdict(0.99, Border(0.7)) == "perhaps the same"
    assert verdict(0.69, Border(0.7)) == "probably different"
    assert_named(scale("x", Border(0.7)), "0.70")
    assert scale("x", Border(0.7, sure=0.7)).count("0.70") == 1


def at_similarity(value: float, coefficients: list[float]) -> tuple[float, float]:
    """An embedding that is as far from (1, 0) as gives this similarity."""
    apart = coefficients[0] - math.atanh(2 * value - 1) / coefficients[1]
    angle = 2 * math.asin(apart / 2)
    return math.cos(angle), math.sin(angle)


def test_two_people_at_similarity_three_quarters_are_probably_different_for_facenet(
    engine: PictureEngine, tmp_path: Path
) -> None:
    """Two presidents, 0.743: 19 % of different people are above 0.5 by this calculator."""
    name, coefficients = FACENET
    engine.status = {
        **engine.status,
        "calculator_version": name,
        "similarity_coefficients": coefficients,
    }
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=(1.0, 0.0))])
    b = photograph(
        tmp_path, "b.jpg", engine, [a_face(embedding=at_similarity(0.743, coefficients))]
    )
    result = run(engine, a, b)
    assert "0.743  probably different" in result.stdout
    said = " ".join(result.stdout.split())
    assert_named(said, "0.81", "0.94", "LFW10 (4950 pairs)", "1.98 %", "0.07 %", "4.44 %")
    document = json.loads(run(engine, a, b, "--json").stdout)
    assert document["border"]["at"] == 0.81
    assert document["pairs"][0]["verdict"] == "probably different"


@pytest.mark.parametrize("calculator", ["custom.Calculator@stand-in", "facenet.Calculator"])
def test_without_a_border_of_these_coefficients_there_is_no_verdict(
    engine: PictureEngine, tmp_path: Path, calculator: str
) -> None:
    engine.status = {**engine.status, "calculator_version": calculator}
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    result = run(engine, a, a)
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert not {"probably", "perhaps"} & set(said.lower().split())
    document = json.loads(run(engine, a, a, "--json").stdout)
    assert document["border"] is None
    assert document["pairs"][0]["verdict"] is None
    matrix = run(engine, a, a, a).stdout.lower().split()
    assert not {"probably", "perhaps"} & set(matrix)


def test_a_build_may_state_the_border_of_its_own_model(
    engine: PictureEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    engine.status = {**engine.status, "calculator_version": "custom.Calculator@stand-in"}
    store = Instances(tmp_path / "state" / "compreface-cli" / "instances")
    stated = {"name": "stand-in", "border": {"at": 0.3, "sure": 0.9}}
    port = int(engine.url.rpartition(":")[2])
    deployment = Deployment("process", "mine", Endpoint("127.0.0.1", port))
    store.save(
        Record(
            name="mine",
            build="my-build",
            calculator="custom.Calculator@stand-in",
            services="core",
            phase="running",
            created="2026-01-01T00:00:00+00:00",
            deployment=deployment.as_dict(),
            plan={"models": [{"name": "other", "border": {"at": 0.1}}, stated]},
        )
    )
    a = photograph(tmp_path, "a.jpg", engine, [a_face(embedding=NORTH)])
    words = ["compare", str(a), str(a), "--instance", "mine", "--json"]
    document = json.loads(CliRunner().invoke(make_app(["compare"]), words).stdout)
    assert (document["border"]["at"], document["border"]["sure"]) == (0.3, 0.9)
    assert document["pairs"][0]["verdict"] == "probably the same"


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
        assert cosine(vector, vector) == 1


@given(st.floats(0, math.pi))
def test_a_cosine_is_that_of_the_angle_between_embeddings_of_any_length(angle: float) -> None:
    turned = [5 * math.cos(angle), 5 * math.sin(angle)]
    assert cosine([3.0, 0.0], turned) == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.parametrize("other", [[1.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_embeddings_that_cannot_be_compared_are_refused(other: list[float]) -> None:
    for compared in (cosine, distance):
        with pytest.raises(ValueError, match="embedding"):
            compared([3.0, 4.0], other)
