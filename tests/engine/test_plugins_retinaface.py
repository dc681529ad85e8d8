"""RetinaFace as the contract's section 13.2 has it, held against a slow copy and real outputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compreface_convert.prepare import prepare
from compreface_engine.core.types import Image
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins import retinaface
from compreface_engine.plugins.single_stage import SingleStageDetector
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import slow_detectors as slow
from tests.engine.sample_noses import find_noses
from tests.shared import needs_shared, shared

_BGR = InputSpec(0, colour="bgr", mean=(0.0,) * 3, scale=(1.0,) * 3)
_BOX_CHANNEL, _MARK_CHANNEL = 8, 20


def _maps(height: int, width: int, seed: int, spread: float = 0.3) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    maps: list[NDArray[Any]] = []
    for stride in (32, 16, 8):
        cells = -(-height // stride), -(-width // stride)
        maps.append(rng.random((1, 4, *cells)).astype(np.float32))
        for channels in (_BOX_CHANNEL, _MARK_CHANNEL):
            deltas = rng.standard_normal((1, channels, *cells)) * spread
            maps.append(deltas.astype(np.float32))
    return maps


def _quiet(height: int, width: int) -> list[NDArray[Any]]:
    return [np.zeros_like(array) for array in _maps(height, width, 0)]


def _detector(session: slow.Maker, limit: int = 640) -> SingleStageDetector:
    return SingleStageDetector(
        session, retinaface.FAMILY, version="x", inputs=_BGR, length_limit=limit
    )


def _noise(height: int, width: int) -> Image:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=60)
@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.3, 0.8, 0.97]),
    spread=st.sampled_from([0.05, 0.3, 1.0]),
)
def test_the_same_faces_as_box_by_box(
    height: int, width: int, seed: int, threshold: float, spread: float
) -> None:
    maps = _maps(height, width, seed, spread)
    expected = slow.greedy(slow.retinaface(maps, threshold), 0.4)
    assume(expected is not None)
    assert expected is not None
    session = slow.Maker(lambda h, w: maps, 9)
    (found,) = _detector(session).detect([_noise(height, width)], min_score=threshold)
    slow.assert_same(found, expected)


def test_the_network_sees_bgr_as_it_is_without_padding() -> None:
    session = slow.Maker(lambda h, w: _maps(h, w, 0), 9)
    image = _noise(35, 41)
    _detector(session).detect([image], min_score=0.99)
    (tensor,) = session.fed
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor[0].transpose(1, 2, 0), image[..., ::-1])


def test_boxes_and_points_go_back_to_the_original_twice_truncated() -> None:
    maps: list[NDArray[Any]] = []
    session = slow.Maker(lambda h, w: maps, 9)
    maps += _maps(60, 80, 5)
    expected = slow.greedy(slow.retinaface(maps, 0.9), 0.4)
    assert expected
    (found,) = _detector(session, limit=80).detect([_noise(150, 200)], min_score=0.9)
    assert session.fed[0].shape == (1, 3, 60, 80)
    slow.assert_same(found, expected, coefficient=80 / 200)
    marks = found[0].landmarks
    assert marks is not None
    assert marks.dtype == np.float32


def test_one_anchor_gives_the_box_that_the_contract_names() -> None:
    maps = _quiet(64, 64)
    maps[6][0, 3, 2, 5] = 0.875  # stride 8, the second anchor: 16 px, cell (5, 2)
    maps[0][0, 2, 0, 0] = 0.9375  # stride 32, the first anchor: 512 px, cell (0, 0)
    (found,) = _detector(slow.Maker(lambda h, w: maps, 9)).detect([_noise(64, 64)], min_score=0.8)
    assert [face.box.probability for face in found] == [0.9375, 0.875]
    large, small = (face.box for face in found)
    assert (large.x_min, large.y_min, large.x_max, large.y_max) == (-248, -248, 263, 263)
    assert (small.x_min, small.y_min, small.x_max, small.y_max) == (40, 16, 55, 31)
    assert found[1].landmarks is not None
    assert found[1].landmarks.tolist() == [[47.5, 23.5]] * 5


def test_background_scores_do_not_count_and_the_threshold_must_be_passed() -> None:
    maps = _quiet(32, 32)
    maps[6][0, 1, 0, 0] = 0.99
    maps[6][0, 2, 0, 0] = 0.875
    detector = _detector(slow.Maker(lambda h, w: maps, 9))
    for threshold, count in ((0.87, 1), (0.875, 0)):
        (found,) = detector.detect([_noise(32, 32)], min_score=threshold)
        assert len(found) == count
    assert detector.default_min_score == 0.8


def test_of_equal_scores_the_first_of_the_network_stays() -> None:
    maps = _quiet(32, 32)
    maps[6][0, 2:, :2, :2] = 0.9  # eight boxes on one place
    maps[7][0, 0, 0, 0] = 0.25
    (found,) = _detector(slow.Maker(lambda h, w: maps, 9)).detect([_noise(32, 32)], min_score=0.8)
    assert (found[0].box.x_min, found[0].box.y_min) == (0, -8)


@pytest.mark.parametrize("wild", [np.nan, np.inf, 200.0])
def test_numbers_that_are_no_place_in_a_picture_are_no_face(wild: float) -> None:
    maps = _quiet(32, 32)
    maps[6][0, 2, 0, 0] = maps[6][0, 2, 3, 3] = 0.9
    maps[7][0, 2, 0, 0] = wild
    maps[8][0, 0, 0, 0] = wild
    (found,) = _detector(slow.Maker(lambda h, w: maps, 9)).detect([_noise(32, 32)], min_score=0.8)
    assert len(found) == 1


def test_other_networks_are_refused_with_the_shape_they_gave() -> None:
    detector = _detector(slow.Maker(lambda h, w: _maps(h, w, 0)[:8], 8))
    with pytest.raises(ValueError, match="has 9 outputs, not 8"):
        detector.detect([_noise(32, 32)], min_score=0.8)
    maps = _maps(32, 32, 0)
    detector = _detector(slow.Maker(lambda h, w: maps[::-1], 9))
    with pytest.raises(ValueError, match=r"stride 32 has the shape \[1, 20, 4, 4\], not \[1, 4, 1"):
        detector.detect([_noise(32, 32)], min_score=0.8)


@needs_shared
@pytest.mark.parametrize(("name", "count"), [("012_4", 2), ("016_8", 4)])
def test_what_mxnet_gave_for_small_real_pictures_has_the_right_faces(name: str, count: int) -> None:
    recorded = np.load(shared("models", "retinaface_mnet025", "mxnet_reference.npz"))
    picture = recorded[f"input_{name}"]
    maps = [
        recorded[f"face_rpn_{kind}_stride{stride}_output__{name}"]
        for stride in (32, 16, 8)
        for kind in ("cls_prob_reshape", "bbox_pred", "landmark_pred")
    ]
    expected = slow.greedy(slow.retinaface(maps, 0.8), 0.4)
    assert expected is not None
    assert len(expected) == count
    image: Image = np.ascontiguousarray(picture.reshape(picture.shape[-3:]).transpose(1, 2, 0))
    (found,) = _detector(slow.Maker(lambda h, w: maps, 9)).detect([image], min_score=0.8)
    slow.assert_same(found, expected)


@needs_shared
@pytest.mark.parametrize(("colour", "noses"), [("rgb", 46), ("bgr", 40)])
def test_real_weights_find_every_nose_in_rgb_and_upstreams_share_in_bgr(
    mnet: Path, colour: Literal["rgb", "bgr"], noses: int
) -> None:
    detector = SingleStageDetector(
        OnnxSession(mnet, threads=1),
        retinaface.FAMILY,
        version="x",
        inputs=replace(_BGR, colour=colour),
        length_limit=640,
    )
    found = find_noses(detector)
    assert (found.noses, found.left_over) == (noses, 0)
    assert np.mean(found.distances) < 0.05


@pytest.fixture(scope="module")
def mnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted network; its colour order is no part of it."""
    folder = tmp_path_factory.mktemp("mnet")
    names = ("mnet.25-symbol.json", "mnet.25-0000.params")
    paths = [shared("models", "retinaface_mnet025", name) for name in names]
    entry = {
        "name": "mnet",
        "role": "detector",
        "format": "mxnet",
        "files": [{"path": name} for name in names],
        "input": {"size": None, "mean": 0, "scale": 1},
    }
    spec = folder / "spec.json"
    spec.write_text(json.dumps(entry))
    prepare(spec, paths, folder, None, lambda _: None)
    return folder / "mnet" / "model.onnx"
