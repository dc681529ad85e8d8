"""A drawing is the photograph as it is stored, with every face marked inside it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from compreface_cli.drawing import COLOURS, attributes, draw
from compreface_cli.errors import CfError
from tests.cli.picture_engine import a_face


def packed(mode: str = "RGB", form: str = "PNG", size: tuple[int, int] = (200, 150)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


def test_box_and_landmarks_stand_where_the_engine_says(tmp_path: Path) -> None:
    draw(packed(), [a_face(100)], tmp_path / "out.png")
    first = ImageColor.getrgb(COLOURS[0])
    with Image.open(tmp_path / "out.png") as drawn:
        for point in ((100, 12), (130, 52), (100, 30), (115, 30)):
            assert drawn.getpixel(point) == first
        assert drawn.getpixel((60, 30)) == (0, 0, 0)


def test_faces_have_colours_of_their_own(tmp_path: Path) -> None:
    draw(packed(), [a_face(10), a_face(60), a_face(110)], tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        found = [drawn.getpixel((x, 45)) for x in (10, 60, 110)]
    assert found == [ImageColor.getrgb(colour) for colour in COLOURS[:3]]


def test_nothing_is_drawn_without_faces(tmp_path: Path) -> None:
    draw(packed(), [], tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.getcolors() == [(200 * 150, (0, 0, 0))]


@pytest.mark.parametrize("name", ["out.jpg", "out.png"])
def test_a_photograph_stored_on_its_side_is_drawn_as_it_is_stored(
    tmp_path: Path, name: str
) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to look at
    Image.new("RGB", (200, 100)).save(buffer, "JPEG", exif=exif)
    draw(buffer.getvalue(), [a_face()], tmp_path / name)
    with Image.open(tmp_path / name) as drawn:
        assert drawn.size == (200, 100)
        assert 0x0112 not in drawn.getexif()


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("1", "PNG"), ("I;16", "PNG")],
)
def test_any_kind_of_picture_is_drawn_in_colour(tmp_path: Path, mode: str, form: str) -> None:
    draw(packed(mode, form), [a_face()], tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as drawn:
        assert drawn.mode == "RGB"


def test_a_cut_file_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((200, 150), 80).save(buffer, "JPEG")
    draw(buffer.getvalue()[:-2000], [a_face()], tmp_path / "out.png")
    assert (tmp_path / "out.png").is_file()


def test_a_face_beyond_the_border_is_drawn_as_far_as_it_shows(tmp_path: Path) -> None:
    face = a_face()
    face["box"] = {"probability": 0.9, "x_min": -20, "y_min": -30, "x_max": 500, "y_max": 400}
    face["landmarks"] = [[-5, -5], [300, 300], [], [10, 10], [20, 20]]
    draw(packed(), [face], tmp_path / "out.png")
    assert (tmp_path / "out.png").is_file()


@pytest.mark.parametrize("size", [(1, 1), (12, 400), (400, 12)])
def test_a_picture_smaller_than_its_label_is_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    draw(packed(size=size), [a_face(0)], tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == size


def test_what_is_no_picture_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CfError, match="cannot be drawn on"):
        draw(b"text", [], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CfError, match="could not be saved"):
        draw(packed(), [], tmp_path / "file" / "out.png")


def test_only_the_last_folder_is_made(tmp_path: Path) -> None:
    draw(packed(), [], tmp_path / "one" / "out.png")
    assert (tmp_path / "one" / "out.png").is_file()
    with pytest.raises(CfError, match="No such file"):
        draw(packed(), [], tmp_path / "two" / "three" / "out.png")
    assert not (tmp_path / "two").exists()


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    tall = Image.new("1", (20_000, 20_000))
    buffer = io.BytesIO()
    tall.save(buffer, "PNG")
    with pytest.raises(CfError, match=r"drawn on|too many"):
        draw(buffer.getvalue(), [], tmp_path / "out.png")


def test_attributes_are_words() -> None:
    face = a_face(
        gender={"value": "female", "probability": 1.0},
        age={"low": 25, "high": 32, "probability": 0.8},
        mask={"value": "mask_weared_incorrect", "probability": 0.7},
    )
    assert attributes(face) == [
        "female",
        "age 25-32",
        "mask worn wrongly",
        "pitch 1, yaw -12, roll 0",
    ]
    assert attributes({"age": {"low": 30, "high": 30}}) == ["age 30"]
