"""`cf scan` prints what the engine says of each picture, and says which it could not ask about."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from compreface_cli.app import make_app
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import UnhealthyError, UsageError
from compreface_cli.photos import scan as scanning
from compreface_cli.photos.pictures import Picture, gather
from tests.cli.names import assert_named
from tests.cli.picture_engine import BROKEN, BUSY, NO_FACE, PictureEngine, a_face, picture_engine


@pytest.fixture
def engine() -> Iterator[PictureEngine]:
    with picture_engine() as started:
        yield started


def photograph(
    path: Path, colour: tuple[int, int, int], engine: PictureEngine, *answer: Any
) -> Path:
    """A picture on the disk, and what the engine says of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    Image.new("RGB", (120, 90), colour).save(packed, "PNG")
    path.write_bytes(packed.getvalue())
    engine.answers[packed.getvalue()] = list(answer)
    return path


def run(engine: PictureEngine, *arguments: object, **rest: Any) -> Result:
    words = ["scan", *map(str, arguments), "--url", engine.url]
    return CliRunner(env={"COLUMNS": "80"}).invoke(make_app(["scan"]), words, **rest)


def test_a_picture_is_a_row_for_each_face(engine: PictureEngine, tmp_path: Path) -> None:
    photo = photograph(tmp_path / "two.png", (1, 2, 3), engine, [a_face(10), a_face(60)])
    result = run(engine, photo)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.startswith("two.png") and "10, 12 - 40, 52" in line for line in lines)
    assert any(line.startswith(" ") and "60, 12 - 90, 52" in line for line in lines)
    assert "1 picture, 2 faces" in lines
    assert all(len(line) <= 80 for line in lines)


def test_every_plugin_but_the_detector_is_asked(engine: PictureEngine, tmp_path: Path) -> None:
    run(engine, photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()]))
    assert engine.asked == [("calculator", "landmarks", "pose")]


AGE = {"low": 23, "high": 35, "probability": 0.81}
GENDER = {"value": "female", "probability": 0.987}


def a_large_face(**more: Any) -> dict[str, Any]:
    """Every number as wide as it gets."""
    box = {"probability": 0.9994, "x_min": 1449, "y_min": 1506, "x_max": 2648, "y_max": 3094}
    return {**a_face(**more), "box": box, "pose": {"pitch": -12.0, "roll": -170.0, "yaw": -35.0}}


@pytest.mark.parametrize(
    ("given", "heading", "row"),
    [
        ({"age": AGE, "gender": GENDER}, "age gender", "23-35 female 0.99"),
        ({"age": AGE}, "age", "23-35"),
        ({"gender": GENDER}, "gender", "female 0.99"),
        ({"age": {"low": 41, "high": 41, "probability": 1.0}}, "age", "41"),
        ({}, "", ""),
    ],
)
def test_age_and_gender_are_columns_where_the_engine_gives_them(
    engine: PictureEngine, tmp_path: Path, given: dict[str, Any], heading: str, row: str
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face(**given)])
    head, _, first, *_ = run(engine, photo).stdout.splitlines()
    assert (
        " ".join(head.split())
        == f"picture face box x, y - x, y sure pitch yaw roll {heading}".strip()
    )
    assert " ".join(first.split()) == f"a.png 1 10, 12 - 40, 52 0.9900 1 -12 0 {row}".strip()


def test_a_face_without_what_others_have_leaves_its_cell_empty(
    engine: PictureEngine, tmp_path: Path
) -> None:
    with_it, without, refused = a_face(age=AGE, gender=GENDER), a_face(60), a_face(80, age=None)
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [with_it, without, refused])
    rows = run(engine, photo).stdout.splitlines()[2:5]
    assert [row.endswith("female 0.99") for row in rows] == [True, False, False]
    assert [row.split()[-3:] for row in rows[1:]] == [["1", "-12", "0"]] * 2


def test_a_face_with_every_value_fits_in_one_line_of_eighty_columns(
    engine: PictureEngine, tmp_path: Path
) -> None:
    faces = [a_large_face(age=AGE, gender=GENDER) for _ in range(3)]
    photo = photograph(tmp_path / "photo1.png", (1, 2, 3), engine, faces)
    lines = run(engine, photo).stdout.splitlines()
    assert lines[2] == (
        "photo1.png    1 1449, 1506 - 2648, 3094 0.9994   -12  -35 -170 23-35 female 0.99"
    )
    assert len(lines) == 2 + 3 + 1
    assert max(map(len, lines)) == 80


