"""A drawing is the photograph as it is stored, with every face marked inside it."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor, ImageDraw

from compreface_cli.errors import CfError
from compreface_cli.photos.drawing import COLOURS, Corners, Label, draw, labels
from tests.cli.picture_engine import a_face


def packed(mode: str = "RGB", form: str = "PNG", size: tuple[int, int] = (200, 150)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form)
    return buffer.getvalue()


def test_box_and_landmarks_are_drawn_at_the_engines_coordinates(tmp_path: Path) -> None:
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


def test_bytes_that_are_no_picture_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CfError, match="image file"):  # as Pillow says it
        draw(b"text", [], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_a_target_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CfError, match=str(tmp_path / "file" / "out.png")):
        draw(packed(), [], tmp_path / "file" / "out.png")


def test_only_the_last_folder_is_made(tmp_path: Path) -> None:
    draw(packed(), [], tmp_path / "one" / "out.png")
    assert (tmp_path / "one" / "out.png").is_file()
    with pytest.raises(CfError, match=str(tmp_path / "two" / "three" / "out.png")):
        draw(packed(), [], tmp_path / "two" / "three" / "out.png")
    assert not (tmp_path / "two").exists()


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    tall = Image.new("1", (20_000, 20_000))
    buffer = io.BytesIO()
    tall.save(buffer, "PNG")
    with pytest.raises(CfError):
        draw(buffer.getvalue(), [], tmp_path / "out.png")


AGE = {"low": 25, "high": 32, "probability": 0.8}
GENDER = {"value": "female", "probability": 0.987}


def full_face(box: tuple[int, int, int, int]) -> dict[str, Any]:
    """A face with every value that a label shows."""
    at = dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))
    return {**a_face(age=AGE, gender=GENDER), "box": {**at, "probability": 0.99}}


def overlap(a: Corners, b: Corners) -> float:
    """The area of the intersection of two rectangles, px²."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def inside(label: Label, size: tuple[int, int]) -> bool:
    left, top, right, bottom = label.background
    return left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]


def test_a_label_shows_probability_gender_age_and_pose() -> None:
    (label,) = labels([full_face((100, 100, 160, 180))], (600, 400))
    assert label.text.splitlines() == ["1   0.990", "female 0.99", "age 25-32", "p1 y-12 r0"]


def test_a_label_leaves_out_values_that_the_answer_lacks() -> None:
    face = {"box": full_face((100, 100, 160, 180))["box"], "age": AGE, "pose": None}
    (label,) = labels([face], (600, 400))
    assert label.text.splitlines() == ["1   0.990", "age 25-32"]


def test_the_text_of_a_label_is_drawn_on_the_picture(tmp_path: Path) -> None:
    face = {**full_face((100, 100, 160, 180)), "landmarks": []}
    (label,) = labels([face], (600, 400))
    draw(packed(size=(600, 400)), [face], tmp_path / "with.png")
    draw(packed(size=(600, 400)), [{**face, "age": None}], tmp_path / "without.png")
    with Image.open(tmp_path / "with.png") as one, Image.open(tmp_path / "without.png") as other:
        x0, y0, x1, y1 = (round(edge) for edge in label.background)
        ground = one.crop((x0, y0, x1 + 1, y1 + 1))
        assert ground.getpixel((0, 0)) == ImageColor.getrgb(COLOURS[0])
        bright = sum(ground.convert("L").histogram()[200:])
        assert bright > 100
        assert one.tobytes() != other.tobytes()
        kept = ImageDraw.Draw(one)
        kept.rectangle(label.background, fill="black")
        kept.rectangle((100, 100, 160, 180), fill="black")
        assert one.crop((0, 0, 600, 99)).getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize(
    "corner", [(0, 0), (540, 0), (0, 340), (540, 340), (270, 0), (270, 340), (0, 170), (540, 170)]
)
def test_the_label_of_a_face_at_the_border_stays_inside_and_beside_it(
    corner: tuple[int, int],
) -> None:
    x, y = corner
    face = full_face((x, y, x + 60, y + 60))
    (label,) = labels([face], (600, 400))
    assert inside(label, (600, 400))
    assert overlap(label.background, (x, y, x + 60, y + 60)) == 0
    assert "female 0.99" in label.text


@pytest.mark.parametrize("y", [200, 10])
def test_a_label_between_two_faces_is_centred_above_or_below(y: int) -> None:
    beside = [full_face((230, 0, 272, 400)), full_face((356, 0, 400, 400))]
    _, _, label = labels([*beside, full_face((300, y, 330, y + 40))], (600, 400))
    left, top, right, bottom = label.background
    assert label.text.endswith("p1 y-12 r0")
    assert left + right == 630
    assert bottom == y if y > 100 else top == y + 40


def test_labels_in_a_crowd_cover_no_face_and_no_other_label() -> None:
    size = (800, 600)
    faces = [
        full_face((x, y, x + 24, y + 30)) for y in range(20, 560, 60) for x in range(20, 760, 50)
    ]
    found = labels(faces, size)
    boxes = [
        tuple(face["box"][side] for side in ("x_min", "y_min", "x_max", "y_max")) for face in faces
    ]
    grounds = [label.background for label in found]
    assert [label.text.split()[0] for label in found] == [str(n + 1) for n in range(len(faces))]
    assert all(inside(label, size) for label in found)
    assert sum(overlap(a, b) for a, b in combinations(grounds, 2)) == 0
    assert sum(overlap(ground, box) for ground in grounds for box in boxes) == 0


def test_a_row_of_small_faces_keeps_age_and_gender() -> None:
    faces = [full_face((x, 200, x + 35, 245)) for x in range(60, 760, 90)]
    for label in labels(faces, (800, 533)):
        assert "female 0.99\nage 25-32" in label.text


def test_a_label_never_hides_the_one_face_that_fills_the_picture() -> None:
    (label,) = labels([full_face((4, 2, 108, 110))], (112, 112))
    assert label.text == "1"
    assert inside(label, (112, 112))
    (label,) = labels([full_face((10, 10, 790, 590))], (800, 600))
    assert "female 0.99" in label.text
