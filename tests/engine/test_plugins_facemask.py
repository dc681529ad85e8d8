"""Masks: what each family's network sees, the three labels and the two, and real weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.geometry import facenet_crop, whole_crop
from compreface_engine.core.image import decode
from compreface_engine.core.types import Align, BoundingBox, CropSpec, Detection, Image
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.plugins.facemask import BoxCrop
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.engine import face_networks as fn
from tests.shared import needs_shared, shared

GLUON = "insightface.facemask.MaskDetector"
KERAS = "facenet.facemask.MaskDetector"
OURS = "facemask.MaskDetector@mine"
_IMAGENET = {"mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]}


def _made(text: str, folder: Path, row: list[float]) -> fn.Made:
    fn.describe(folder, "mobilenet_v2_on_mafa_kaggle123", size=224, **_IMAGENET)
    fn.describe(folder, "resnet18_on_mafa_kaggle123", size=224, **_IMAGENET)
    fn.describe(folder, "inception_v3_on_mafa_kaggle123", size=100, scale=255, layout="nhwc")
    fn.describe(folder, "mine", size=224, mean=127.5, scale=127.5)
    network = fn.Network(fn.constant(row))
    return network, fn.analyzer(text, folder, network)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (GLUON, "facemask.MaskDetector"),
        (KERAS, "facemask.MaskDetector"),
        (f"{GLUON}@resnet18_on_mafa_kaggle123", "facemask.MaskDetector@resnet18_on_mafa_kaggle123"),
        (OURS, "facemask.MaskDetector@mine"),
    ],
)
def test_all_are_left_out_without_detection_and_print_one_class(
    tmp_path: Path, text: str, version: str
) -> None:
    _, plugin = _made(text, tmp_path, [0.5] * (2 if text == OURS else 3))
    assert (plugin.version, plugin.slug, plugin.key) == (version, "mask", "mask")
    assert plugin.needs_landmarks


@pytest.mark.parametrize(
    ("best", "label"), [(0, "without_mask"), (1, "with_mask"), (2, "mask_weared_incorrect")]
)
def test_upstreams_labels_are_spelled_as_upstream_spells_them(
    tmp_path: Path, best: int, label: str
) -> None:
    scores = [0.0, 0.0, 0.0]
    scores[best] = 0.75
    _, gluon = _made(GLUON, tmp_path / "gluon", scores)
    _, keras = _made(KERAS, tmp_path / "keras", scores)
    share = math.exp(0.75) / (math.exp(0.75) + 2)
    assert fn.answers(gluon, [_aligned()]) == [
        {"value": label, "probability": pytest.approx(share, abs=1e-6)}
    ]
    assert fn.answers(keras, [_margin()]) == [{"value": label, "probability": 0.75}]


def _aligned() -> FaceContext:
    return fn.face(fn.noise(), crop=fn.noise(112, 112))


def _margin() -> FaceContext:
    box = BoundingBox(10, 12, 90, 85, 1.0)
    return fn.face(fn.noise(), crop=facenet_crop(fn.noise(), box, 160))


def _taps(size: int, length: int, kernel: Any, reach: int) -> NDArray[np.float64]:
    """[size, length] weights of a resampling with half-pixel centres, edges repeated."""
    weights = np.zeros((size, length))
    for place in range(size):
        where = (place + 0.5) * length / size - 0.5
        for source in range(math.floor(where) - reach + 1, math.floor(where) + reach + 1):
            weights[place, min(max(source, 0), length - 1)] += kernel(where - source)
    return weights


def _tent(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _keys(x: float) -> float:
    """The cubic of Keys with a = -0.75, as OpenCV has it."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def test_the_gluon_networks_see_the_aligned_crop_enlarged_in_rgb(tmp_path: Path) -> None:
    network, plugin = _made(GLUON, tmp_path, [0, 0, 1])
    assert plugin.crop == CropSpec(112, Align.ARCFACE5)
    face = _aligned()
    fn.answers(plugin, [face])
    assert face.crop is not None
    weights = _taps(224, 112, _tent, 1)
    large = weights @ face.crop[0].transpose(2, 0, 1).astype(np.float64) @ weights.T
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for channel in range(3):
        expected = (large[channel] / 255 - mean[channel]) / deviation[channel]
        assert np.allclose(network.fed[0][0, channel], expected, atol=2e-5)


def test_the_keras_network_sees_facenets_crop_by_the_cubic_which_may_overshoot(
    tmp_path: Path,
) -> None:
    network, plugin = _made(KERAS, tmp_path, [0, 0, 1])
    assert plugin.crop == CropSpec(160, Align.FACENET_MARGIN)
    face = _margin()
    fn.answers(plugin, [face])
    assert face.crop is not None
    weights = _taps(100, 160, _keys, 2)
    expected = weights @ face.crop[0].transpose(2, 0, 1) @ weights.T
    assert network.fed[0].shape == (1, 100, 100, 3)
    assert np.allclose(network.fed[0][0], expected.transpose(1, 2, 0), atol=1e-5)
    assert expected.max() > face.crop.max()


