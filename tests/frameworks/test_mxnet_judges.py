"""MXNet judges conversions of real and seeded networks (`make test-frameworks`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_convert import gluon, mxnet_run
from compreface_convert.emit import to_bytes
from compreface_convert.mxnet_emit import emit
from compreface_convert.mxnet_graph import Network
from compreface_convert.mxnet_params import read_params
from compreface_convert.mxnet_symbol import read_mxnet
from compreface_convert.proof import run_onnx
from tests.convert.mxnet_small import OLDEST, V1, V2, params
from tests.shared import ROOT, SHARED, needs_shared, shared

PYTHON = os.environ.get("CF_MXNET_PYTHON")
RECORDINGS = ROOT / "tests" / "convert" / "recordings"
TOLERANCE = 1e-4
"""Of an output's largest value; MXNet's own backends differ by 6e-6."""
AGES = {"v1": V1, "v2": V2, "oldest": OLDEST}
OPERATORS = {  # how often each stands in upstream's graphs of the same name
    "retinaface_r50": {
        "Convolution": 82, "BatchNorm": 71, "Activation": 64, "elemwise_add": 18, "Pooling": 1,
        "Concat": 3, "Reshape": 6, "SoftmaxActivation": 3, "UpSampling": 2, "Crop": 2,
    },
    "arcface_r100": {
        "Convolution": 103, "BatchNorm": 154, "LeakyReLU": 50, "elemwise_add": 49,
        "_minus_scalar": 1, "_mul_scalar": 1, "FullyConnected": 1,
    },
}  # fmt: skip
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not PYTHON, reason="CF_MXNET_PYTHON names no Python with MXNet in it"),
]


def arrays_of_an_age() -> dict[str, Any]:
    return {"arg:a": np.arange(6, dtype=np.float32).reshape(2, 3), "aux:b": np.ones(4, np.float16)}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and numbers made just now by MXNet, in a process and an environment of its own."""
    out, own = tmp_path_factory.mktemp("mxnet"), tmp_path_factory.mktemp("own")
    for name, magic in AGES.items():
        (own / f"{name}.params").write_bytes(params(arrays_of_an_age(), magic))
    command = [PYTHON or "", "-W", "ignore", "-m", "tests.frameworks.mxnet_recordings"]
    command += ["--out", str(out), "--reread", str(own)]
    if SHARED is not None:
        command += ["--models", str(shared("models"))]
    environment = {**os.environ, "MXNET_SUBGRAPH_VERBOSE": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as result:
        return dict(result)


def network(prefix: Path, *, cut: bool = True) -> Network:
    weights = read_params(Path(f"{prefix}-0000.params").read_bytes())
    return read_mxnet(Path(f"{prefix}-symbol.json").read_bytes(), weights, cut=cut)


def judge(net: Network, recorded: dict[str, Any], *, free_size: bool = False) -> float:
    """The largest share of an output's largest value by which NumPy or ONNX differ from MXNet."""
    first = recorded["0_input"]
    model = to_bytes(emit(net, first.shape[1:], free_size=free_size))
    worst = 0.0
    for i in range(sum(key.endswith("_input") for key in recorded)):
        batch = recorded[f"{i}_input"]
        result = run_onnx(model, batch, list(net.outputs))
        for name, judged, made in zip(net.outputs, mxnet_run.run(net, batch), result, strict=True):
            expected = recorded[f"{i}_output_{name}"]
            largest = max(1.0, float(np.abs(expected).max()))
            for value in (judged, made):
                assert value.shape == expected.shape
                worst = max(worst, float(np.abs(value - expected).max()) / largest)
    print(f"differs from MXNet by {worst:.2g} of the largest value")
    return worst


@needs_shared
@pytest.mark.parametrize("folder", ["retinaface_mnet025", "arcface_mobilefacenet", "genderage_v1"])
def test_real_networks_give_what_mxnet_gives_on_random_pictures(fresh: Path, folder: str) -> None:
    detector = folder.startswith("retinaface")
    net = network(shared("models", folder, "mnet.25" if detector else "model"))
    assert judge(net, arrays(fresh / f"{folder}.npz"), free_size=detector) < TOLERANCE


@pytest.mark.parametrize(
    "name", ["arcface_r34", "arcface_r50", "arcface_r100", "arcface_training", "2d106det"]
)
def test_seeded_networks_of_faces_give_what_mxnet_gives(fresh: Path, name: str) -> None:
    net = network(fresh / name)
    assert list(net.outputs) == ["fc1"]
    assert judge(net, arrays(fresh / f"{name}.npz")) < TOLERANCE


def test_a_seeded_retinaface_r50_gives_what_mxnet_gives_at_odd_sizes(fresh: Path) -> None:
    net = network(fresh / "retinaface_r50", cut=False)
    assert len(net.outputs) == 9
    assert judge(net, arrays(fresh / "retinaface_r50.npz"), free_size=True) < TOLERANCE


@pytest.mark.parametrize("name", OPERATORS)
def test_seeded_networks_have_the_depth_and_operators_of_upstreams(fresh: Path, name: str) -> None:
    result = [step.op for step in network(fresh / name).steps]
    assert {op: result.count(op) for op in sorted(set(result))} == dict(
        sorted(OPERATORS[name].items())
    )


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18_v1"])
def test_gluon_networks_give_what_mxnet_gives_however_they_are_saved(
    fresh: Path, name: str
) -> None:
    net, *others = (
        gluon.build(name, read_params((fresh / f"{name}{style}.params").read_bytes()))
        for style in ("", "-layers", "-plain")
    )
    assert judge(net, arrays(fresh / f"{name}.npz")) < TOLERANCE
    for other in others:
        for single, same in zip(net.weights.values(), other.weights.values(), strict=True):
            assert np.array_equal(single, same)


@pytest.mark.parametrize("age", AGES)
def test_mxnet_reads_our_files_of_every_age_as_we_do(fresh: Path, age: str) -> None:
    result, expected = arrays(fresh / f"{age}.npz"), arrays_of_an_age()
    ours = read_params(params(expected, AGES[age]))
    for name, value in expected.items():
        assert result[name].dtype == value.dtype
        assert np.array_equal(result[name], value)
        assert np.array_equal(ours[name.partition(":")[2]], value)


def test_weights_of_every_type_are_read_as_mxnet_wrote_them(fresh: Path) -> None:
    result = read_params((fresh / "types.params").read_bytes())
    assert len(result) == 7
    for kind, value in result.items():
        assert value.dtype == np.dtype(kind)
        assert np.array_equal(value, np.arange(6).reshape(2, 3))


def test_weights_with_numpys_shapes_are_read_as_mxnet_wrote_them(fresh: Path) -> None:
    result = read_params((fresh / "numpy_shapes.params").read_bytes())
    assert (result["scalar"].shape, result["empty"].shape) == ((), (0, 3))
    assert (float(result["scalar"]), result["row"].tolist()) == (2.5, [1.0] * 4)


def test_the_committed_recordings_are_what_mxnet_gives(fresh: Path) -> None:
    made, kept = (
        arrays(path) for path in (fresh / "odd_ends.npz", RECORDINGS / "mxnet_odd_ends.npz")
    )
    assert made.keys() == kept.keys()
    for key, value in made.items():
        assert np.abs(value - kept[key]).max() < 1e-6, key
    scores = (arrays(fresh / "gluon_scores.npz"), arrays(RECORDINGS / "mxnet_gluon_scores.npz"))
    for network, value in scores[0].items():
        assert np.abs(value - scores[1][network]).max() < 1e-5 * np.abs(value).max(), network
    names = (fresh / "gluon_names.json").read_text("utf-8")
    committed = (RECORDINGS / "mxnet_gluon_names.json").read_text("utf-8")
    assert json.loads(names) == json.loads(committed)