def test_nothing_is_cut_from_a_row_that_is_too_long_for_one_line(
    engine: PictureEngine, tmp_path: Path
) -> None:
    mask = {"value": "mask_weared_incorrect", "probability": 0.7}
    face = a_large_face(age=AGE, gender=GENDER, mask=mask)
    photo = photograph(tmp_path / "a-rather-long-name.png", (1, 2, 3), engine, [face])
    engine.cut_short = {photo.read_bytes()}
    text = run(engine, photo).stdout
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for (
        word
    ) in "1449, 1506 2648, 3094 0.9994 -12 -35 -170 23-35 female 0.99 mask worn wrongly".split():
        assert word in text


@pytest.mark.parametrize(
    ("width", "lines_of_a_face", "pose"),
    [(140, 1, True), (91, 1, True), (90, 2, True), (80, 2, True), (79, 2, False), (64, 2, False)],
)
def test_on_a_narrow_terminal_the_box_takes_two_lines_and_then_the_pose_is_left_out(
    engine: PictureEngine, tmp_path: Path, width: int, lines_of_a_face: int, pose: bool
) -> None:
    face = a_large_face(age=AGE, gender=GENDER, mask={"value": "without_mask"})
    photo = photograph(tmp_path / "a-rather-long-name.png", (1, 2, 3), engine, [face])
    words = ["scan", str(photo), "--url", engine.url]
    text = CliRunner(env={"COLUMNS": str(width)}).invoke(make_app(["scan"]), words).stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert ("2648, 3094" in lines[2]) == (lines_of_a_face == 1)
    for word in ("1506", "3094", "0.9994", "23-35", "female 0.99", "no mask"):
        assert word in text
    assert ("-12  -35 -170" in text) == pose
    assert any("--json" in line for line in lines) != pose


