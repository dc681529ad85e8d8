"""Networks of analyzers: batches, what plugins of one request share, and what loading refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.plugins.network import FaceNetwork, softmax
from tests.engine import face_networks as fn

_PLAIN = InputSpec(4, mean=(0.0,) * 3, scale=(1.0,) * 3)


def _cut(face: FaceContext) -> NDArray[Any]:
    assert face.crop is not None
    return np.asarray(face.crop[0])


def _other_cut(face: FaceContext) -> NDArray[Any]:
    return _cut(face)[::-1]


def _means(batch: NDArray[Any]) -> NDArray[Any]:
    return np.stack((batch.mean(axis=(1, 2, 3)), -batch[:, 0, 0, 0]), axis=1)


def _faces(count: int) -> list[FaceContext]:
    return [fn.face(fn.noise(), crop=fn.noise(4, 4, seed)) for seed in range(count)]


def test_all_faces_run_together_in_bounded_slices_and_keep_their_order() -> None:
    session = fn.Network(_means)
    faces = _faces(19)
    rows = FaceNetwork(session, _PLAIN, _cut).rows(faces)
    assert session.batches == [6, 6, 7]
    expected = [_cut(face).astype(np.float32).mean() for face in faces]
    assert [row[0] for row in rows] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("idle", "batches"), [(0, [5]), (1, [2, 3]), (9, [1] * 5)])
def test_idle_hands_get_slices_of_their_own(idle: int, batches: list[int]) -> None:
    session = fn.Network(_means)
    FaceNetwork(session, _PLAIN, _cut, idle_workers=lambda: idle).rows(_faces(5))
    assert session.batches == batches


def test_a_gpu_gets_as_many_as_it_is_given() -> None:
    session = fn.Network(_means)
    FaceNetwork(session, _PLAIN, _cut, most=32).rows(_faces(19))
    assert session.batches == [19]


def test_plugins_on_a_gpu_run_all_faces_at_once(tmp_path: Path) -> None:
    fn.describe(tmp_path, "mine", size=32)
    session = fn.Network(fn.constant([0.25, 0.75]))
    context = Context(lambda _: session, tmp_path, 640, rows=32)
    plugin = registry.analyzer("dlib.GenderDetector@mine", context)
    session.fed.clear()
    fn.answers(plugin, _faces(19))
    assert session.batches == [19]


@pytest.mark.parametrize(("batch", "batches"), [(1, [1] * 5), (4, [4, 4])])
def test_a_network_of_a_fixed_batch_always_gets_it(batch: int, batches: list[int]) -> None:
    session = fn.Network(_means)
    faces = _faces(5)
    rows = FaceNetwork(session, _PLAIN, _cut, idle_workers=lambda: 3, batch=batch).rows(faces)
    assert session.batches == batches
    expected = [_cut(face).astype(np.float32).mean() for face in faces]
    assert [row[0] for row in rows] == pytest.approx(expected, rel=1e-5)


def test_no_face_runs_nothing() -> None:
    session = fn.Network(_means)
    assert FaceNetwork(session, _PLAIN, _cut).rows([]) == []
    assert session.fed == []


@given(st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_a_crowd_gives_what_its_faces_give_one_by_one(count: int, idle: int) -> None:
    network = FaceNetwork(fn.Network(_means), _PLAIN, _cut, idle_workers=lambda: idle)
    together = network.rows(_faces(count))
    alone = [network.rows([face])[0] for face in _faces(count)]
    assert np.array_equal(together, alone)


def test_a_face_runs_once_for_all_who_see_it_alike() -> None:
    session = fn.Network(_means)
    faces = _faces(3)
    first = FaceNetwork(session, _PLAIN, _cut).rows(faces[:2])
    second = FaceNetwork(session, _PLAIN, _cut).rows(faces)
    assert session.batches == [2, 1]
    assert np.array_equal(first, second[:2])


@pytest.mark.parametrize(
    "other",
    [
        lambda session: FaceNetwork(fn.Network(_means), _PLAIN, _cut),
        lambda session: FaceNetwork(session, InputSpec(4, "nchw", "bgr", *[(0.0,) * 3] * 2), _cut),
        lambda session: FaceNetwork(session, _PLAIN, _other_cut),
    ],
)
def test_another_network_input_or_cut_shares_nothing(other: Any) -> None:
    session = fn.Network(_means)
    faces = _faces(1)
    mine = FaceNetwork(session, _PLAIN, _cut)
    assert other(session) != mine
    faces[0].memo[other(session)] = np.zeros(2, np.float32)
    mine.rows(faces)
    assert session.batches == [1]


def test_faces_of_other_requests_share_nothing() -> None:
    session = fn.Network(_means)
    network = FaceNetwork(session, _PLAIN, _cut)
    network.rows(_faces(1))
    network.rows(_faces(1))
    assert session.batches == [1, 1]


def test_rows_are_flat_whatever_the_networks_shape() -> None:
    session = fn.Network(lambda batch: np.zeros((len(batch), 3, 1, 1)))
    (row,) = FaceNetwork(session, _PLAIN, _cut).rows(_faces(1))
    assert row.shape == (3,)


def test_softmax_gives_shares_of_one_for_any_score() -> None:
    assert softmax(np.array([0, np.log(3)], np.float32)) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([1000, 0, -1000], np.float32)).tolist() == [1, 0, 0]


class Single(fn.Network):
    """A network that was exported for one picture at a time."""

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        (batch,) = feeds.values()
        if len(batch) > 1:
            raise RuntimeError("Got: 2 Expected: 1")
        return super().run(feeds, outputs)


def test_a_network_for_one_picture_at_a_time_runs_if_its_model_says_so(tmp_path: Path) -> None:
    fn.describe(tmp_path, "mine", size=32)
    manifest = tmp_path / "mine" / "model.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"batch": 1}))
    session = Single(fn.constant([0.25, 0.75]))
    (plugin,) = fn.analyzers(["dlib.GenderDetector@mine"], tmp_path, session)
    assert fn.answers(plugin, _faces(3)) == [{"value": "male", "probability": 0.75}] * 3
    assert set(session.batches) == {1}


def test_a_network_for_one_picture_at_a_time_is_refused_at_start(tmp_path: Path) -> None:
    fn.describe(tmp_path, "mine", size=32)
    with pytest.raises(ConfigurationError, match=r"dlib.*32 x 32.*Got: 2.*prepare it again"):
        fn.analyzers(["dlib.GenderDetector@mine"], tmp_path, Single(fn.constant([0, 1])))


@pytest.mark.parametrize(
    ("plugin", "size", "reads"),
    [
        ("dlib.AgeDetector", 64, "81"),
        ("dlib.GenderDetector", 32, "2"),
        ("facemask.MaskDetector", 224, "2"),
        ("genderage.AgeDetector", 96, "202 or 3"),
        ("genderage.GenderDetector", 112, "202 or 3"),
        ("landmarks2d106.Landmarks2d106Detector", 192, "212"),
    ],
)
def test_another_kind_of_network_is_refused_at_start(
    tmp_path: Path, plugin: str, size: int, reads: str
) -> None:
    fn.describe(tmp_path, "mine", size=size)
    with pytest.raises(ConfigurationError, match=f"{plugin}@mine.*7 numbers.*reads {reads}[.]"):
        fn.analyzers([f"{plugin}@mine"], tmp_path, fn.Network(fn.constant([0] * 7)))


UPSTREAMS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "agegender.AgeDetector": ("22801", 8, {"size": 160, "mean": None, "scale": None}),
    "agegender.GenderDetector": ("21936", 2, {"size": 160, "mean": None, "scale": None}),
    "facenet.facemask.MaskDetector": (
        "inception_v3_on_mafa_kaggle123",
        3,
        {"size": 100, "scale": 255},
    ),
    "insightface.AgeDetector": ("genderage_v1", 202, {"size": 112, "colour": "bgr"}),
    "insightface.GenderDetector": ("genderage_v1", 202, {"size": 112, "colour": "bgr"}),
    "insightface.Landmarks2d106Detector": ("2d106det", 212, {"size": 192}),
    "insightface.facemask.MaskDetector": (
        "mobilenet_v2_on_mafa_kaggle123",
        3,
        {"size": 224, "mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]},
    ),
}


@pytest.mark.parametrize("plugin", UPSTREAMS)
def test_upstreams_plugins_have_a_default_model_and_echo_their_notation(
    tmp_path: Path, plugin: str
) -> None:
    model, width, described = UPSTREAMS[plugin]
    fn.describe(tmp_path, model, **described)
    network = fn.Network(fn.constant([0] * width))
    short, named = fn.analyzers([plugin, f"{plugin}@{model}"], tmp_path, network)
    last = plugin if plugin.count(".") == 1 else plugin.partition(".")[2]
    assert (short.version, named.version) == (last, f"{last}@{model}")


@pytest.mark.parametrize("plugin", UPSTREAMS)
@pytest.mark.parametrize("wrong", ["size", "colour", "mean", "scale"])
def test_upstreams_plugins_refuse_a_model_that_is_fed_in_another_way(
    tmp_path: Path, plugin: str, wrong: str
) -> None:
    model, width, described = UPSTREAMS[plugin]
    changed: dict[str, Any] = {"colour": "rgb", "mean": 0, "scale": 1} | described
    if wrong == "colour":
        changed["colour"] = "rgb" if changed["colour"] == "bgr" else "bgr"
    else:
        changed[wrong] = 99 if changed[wrong] != 99 else 98
    fn.describe(tmp_path, model, **changed)
    with pytest.raises(ConfigurationError, match=f"input.{wrong}"):
        fn.analyzers([plugin], tmp_path, fn.Network(fn.constant([0] * width)))