@pytest.mark.parametrize(("row", "label"), [([0.75, 0.25], "with_mask"), ([0.5, 0.5], "with_mask")])
def test_a_network_with_two_classes_says_mask_or_none(
    tmp_path: Path, row: list[float], label: str
) -> None:
    network, plugin = _made(OURS, tmp_path, row)
    assert plugin.crop is None
    face = fn.face(fn.noise(), (10, 20, 60, 80))
    assert fn.answers(plugin, [face]) == [{"value": label, "probability": row[0]}]
    expected = whole_crop(face.image[20:80, 10:60], 224).astype(np.float64) / 127.5 - 1
    assert np.allclose(network.fed[0][0], expected.transpose(2, 0, 1), atol=1e-6)
    network.compute = fn.constant([0.25, 0.75])
    (none,) = fn.answers(plugin, [fn.face(fn.noise(), (10, 20, 60, 80))])
    assert none == {"value": "without_mask", "probability": 0.75}


@pytest.mark.parametrize("row", [[3.5, -2.0], [0.9, 0.9], [1.5, -0.5], [math.nan, 1.0]])
def test_a_network_with_two_numbers_that_are_no_probabilities_is_refused(
    tmp_path: Path, row: list[float]
) -> None:
    with pytest.raises(ConfigurationError, match=r"MaskDetector@mine.*softmax"):
        _made(OURS, tmp_path, row)


@given(*[st.integers(-150, 150)] * 4)
def test_a_box_is_cut_at_the_images_border(x: int, y: int, width: int, height: int) -> None:
    image = fn.smooth(50, 70)
    crop = BoxCrop(16)(fn.face(image, (x, y, x + abs(width), y + abs(height))))
    inside = [
        [row, column]
        for row in range(max(0, y), min(50, y + abs(height)))
        for column in range(max(0, x), min(70, x + abs(width)))
    ]
    assert crop.shape == (16, 16, 3)
    if not inside:
        assert not crop.any()
    else:
        (top, left), (bottom, right) = inside[0], inside[-1]
        part = np.ascontiguousarray(image[top : bottom + 1, left : right + 1])
        assert np.array_equal(crop, whole_crop(part, 16))


def _masked(picture: Image, faces: Sequence[Detection]) -> Image:
    """The picture with a white shape over nose and mouth of each face."""
    painted = picture.copy()
    for found in faces:
        assert found.landmarks is not None
        left, right, nose, *corners = np.asarray(found.landmarks, np.float64)
        mouth, wide = np.mean(corners, axis=0), float(np.linalg.norm(right - left))
        down = (mouth - (left + right) / 2) / np.linalg.norm(mouth - (left + right) / 2)
        side = np.array([down[1], -down[0]])
        half = [(nose, 0.25, -0.15), (nose, 0.85, 0.2), (mouth, 0.55, 0.7)]
        outline = [at + wide * (out * side + below * down) for at, out, below in half]
        outline += [at + wide * (-out * side + below * down) for at, out, below in half[::-1]]
        cv2.fillConvexPoly(painted, np.array(outline).astype(np.int32), (235, 240, 245))
    return painted


@needs_shared
def test_real_weights_tell_painted_masks_from_bare_faces(tmp_path: Path) -> None:
    weights = shared("models", "facemask_mobilenetv2", "mask_mobilenetv2_224.onnx")
    fn.describe(tmp_path, "mine", size=224, mean=127.5, scale=127.5)
    plugin = fn.analyzers([OURS], tmp_path, OnnxSession(weights, threads=1, gpu_idx=-1))[0]
    detector = registry.detector(
        "embedded.FaceDetector@mtcnn",
        Context(lambda path: OnnxSession(path, threads=1, gpu_idx=-1), None, 640),
    )
    file = shared("faces", "compreface-samples", "014_5.jpg")
    picture = decode(file.read_bytes(), max_pixels=10**8, apply_exif=False).image
    (found,) = detector.detect([picture], min_score=0.85)
    assert len(found) == 5
    for image, label in ((picture, "without_mask"), (_masked(picture, found), "with_mask")):
        faces = [FaceContext(image, detection, None) for detection in found]
        together = fn.answers(plugin, faces)
        assert [answer["value"] for answer in together] == [label] * 5
        for answer, detection in zip(together, found, strict=True):
            (alone,) = fn.answers(plugin, [FaceContext(image, detection, None)])
            assert answer["probability"] == pytest.approx(alone["probability"], abs=1e-4)