def test_json_has_age_and_gender_as_the_engine_gives_them(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face(age=AGE, gender=GENDER)])
    (picture,) = json.loads(run(engine, photo, "--json").stdout)["pictures"]
    (face,) = picture["faces"]
    assert (face["age"], face["gender"]) == (AGE, GENDER)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("pose", ("pose",)),
        (" landmarks, calculator,landmarks", ("landmarks", "calculator")),
        ("detector,pose", ("pose",)),  # it always runs
        ("none", ("",)),
    ],
)
def test_only_the_plugins_that_are_named_are_asked(
    engine: PictureEngine, tmp_path: Path, words: str, asked: tuple[str, ...]
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    assert run(engine, photo, "--plugins", words).exit_code == 0
    assert engine.asked == [asked]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("age,pose,beard", "age, beard"),
        ("none,pose", "'none'"),
        ("", "''"),
        ("pose,", "'pose,'"),
        ("detector", "detector"),
    ],
)
def test_unknown_plugins_are_refused_by_name_before_the_engine_is_asked(
    engine: PictureEngine, tmp_path: Path, words: str, named: str
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    result = run(engine, photo, "--plugins", words)
    assert isinstance(result.exception, UsageError)
    assert_named(result.exception.message, "--plugins", named)
    assert_named(result.exception.hint, "calculator, landmarks, pose")
    assert engine.asked == []


def test_json_is_one_document_with_the_engines_own_faces(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    document = json.loads(run(engine, photo, "--json").stdout)
    assert document["schema_version"] == 1
    assert document["failed"] == 0
    assert document["calculator"] == "custom.Calculator@stand-in"
    nothing = dict.fromkeys(("error", "note", "drawn", "drawing_error"))
    assert document["pictures"] == [{"picture": str(photo), "faces": [a_face()], **nothing}]


def test_a_picture_without_a_face_is_an_answer(engine: PictureEngine, tmp_path: Path) -> None:
    result = run(engine, photograph(tmp_path / "a.png", (1, 2, 3), engine, NO_FACE))
    assert result.exit_code == 0
    assert_named(result.stdout, "a.png", "1 picture, 0 faces")


@pytest.mark.parametrize("answer", [NO_FACE, [a_face()]])
def test_a_truncated_picture_gets_a_note_and_is_no_failure(
    engine: PictureEngine, tmp_path: Path, answer: Any
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, answer)
    photograph(tmp_path / "b.png", (4, 5, 6), engine, [a_face()])
    engine.cut_short = {photo.read_bytes()}
    result = run(engine, tmp_path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert f"a.png {scanning.CUT_SHORT}" in lines
    assert f"b.png {scanning.CUT_SHORT}" not in result.stdout
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    document = json.loads(run(engine, tmp_path, "--json").stdout)
    assert [picture["note"] for picture in document["pictures"]] == [scanning.CUT_SHORT, None]
    assert document["failed"] == 0


def test_one_failed_picture_does_not_stop_the_others_but_shows_in_the_exit_code(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photograph(tmp_path / "a.png", (1, 2, 3), engine, BROKEN)
    photograph(tmp_path / "b.png", (4, 5, 6), engine, [a_face()])
    result = run(engine, tmp_path)
    assert result.exit_code == 1
    assert_named(result.stdout, "a.png", "Image has incorrect format or is broken")
    assert "2 pictures, 1 face, 1 failed" in result.stdout


def test_a_folder_is_walked_in_order_and_other_files_are_named(
    engine: PictureEngine, tmp_path: Path
) -> None:
    for name in ("b/z.png", "a.JPG", "b/a.png"):
        photograph(tmp_path / name, (len(name), 0, 0), engine, NO_FACE)
    for name in ("notes.txt", ".hidden.png", ".cache/x.png"):
        photograph(tmp_path / name, (0, len(name), 0), engine, NO_FACE)
    gathered = gather([str(tmp_path)])
    assert [Path(one.name).relative_to(tmp_path).as_posix() for one in gathered.pictures] == [
        "a.JPG",
        "b/a.png",
        "b/z.png",
    ]
    result = run(engine, tmp_path)
    for name in ("notes.txt", ".hidden.png", ".cache/"):
        assert_named(result.stderr, f"{tmp_path}/{name}: ")
    assert "notes.txt" not in result.stdout


def test_a_named_file_is_sent_whatever_its_ending(engine: PictureEngine, tmp_path: Path) -> None:
    photo = photograph(tmp_path / "picture.txt", (1, 2, 3), engine, [a_face()])
    assert run(engine, photo).exit_code == 0


def test_a_picture_comes_through_standard_input(engine: PictureEngine, tmp_path: Path) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    result = run(engine, "-", input=photo.read_bytes())
    assert result.exit_code == 0
    assert_named(result.stdout, "10, 12 - 40, 52")


def test_a_full_queue_is_waited_for(engine: PictureEngine, tmp_path: Path) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, BUSY, BUSY, [a_face()])
    pauses: list[float] = []
    with EngineClient(engine.url) as client:
        pictures = gather([str(photo)]).pictures
        (seen,) = scanning.scan(client, pictures, ["pose"], sleep=pauses.append)
    assert seen.error is None
    assert pauses == [0.5, 1.0]


def test_a_queue_that_stays_full_fails_that_picture(engine: PictureEngine, tmp_path: Path) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, BUSY)
    with EngineClient(engine.url) as client:
        pictures = gather([str(photo)]).pictures
        (seen,) = scanning.scan(client, pictures, [], sleep=lambda seconds: None)
    assert_named(seen.error, BUSY[1]["message"].partition(": ")[2])


def test_an_engine_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    with picture_engine() as gone:
        photo = photograph(tmp_path / "a.png", (1, 2, 3), gone, NO_FACE)
    result = run(gone, photo)
    assert isinstance(result.exception, UnhealthyError)
    assert gone.url in result.exception.message


def test_a_service_that_is_not_an_engine_is_refused_with_its_address(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, NO_FACE)
    engine.status = {"status": "UP"}
    result = run(engine, photo)
    assert isinstance(result.exception, UnhealthyError)
    assert engine.url in result.exception.message


def test_a_file_that_cannot_be_read_is_a_failed_picture(
    engine: PictureEngine, tmp_path: Path
) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")  # to itself
    with EngineClient(engine.url) as client:
        looping = Picture("a.png", tmp_path / "a.png")
        (seen,) = scanning.scan(client, [looping], [])
    assert_named(seen.error, "Too many levels of symbolic links")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["nothing-here.jpg"], "nothing-here.jpg"), (["-", "-"], "input"), (["empty"], "empty")],
)
def test_arguments_without_a_picture_are_usage_errors(
    arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=named):
        gather(arguments)


def test_an_address_with_an_instance_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--url"):
        scanning.client_of("mine", "http://127.0.0.1:3000")


def test_draw_saves_one_picture_under_the_name_given(engine: PictureEngine, tmp_path: Path) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    result = run(engine, photo, "--draw", tmp_path / "out.png")
    assert result.exit_code == 0
    assert f"drawn: {tmp_path}/out.png" in result.stdout
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (120, 90)
        assert len(drawn.getcolors(10_000) or []) > 3


