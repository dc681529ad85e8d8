"""SCRFD and YuNet, held against slow copies on random outputs and against real pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compreface_engine.core.types import Image
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins import scrfd, yunet
from compreface_engine.plugins.single_stage import Family, SingleStageDetector
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import slow_detectors as slow
from tests.engine.sample_noses import find_noses
from tests.shared import needs_shared, shared

_SCRFD = InputSpec(0, mean=(127.5,) * 3, scale=(128.0,) * 3)
_YUNET = InputSpec(0, colour="bgr", mean=(0.0,) * 3, scale=(1.0,) * 3)
_STRIDES = (8, 16, 32)


def _scrfd_maps(
    height: int, width: int, seed: int, *, batch_axis: bool = False
) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    rows = [2 * (height // s) * (width // s) for s in _STRIDES]
    maps = [rng.random((count, 1)) for count in rows]
    maps += [rng.random((count, 4)) * 3 for count in rows]
    maps += [rng.standard_normal((count, 10)) for count in rows]
    return [(m[None] if batch_axis else m).astype(np.float32) for m in maps]


def _yunet_maps(height: int, width: int, seed: int) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    rows = [(height // s) * (width // s) for s in _STRIDES]
    maps = [rng.uniform(-0.2, 1.2, (1, count, 1)) for count in rows * 2]
    for values in (4, 10):
        maps += [rng.standard_normal((1, count, values)) * 0.7 for count in rows]
    return [m.astype(np.float32) for m in maps]


def _detector(
    session: slow.Maker, family: Family, inputs: InputSpec, limit: int = 640
) -> SingleStageDetector:
    return SingleStageDetector(session, family, version="x", inputs=inputs, length_limit=limit)


def _noise(height: int, width: int) -> Image:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def _filled(side: int) -> int:
    return -(-side // 32) * 32


@settings(max_examples=40)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.5, 0.9]),
    batch_axis=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_scrfd_finds_the_same_faces_as_row_by_row(
    height: int, width: int, seed: int, threshold: float, batch_axis: bool, order: Any
) -> None:
    size = _filled(height), _filled(width)
    maps = _scrfd_maps(*size, seed, batch_axis=batch_axis)
    expected = slow.greedy(slow.scrfd(maps, size, threshold), 0.4)
    assume(expected is not None)
    shuffled = list(maps)
    order.shuffle(shuffled)
    detector = _detector(slow.Maker(lambda h, w: shuffled, 9), scrfd.FAMILY, _SCRFD)
    (found,) = detector.detect([_noise(height, width)], min_score=threshold)
    slow.assert_same(found, _inside(expected, height, width), border=(height, width))


@settings(max_examples=40)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.8]),
)
def test_yunet_finds_the_same_faces_as_row_by_row(
    height: int, width: int, seed: int, threshold: float
) -> None:
    size = _filled(height), _filled(width)
    maps = _yunet_maps(*size, seed)
    expected = slow.greedy(slow.yunet(maps, size, threshold), 0.3)
    assume(expected is not None)
    detector = _detector(slow.Maker(lambda h, w: maps, 12), yunet.FAMILY, _YUNET)
    (found,) = detector.detect([_noise(height, width)], min_score=threshold)
    slow.assert_same(found, _inside(expected, height, width), border=(height, width))


def test_a_threshold_of_zero_compares_the_best_candidates_only() -> None:
    maps = _scrfd_maps(640, 640, seed=0)
    maps[3:6] = [np.full_like(distances, 0.4) for distances in maps[3:6]]  # cells lie apart
    detector = _detector(slow.Maker(lambda h, w: maps, 9), scrfd.FAMILY, _SCRFD)
    (found,) = detector.detect([_noise(640, 640)], min_score=0)
    scores = np.sort(np.concatenate(maps[:3]).ravel())
    assert 1000 < len(found) <= 5000
    assert min(face.box.probability for face in found) >= scores[-5000]


def _inside(faces: list[slow.SlowFace] | None, height: int, width: int) -> list[slow.SlowFace]:
    """Those whose box has whole pixels in the picture."""
    assert faces is not None
    kept = []
    for face in faces:
        x1, y1, x2, y2 = (int(value) for value in face.box)
        for value in face.box:
            assume(abs(value - round(value)) > 1e-3 or abs(value) > 100)
        if min(x2, width) > max(x1, 0) and min(y2, height) > max(y1, 0):
            kept.append(face)
    return kept


def test_pictures_are_filled_up_with_black_at_the_right_and_at_the_bottom() -> None:
    image = _noise(35, 60)
    for make, family, inputs, count in (
        (_scrfd_maps, scrfd.FAMILY, _SCRFD, 9),
        (_yunet_maps, yunet.FAMILY, _YUNET, 12),
    ):
        session = slow.Maker(lambda h, w, make=make: make(h, w, 0), count)
        _detector(session, family, inputs).detect([image], min_score=0.999)
        (tensor,) = session.fed
        canvas = np.zeros((64, 64, 3))
        canvas[:35, :60] = image if inputs.colour == "rgb" else image[..., ::-1]
        assert inputs.mean is not None
        assert inputs.scale is not None
        assert np.allclose(tensor[0].transpose(1, 2, 0), (canvas - inputs.mean) / inputs.scale)


@pytest.mark.parametrize(
    ("limit", "shape"), [(0, (96, 192)), (500, (96, 192)), (160, (80, 160)), (80, (40, 80))]
)
def test_a_network_of_one_size_gets_its_size(limit: int, shape: tuple[int, int]) -> None:
    session = slow.Maker(lambda h, w: _scrfd_maps(h, w, 0), 9)
    inputs = InputSpec(192, mean=(0.0,) * 3, scale=(1.0,) * 3)
    image: Image = np.full((100, 200, 3), 255, np.uint8)
    (found,) = _detector(session, scrfd.FAMILY, inputs, limit).detect([image], min_score=0.5)
    (tensor,) = session.fed
    assert tensor.shape == (1, 3, 192, 192)
    height, width = shape
    assert tensor[0, :, :height, :width].all()
    assert not tensor[0, :, height:].any()
    assert not tensor[0, :, :, width:].any()
    assert all(face.box.x_max <= 200 and face.box.y_max <= 100 for face in found)


def test_yunets_score_is_the_root_of_both_and_nothing_beyond_one() -> None:
    maps = [np.zeros_like(m) for m in _yunet_maps(32, 32, 0)]
    maps[0][0, 0], maps[3][0, 0] = 0.81, 1.5
    maps[0][0, 15], maps[3][0, 15] = -0.9, -0.9
    detector = _detector(slow.Maker(lambda h, w: maps, 12), yunet.FAMILY, _YUNET)
    (found,) = detector.detect([_noise(32, 32)], min_score=0.8)
    assert [face.box.probability for face in found] == pytest.approx([0.9])


@pytest.mark.parametrize("family", [scrfd.FAMILY, yunet.FAMILY])
def test_outputs_of_another_family_are_refused(family: Family) -> None:
    make = _yunet_maps if family is scrfd.FAMILY else _scrfd_maps
    session = slow.Maker(lambda h, w: make(h, w, 0), 12 if family is scrfd.FAMILY else 9)
    with pytest.raises(ValueError, match="for stride 8 there must be"):
        _detector(session, family, _SCRFD).detect([_noise(32, 32)], min_score=0.5)


@pytest.mark.parametrize("shape", [(4,), (2, 32, 1), (1, 1, 32, 1)])
def test_outputs_that_are_no_rows_are_refused(shape: tuple[int, ...]) -> None:
    session = slow.Maker(lambda h, w: [np.zeros(shape, np.float32)], 1)
    with pytest.raises(ValueError, match="has the shape"):
        _detector(session, scrfd.FAMILY, _SCRFD).detect([_noise(32, 32)], min_score=0.5)


def test_more_outputs_than_three_strides_are_refused() -> None:
    session = slow.Maker(lambda h, w: [*_scrfd_maps(h, w, 0), np.zeros((1, 99, 4), np.float32)], 10)
    with pytest.raises(ValueError, match="more outputs"):
        _detector(session, scrfd.FAMILY, _SCRFD).detect([_noise(32, 32)], min_score=0.5)


_REAL: Mapping[str, tuple[str, Family, InputSpec, int]] = {
    "scrfd_500m": ("scrfd/scrfd_500m.onnx", scrfd.FAMILY, _SCRFD, 0),
    "scrfd_500m_one_size": ("scrfd/scrfd_500m_bnkps.onnx", scrfd.FAMILY, _SCRFD, 640),
    "scrfd_2_5g": ("scrfd/scrfd_2.5g_bnkps.onnx", scrfd.FAMILY, _SCRFD, 0),
    "yunet_n": ("yunet/yunet_n_dynamic.onnx", yunet.FAMILY, _YUNET, 0),
    "yunet_n_one_size": ("yunet/yunet_n_640_640.onnx", yunet.FAMILY, _YUNET, 640),
    "yunet_s": ("yunet/yunet_s_dynamic.onnx", yunet.FAMILY, _YUNET, 0),
}


@needs_shared
@pytest.mark.parametrize("name", _REAL)
def test_real_weights_find_every_nose(name: str) -> None:
    file, family, inputs, size = _REAL[name]
    session = OnnxSession(shared("models", *file.split("/")), threads=1)
    spec = replace(inputs, size=size)
    detector = SingleStageDetector(session, family, version="x", inputs=spec, length_limit=640)
    found = find_noses(detector)
    assert found.noses == 46
    assert found.left_over == (1 if name == "scrfd_2_5g" else 0)  # a person in the background
    assert np.mean(found.distances) < 0.06
    assert max(found.distances) < 0.22
