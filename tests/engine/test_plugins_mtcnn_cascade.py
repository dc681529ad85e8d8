"""The cascade's rules, step by step, with networks that answer what a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from compreface_engine.core.types import Image
from compreface_engine.plugins import mtcnn_cascade
from compreface_engine.plugins.mtcnn_cascade import Mtcnn

Floats = NDArray[np.float32]


class Network:
    """A session that answers through a function and remembers what it was fed."""

    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("box", "landmark", "prob")

    def __init__(self, answer: Callable[[Floats], Mapping[str, Floats]]) -> None:
        self._answer = answer
        self.seen: list[Floats] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        self.seen.append(feeds["input"])
        answers = self._answer(feeds["input"])
        return [answers[name] for name in outputs or self.outputs]


def _pnet(
    cells: Mapping[tuple[int, int], float],
    offsets: Mapping[tuple[int, int], Sequence[float]] | None = None,
) -> Network:
    """Finds faces with these scores in these (row, column) cells of the largest scale only."""
    first = True

    def answer(pixels: Floats) -> Mapping[str, Floats]:
        nonlocal first
        height, width = pixels.shape[2:]
        rows, columns = (height - 2 + 1) // 2 - 4, (width - 2 + 1) // 2 - 4
        prob = np.zeros((1, 2, rows, columns), np.float32)
        box = np.zeros((1, 4, rows, columns), np.float32)
        if first:
            for (row, column), score in cells.items():
                prob[0, 1, row, column] = score
            for (row, column), values in (offsets or {}).items():
                box[0, :, row, column] = values
        first = False
        return {"box": box, "prob": prob}

    return Network(answer)


def _judge(score: float = 1.0, offsets: Sequence[float] = (0, 0, 0, 0)) -> Network:
    """An R-Net or O-Net that gives every patch the same answer."""

    def answer(patches: Floats) -> Mapping[str, Floats]:
        count = len(patches)
        return {
            "box": np.tile(np.array(offsets, np.float32), (count, 1)),
            "prob": np.tile(np.array([1 - score, score], np.float32), (count, 1)),
            "landmark": np.tile(np.arange(10, dtype=np.float32) / 10, (count, 1)),
        }

    return Network(answer)


def _grain(height: int = 100, width: int = 120) -> Image:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(19, 500), (500, 19), (1, 1), (3, 2000)])
def test_a_picture_with_a_side_under_20_pixels_has_no_face(height: int, width: int) -> None:
    pnet = _pnet({})
    assert len(Mtcnn(pnet, _judge(), _judge()).find(_grain(height, width)).scores) == 0
    assert not pnet.seen


def test_the_pyramid_shrinks_by_area_from_the_whole_picture_and_rounds_up() -> None:
    image = _grain(100, 120)
    pnet = _pnet({})
    Mtcnn(pnet, _judge(), _judge()).find(image)
    scales = [0.6 * 0.709**k for k in range(5)]
    assert [p.shape[2:] for p in pnet.seen] == [
        (int(np.ceil(100 * s)), int(np.ceil(120 * s))) for s in scales
    ]
    for pixels in pnet.seen:
        size = (pixels.shape[3], pixels.shape[2])
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64)
        expected = ((small - 127.5) * 0.0078125).transpose(2, 0, 1)
        assert np.abs(pixels[0] - expected).max() <= 1 / 128


def test_a_face_passes_the_cascade_with_the_contracts_arithmetic() -> None:
    onet = _judge(0.875)
    found = Mtcnn(_pnet({(4, 7): 0.99}), _judge(), onet).find(_grain())
    # Cell (4, 7) at scale 0.6 is 25, 15 to 43, 33; 18 px wide; R-Net counts both ends.
    assert found.boxes.tolist() == [[25, 15, 43, 33]]
    assert found.scores.tolist() == [0.875]
    assert found.points[0, 0].tolist() == pytest.approx([25 + 19 * 0.0 - 1, 15 + 19 * 0.5 - 1])
    assert found.points[0, 4].tolist() == pytest.approx([25 + 19 * 0.4 - 1, 15 + 19 * 0.9 - 1])


def test_a_lone_candidates_offsets_come_from_the_mirrored_cell() -> None:
    columns = (72 - 2 + 1) // 2 - 4
    offsets = {(4, columns - 1 - 7): (0.5, 0.5, 0.5, 0.5)}
    found = Mtcnn(_pnet({(4, 7): 0.99}, offsets), _judge(), _judge()).find(_grain())
    assert found.boxes.tolist() == [[34, 24, 52, 42]]


def test_two_candidates_have_their_own_offsets() -> None:
    offsets = {(4, 7): (0.5, 0.5, 0.5, 0.5)}
    cells = {(4, 7): 0.99, (20, 20): 0.98}
    found = Mtcnn(_pnet(cells, offsets), _judge(), _judge()).find(_grain())
    assert found.boxes[np.argsort(found.boxes[:, 0])].tolist() == [
        [34, 24, 52, 42],
        [68, 68, 86, 86],
    ]


@pytest.mark.parametrize(
    ("p", "r", "o", "faces"),
    [
        (0.94366, 0.706, 0.5507, 1),
        (0.9436, 0.706, 0.5507, 0),
        (0.94366, 0.7059, 0.5507, 0),
        (0.94366, 0.706, 0.5506, 0),
    ],
)
def test_each_stage_has_its_threshold(p: float, r: float, o: float, faces: int) -> None:
    found = Mtcnn(_pnet({(4, 7): p}), _judge(r), _judge(o)).find(_grain())
    assert len(found.scores) == faces


def test_of_too_many_candidates_the_best_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn_cascade, "_MOST_CANDIDATES", 2)
    cells = {(4, 7): 0.97, (20, 20): 0.98, (4, 25): 0.99}
    found = Mtcnn(_pnet(cells), _judge(), _judge()).find(_grain())
    assert sorted(found.boxes[:, 0].tolist()) == [68, 85]


def test_patches_count_pixels_from_one_and_are_shrunk_by_area() -> None:
    image = _grain()
    rnet, onet = _judge(), _judge()
    Mtcnn(_pnet({(4, 7): 0.99}), rnet, onet).find(image)
    part = image[14:33, 24:43].astype(np.float64)
    for network, size in ((rnet, 24), (onet, 48)):
        expected = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
        expected = ((expected - 127.5) * 0.0078125).transpose(2, 0, 1)
        assert np.allclose(network.seen[0][0], expected, atol=1e-6)


def test_a_patch_is_black_where_it_leaves_the_picture() -> None:
    image = np.full((100, 120, 3), 255, np.uint8)
    rnet = _judge(offsets=(-2, -2, -2, -2))
    onet = _judge()
    Mtcnn(_pnet({(0, 0): 0.99}), rnet, onet).find(image)
    patch = onet.seen[0][0]
    black, white = -127.5 / 128, 127.5 / 128
    assert np.allclose(patch, black)
    onet = _judge()
    Mtcnn(_pnet({(0, 0): 0.99}), _judge(offsets=(-0.5, -0.5, -0.5, -0.5)), onet).find(image)
    patch = onet.seen[0][0]
    assert np.allclose(patch[:, :5, :], black)
    assert np.allclose(patch[:, -5:, -5:], white)


def test_a_patch_with_one_empty_side_ends_the_search_as_in_the_original() -> None:
    # The second box becomes 77.2, 77.9 to 76.7, 77.4: no pixel wide and one high.
    offsets = {(4, 7): (0, 0, 0, 0), (20, 20): (9.2 / 18, 9.9 / 18, -9.3 / 18, -8.6 / 18)}
    cells = dict.fromkeys(offsets, 0.99)
    assert len(Mtcnn(_pnet(cells, offsets), _judge(), _judge()).find(_grain()).scores) == 0


def test_a_patch_turned_inside_out_is_left_out() -> None:
    offsets = {(4, 7): (0, 0, 0, 0), (20, 20): (2, 2, -2, -2)}
    found = Mtcnn(_pnet(dict.fromkeys(offsets, 0.99), offsets), _judge(), _judge()).find(_grain())
    assert len(found.scores) == 1
    only_bad = {(20, 20): (2, 2, -2, -2), (20, 30): (2, 2, -2, -2)}
    pnet = _pnet(dict.fromkeys(only_bad, 0.99), only_bad)
    assert len(Mtcnn(pnet, _judge(), _judge()).find(_grain()).scores) == 0


def test_crowds_are_judged_in_parts_and_joined_in_order() -> None:
    cells = {(row, column): 0.96 for row in range(0, 120, 8) for column in range(0, 150, 8)}
    rnet = _judge()
    found = Mtcnn(_pnet(cells), rnet, _judge()).find(_grain(420, 530))
    assert max(len(patches) for patches in rnet.seen) == 16
    assert sum(len(patches) for patches in rnet.seen) == len(cells)
    assert len(found.scores) == len(cells)


@pytest.mark.parametrize("idle", [1, 2, 3])
def test_idle_hands_get_as_many_runs_each_and_the_same_faces_are_found(idle: int) -> None:
    cells = {(row, column): 0.96 for row in range(0, 120, 8) for column in range(0, 150, 8)}
    alone = Mtcnn(_pnet(cells), _judge(), _judge()).find(_grain(420, 530))
    rnet, onet = _judge(), _judge()
    shared = Mtcnn(_pnet(cells), rnet, onet, idle_workers=lambda: idle).find(_grain(420, 530))
    for network in (rnet, onet):
        assert len(network.seen) % (1 + idle) == 0
        assert max(len(patches) for patches in network.seen) <= 16
    assert np.array_equal(shared.boxes, alone.boxes)
    assert np.array_equal(shared.points, alone.points)


def test_o_net_drops_a_box_inside_another_by_the_smaller_area() -> None:
    sizes = iter([(0.0, 0.0, 0.0, 0.0), (0.3, 0.3, -0.3, -0.3)])

    def answer(patches: Floats) -> Mapping[str, Floats]:
        count = len(patches)
        return {
            "box": np.array([next(sizes) for _ in range(count)], np.float32),
            "prob": np.array([[0.1, 0.9 - 0.1 * i] for i in range(count)], np.float32),
            "landmark": np.zeros((count, 10), np.float32),
        }

    cells = {(4, 7): 0.99, (5, 9): 0.98}
    found = Mtcnn(_pnet(cells), _judge(), Network(answer)).find(_grain())
    assert found.scores.tolist() == pytest.approx([0.9])