def test_draw_puts_several_pictures_into_a_folder_under_names_of_their_own(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photograph(tmp_path / "in/one/a.png", (1, 2, 3), engine, [a_face()])
    photograph(tmp_path / "in/two/a.png", (4, 5, 6), engine, [a_face()])
    document = json.loads(run(engine, tmp_path / "in", "--draw", tmp_path / "o", "--json").stdout)
    drawn = [Path(one["drawn"]).name for one in document["pictures"]]
    assert drawn == ["a.png", "a-2.png"]
    assert all((tmp_path / "o" / name).is_file() for name in drawn)


def test_a_picture_named_twice_is_drawn_under_two_names(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    result = run(engine, photo, photo, tmp_path / ".." / tmp_path.name, "--draw", tmp_path / "o")
    assert result.exit_code == 0
    assert sorted(one.name for one in (tmp_path / "o").iterdir()) == ["a-2.png", "a-3.png", "a.png"]
    assert f"drawn: 3 pictures in {tmp_path}/o" in result.stdout


@pytest.mark.parametrize("out", ["a.png", "folder", "out.gif", "no-folder/out.png"])
def test_draw_refuses_what_does_not_fit_before_anything_is_asked(
    engine: PictureEngine, tmp_path: Path, out: str
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    before = photo.read_bytes()
    (tmp_path / "folder").mkdir()
    result = run(engine, photo, "--draw", tmp_path / out)
    assert isinstance(result.exception, UsageError)
    assert engine.asked == []
    assert photo.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "folder"]


@pytest.mark.parametrize("out", ["out.jpg", "OUT.PNG", "no-folder/out", "a.png"])
def test_draw_refuses_a_target_that_cannot_hold_several_pictures(
    engine: PictureEngine, tmp_path: Path, out: str
) -> None:
    photos = [
        photograph(tmp_path / name, (len(name), 2, 3), engine, [a_face()])
        for name in ("a.png", "bb.png")
    ]
    result = run(engine, *photos, "--draw", tmp_path / out)
    assert isinstance(result.exception, UsageError)
    assert result.exception.code == 2
    assert engine.asked == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "bb.png"]


def test_a_folder_that_is_named_like_a_picture_may_be_drawn_into(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photograph(tmp_path / "in" / "a.png", (1, 2, 3), engine, [a_face()])
    (tmp_path / "out.jpg").mkdir()
    assert run(engine, tmp_path / "in", "--draw", tmp_path / "out.jpg").exit_code == 0
    assert (tmp_path / "out.jpg" / "a.png").is_file()


def test_draw_into_its_own_folder_never_replaces_a_photograph(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    photograph(tmp_path / "b.png", (4, 5, 6), engine, [a_face()])
    before = photo.read_bytes()
    assert run(engine, tmp_path, "--draw", tmp_path).exit_code == 0
    assert photo.read_bytes() == before
    assert (tmp_path / "a-2.png").is_file()


def test_a_failed_drawing_is_reported_and_fails_the_command(
    engine: PictureEngine, tmp_path: Path
) -> None:
    engine.answers[b"not a picture"] = [[a_face()]]
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    result = run(engine, tmp_path / "a.jpg", "--draw", tmp_path / "out.jpg")
    assert result.exit_code == 1
    assert_named(result.stdout, "a.jpg: ")
    assert not (tmp_path / "out.jpg").exists()


def test_a_drawing_that_cannot_be_saved_does_not_fail_the_scan(
    engine: PictureEngine, tmp_path: Path
) -> None:
    photo = photograph(tmp_path / "a.png", (1, 2, 3), engine, [a_face()])
    (tmp_path / "o" / "a.png").mkdir(parents=True)  # in the drawing's way
    photograph(tmp_path / "b.png", (4, 5, 6), engine, [a_face()])
    arguments = (photo, tmp_path / "b.png", "--draw", tmp_path / "o")
    result = run(engine, *arguments)
    assert result.exit_code == 1
    rows = [line for line in result.stdout.splitlines() if line.startswith("a.png")]
    assert "10, 12 - 40, 52" in rows[0]
    target = tmp_path / "o" / "a.png"
    assert rows[1:] == [f"a.png: the drawing could not be saved as {target}: Is a directory"]
    assert "2 pictures, 2 faces" in result.stdout.splitlines()
    again = run(engine, *arguments, "--json")
    assert again.exit_code == 1
    document = json.loads(again.stdout)
    assert document["failed"] == 0
    first, second = document["pictures"]
    assert (len(first["faces"]), first["error"], first["drawn"]) == (1, None, None)
    assert_named(first["drawing_error"], target)
    assert (second["drawing_error"], second["drawn"]) == (None, str(tmp_path / "o" / "b.png"))


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["/x/y/a.jpg"], ["a.jpg"]),
        (["/x/y/a.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
        (["/x/y/a.jpg", "/x/z/a.jpg"], ["y/a.jpg", "z/a.jpg"]),
        (["a.jpg", "a.jpg"], ["a.jpg", "a.jpg"]),
        (["/1/x/x/x/a", "/2/x/x/x/a"], ["/1/x/x/x/a", "/2/x/x/x/a"]),
    ],
)
def test_names_are_shortened_as_long_as_they_are_unique(names: list[str], short: list[str]) -> None:
    assert scanning.short_names(names) == short
