"""Crops become tensors, tensors become embeddings, in the order and scale that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compreface_engine.core.types import Align, Crops, CropSpec
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins.calculator import NetworkCalculator


def _crops(count: int = 2) -> Crops:
    return np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), np.uint8)


def test_mean_and_scale_count_for_values_up_to_255() -> None:
    spec = InputSpec(4, mean=(127.5, 127.5, 127.5), scale=(128.0, 128.0, 128.0))
    crops = _crops()
    expected = (crops.astype(np.float64) - 127.5) / 128
    tensor = spec.tensor(crops)
    assert tensor.dtype == np.float32
    assert np.allclose(tensor, expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert np.allclose(spec.tensor(crops / 255), tensor, atol=1e-5)


def test_channels_follow_the_networks_colour_order() -> None:
    crops = _crops()
    mean, scale = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    tensor = InputSpec(4, colour="bgr", mean=mean, scale=scale).tensor(crops)
    for channel in range(3):
        expected = (crops[..., 2 - channel].astype(np.float64) - mean[channel]) / scale[channel]
        assert np.allclose(tensor[:, channel], expected, atol=1e-6)


def test_a_network_may_want_its_channels_last() -> None:
    spec = InputSpec(4, layout="nhwc", mean=(0.0,) * 3, scale=(1.0,) * 3)
    assert np.array_equal(spec.tensor(_crops()), _crops().astype(np.float32))


def test_without_mean_every_crop_is_standardised_by_itself() -> None:
    crops = np.stack((_crops(1)[0] / 255, _crops(1)[0] / 400 + 0.2))
    first, second = InputSpec(4).tensor(crops)
    assert np.allclose(first, second, atol=1e-5)
    assert first.mean() == pytest.approx(0, abs=1e-6)
    assert first.std() == pytest.approx(1, abs=1e-5)


def test_a_flat_crop_is_not_divided_by_nothing() -> None:
    crops = np.full((1, 4, 4, 3), 0.25)
    crops[0, 0, 0, 0] += 1e-3
    tensor = InputSpec(4).tensor(crops)
    assert tensor.max() == pytest.approx(1e-3 * (47 / 48) * np.sqrt(48), rel=1e-4)


def test_no_crop_gives_an_empty_tensor() -> None:
    assert InputSpec(4).tensor(np.empty((0, 4, 4, 3))).shape == (0, 3, 4, 4)


class Sums:
    """A network whose embedding is a crop's sum, its negative and a constant."""

    inputs: tuple[str, ...] = ("picture",)
    outputs: tuple[str, ...] = ("embedding", "other")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        assert outputs == ["embedding"]
        total = feeds["picture"].sum(axis=(1, 2, 3))
        self.batches.append(len(total))
        return [np.stack((total, -total, np.full_like(total, 3)), axis=1)]


def _calculator(
    session: Sums, *, unit_length: bool, idle: int = 0, rows: int | None = None
) -> NetworkCalculator:
    return NetworkCalculator(
        session,
        version="custom.Calculator@sums",
        crop=CropSpec(4, Align.ARCFACE5),
        inputs=InputSpec(4, mean=(0.0,) * 3, scale=(1.0,) * 3),
        similarity=(1.0, 2.0),
        dimension=3,
        unit_length=unit_length,
        idle_workers=lambda: idle,
        rows=rows,
    )


def test_many_faces_run_in_bounded_batches_and_keep_their_order() -> None:
    session = Sums()
    crops = _crops(19)
    embeddings = _calculator(session, unit_length=False).embed(crops)
    assert session.batches == [4, 5, 5, 5]
    assert embeddings.dtype == np.float32
    assert np.allclose(embeddings[:, 0], crops.sum(axis=(1, 2, 3)))


def test_a_gpu_takes_as_many_faces_at_once_as_it_is_told() -> None:
    session = Sums()
    crops = _crops(19)
    embeddings = _calculator(session, unit_length=False, rows=32).embed(crops)
    assert session.batches == [19]
    assert np.allclose(embeddings[:, 0], crops.sum(axis=(1, 2, 3)))


@pytest.mark.parametrize(("idle", "batches"), [(0, [5]), (1, [2, 3]), (3, [1, 2, 2]), (9, [1] * 5)])
def test_few_faces_are_one_batch_unless_idle_hands_can_take_some(
    idle: int, batches: list[int]
) -> None:
    session = Sums()
    crops = _crops(5)
    embeddings = _calculator(session, unit_length=False, idle=idle).embed(crops)
    assert session.batches == batches
    assert np.allclose(embeddings[:, 0], crops.sum(axis=(1, 2, 3)))


def test_unit_length_divides_each_row_by_its_norm() -> None:
    embeddings = _calculator(Sums(), unit_length=True).embed(_crops(3))
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_no_face_runs_no_network() -> None:
    session = Sums()
    assert _calculator(session, unit_length=True).embed(_crops(0)).shape == (0, 3)
    assert session.batches == []
