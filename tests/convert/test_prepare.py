"""Preparing a calculator: what is written and verified; a refusal leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compreface_convert.__main__ import main
from compreface_convert.proof import run_onnx
from compreface_engine.core.image import decode
from compreface_engine.pipeline import Pipeline, PipelineConfig
from tests.shared import ROOT

PORTRAIT = ROOT / "compreface_cli" / "portraits" / "astronaut.png"
RECORDINGS = Path(__file__).parent / "recordings"
SIZE, WIDTH, VALUES = 32, 8, 16


def weights(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def network(
    *,
    batch: int | str = "N",
    nhwc: bool = False,
    flatten: list[int] | None = None,
    output: int = TensorProto.FLOAT,
    extra_output: bool = False,
    domain: str = "",
) -> onnx.ModelProto:
    """A small embedding network with PReLU; `flatten` is the shape of a Reshape, else Flatten."""
    shape: list[int | str] = [batch, SIZE, SIZE, 3] if nhwc else [batch, 3, SIZE, SIZE]
    nodes = []
    start = "picture"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [start], ["nchw"], perm=[0, 3, 1, 2]))
        start = "nchw"
    nodes += [
        helper.make_node("Conv", [start, "kernel"], ["c"], strides=[2, 2], domain=domain),
        helper.make_node("PRelu", ["c", "slope"], ["p"]),
        helper.make_node("AveragePool", ["p"], ["a"], kernel_shape=[5, 5], strides=[5, 5]),
    ]
    if flatten is None:
        nodes.append(helper.make_node("Flatten", ["a"], ["flat"]))
    else:
        nodes.append(helper.make_node("Reshape", ["a", "shape"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "dense"], ["vector"]))
    last = "vector"
    if output != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", ["vector"], ["cast"], to=output))
        last = "cast"
    outputs = [helper.make_tensor_value_info(last, output, [batch, VALUES])]
    if extra_output:
        nodes.append(helper.make_node("Relu", ["vector"], ["more"]))
        outputs.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [batch, VALUES]))
    tensors = {
        "kernel": weights(WIDTH, 3, 3, 3),
        "slope": weights(WIDTH, 1, 1, seed=1) * 3,
        "dense": weights(WIDTH * 9, VALUES, seed=2),
    }
    if flatten is not None:
        tensors["shape"] = np.array(flatten, np.int64)
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    imports = [helper.make_opsetid("", 17)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


class Desk:
    """A folder with a model file and its entry, and the command on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.out, self._capsys = folder, folder / "models", capsys
        self.entry: dict[str, Any] = {
            "name": "mine",
            "role": "calculator",
            "format": "onnx",
            "input": {
                "size": SIZE, "layout": "nchw", "colour": "rgb", "mean": 127.5, "scale": 128
            },
            "align": "arcface5",
            "similarity": [1.1, 6.0],
            "files": [{"path": "mine.onnx", "sha256": None}],
        }  # fmt: skip

    def prepare(self, data: bytes | onnx.ModelProto, *arguments: str) -> tuple[int, dict[str, Any]]:
        raw = data if isinstance(data, bytes) else data.SerializeToString()
        (self.folder / "source").write_bytes(raw)
        (self.folder / "spec.json").write_text(json.dumps(self.entry))
        code = main(
            [
                *("prepare", "--spec", str(self.folder / "spec.json")),
                *("--models-source", str(self.folder / "source")),
                *("--out", str(self.out), "--json", *arguments),
            ]
        )
        return code, json.loads(self._capsys.readouterr().out)

    def refusal(self, data: bytes | onnx.ModelProto) -> str:
        """The message of a refusal that left nothing behind."""
        code, document = self.prepare(data)
        assert code == 9
        assert not self.out.exists() or not list(self.out.iterdir())
        return str(document["error"]["message"])

    def model(self) -> bytes:
        return (self.out / "mine" / "model.onnx").read_bytes()


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def batch(count: int) -> Any:
    return np.random.default_rng(5).uniform(-1, 1, (count, 3, SIZE, SIZE)).astype(np.float32)


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(data).graph.node]


def test_a_prepared_model_is_described_and_proven(desk: Desk) -> None:
    source = network().SerializeToString()
    code, document = desk.prepare(source)
    described = json.loads((desk.out / "mine" / "model.json").read_text("utf-8"))
    assert code == 0
    assert document["model"] == described
    assert described["sha256"] == hashlib.sha256(desk.model()).hexdigest()
    assert described["source"]["sha256"] == hashlib.sha256(source).hexdigest()
    assert (described["dimension"], described["align"]) == (VALUES, "arcface5")
    assert described["proof"]["max_abs_difference"] <= described["proof"]["tolerance"]
    assert described["proof"]["min_cosine"] > 0.99999
    assert sorted(os.listdir(desk.out)) == ["mine"]
    assert sorted(os.listdir(desk.out / "mine")) == ["model.json", "model.onnx"]


def test_prelu_is_rewritten_and_gives_the_same(desk: Desk) -> None:
    source = network().SerializeToString()
    desk.prepare(source)
    assert "PRelu" not in operators(desk.model())
    single, other = (run_onnx(data, batch(3), ["vector"])[0] for data in (source, desk.model()))
    assert np.abs(single - other).max() < 1e-5


def test_preparing_twice_gives_the_same_bytes(desk: Desk) -> None:
    desk.prepare(network())
    first = desk.model()
    desk.prepare(network())
    assert desk.model() == first


@pytest.mark.parametrize("flatten", [None, [1, -1], [1, WIDTH * 9]])
def test_a_fixed_batch_becomes_free(desk: Desk, flatten: list[int] | None) -> None:
    source = network(batch=1, flatten=flatten)
    code, _ = desk.prepare(source)
    (result,) = run_onnx(desk.model(), batch(5), ["vector"])
    expected = [
        run_onnx(source.SerializeToString(), batch(5)[i : i + 1], ["vector"])[0] for i in range(5)
    ]
    assert code == 0
    assert np.abs(result - np.concatenate(expected)).max() < 1e-5


def test_a_network_that_takes_nhwc_is_turned(desk: Desk) -> None:
    desk.entry["input"]["layout"] = "nhwc"
    source = network(nhwc=True).SerializeToString()
    code, document = desk.prepare(source)
    turned = np.ascontiguousarray(batch(2).transpose(0, 2, 3, 1))
    (expected,) = run_onnx(source, turned, ["vector"])
    (result,) = run_onnx(desk.model(), batch(2), ["vector"])
    assert code == 0
    assert document["model"]["input"]["layout"] == "nchw"
    assert np.abs(result - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["small.tflite", "small_halves.tflite"])
def test_a_tflite_file_is_prepared(desk: Desk, name: str) -> None:
    desk.entry |= {"format": "tflite"}
    desk.entry["input"] |= {"size": 24, "layout": "nhwc"}
    code, document = desk.prepare((RECORDINGS / name).read_bytes())
    assert (code, document["model"]["dimension"]) == (0, 7)


def test_a_frozen_graph_of_any_names_is_prepared(desk: Desk) -> None:
    desk.entry |= {"format": "tensorflow-graph"}
    desk.entry["input"] |= {"size": 24, "layout": "nhwc"}
    code, document = desk.prepare((RECORDINGS / "small_frozen.pb").read_bytes())
    assert (code, document["model"]["dimension"]) == (0, 7)
    assert document["model"]["outputs"] == ["Identity"], "where TensorFlow finds it"


def test_a_frozen_graph_is_prepared(desk: Desk) -> None:
    desk.entry |= {"format": "tensorflow-graph", "align": "facenet-margin"}
    desk.entry["input"] = {"size": 35, "layout": "nhwc", "colour": "rgb"}
    code, document = desk.prepare((RECORDINGS / "sandberg_small.pb").read_bytes())
    model = onnx.load_model_from_string(desk.model())
    assert (code, document["model"]["dimension"]) == (0, 24)
    assert document["model"]["input"]["mean"] is None
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "input",
        "embeddings",
    ]


def test_the_engine_gives_the_known_answer_of_each_detector(desk: Desk) -> None:
    code, document = desk.prepare(network(), "--portrait", str(PORTRAIT))
    assert code == 0
    image = decode(PORTRAIT.read_bytes(), max_pixels=10**7).image
    answers = document["model"]["known_answers"]
    assert set(answers) == {"embedded.FaceDetector@mtcnn", "facenet.FaceDetector"}
    for detector, known in answers.items():
        pipeline = Pipeline.load(
            PipelineConfig(
                detector=detector,
                calculator="custom.Calculator@mine",
                extras=("facenet.LandmarksDetector",),
                models_dir=desk.out,
            )
        )
        slugs = frozenset({"calculator", "landmarks"})
        face = pipeline.scan(image, min_score=None, detect=True, slugs=slugs)[0]
        box = face.box
        assert known["box"] == [box.x_min, box.y_min, box.x_max, box.y_max]
        assert known["landmarks"] == face.answers["landmarks"]
        assert np.allclose(face.answers["embedding"], known["embedding"], atol=1e-5)


def test_a_portrait_without_a_face_is_refused(desk: Desk, tmp_path: Path) -> None:
    from PIL import Image

    grey = tmp_path / "grey.png"
    Image.new("RGB", (200, 200), "grey").save(grey)
    code, document = desk.prepare(network(), "--portrait", str(grey))
    assert code == 9
    assert "no face in the portrait" in document["error"]["message"]
    assert not desk.out.exists()


def test_a_refused_file_leaves_the_older_model_as_it_was(desk: Desk) -> None:
    desk.prepare(network())
    before = desk.model()
    code, _ = desk.prepare(b"not a model")
    assert code == 9
    assert desk.model() == before
    assert os.listdir(desk.out) == ["mine"]


def test_a_folder_that_cannot_be_made_is_named(desk: Desk) -> None:
    desk.out.write_text("a file")
    code, document = desk.prepare(network())
    assert code == 9
    assert str(desk.out) in document["error"]["message"]


def test_a_file_of_another_hash_is_refused(desk: Desk) -> None:
    desk.entry["files"][0]["sha256"] = "0" * 64
    assert "the entry says 000000" in desk.refusal(network())


def test_a_file_cut_short_is_refused(desk: Desk) -> None:
    assert "cut short" in desk.refusal(network().SerializeToString()[:-20])


def test_another_size_than_the_entry_says_is_refused(desk: Desk) -> None:
    desk.entry["input"]["size"] = 112
    assert "[N, 3, 112, 112]" in desk.refusal(network())


def test_another_layout_than_the_entry_says_is_refused(desk: Desk) -> None:
    assert "the entry says nchw" in desk.refusal(network(nhwc=True))


def test_two_outputs_are_refused_by_name(desk: Desk) -> None:
    assert "vector, more" in desk.refusal(network(extra_output=True))


def test_an_output_that_is_not_float_is_refused(desk: Desk) -> None:
    assert "float32" in desk.refusal(network(output=TensorProto.FLOAT16))


def test_a_network_whose_quantisation_depends_on_the_batch_is_refused(desk: Desk) -> None:
    model = network()
    made = [
        helper.make_node("DynamicQuantizeLinear", ["c"], ["q", "step", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
    ]
    nodes = list(model.graph.node)
    nodes[1].input[0] = "d"
    del model.graph.node[:]
    model.graph.node.extend([nodes[0], *made, *nodes[1:]])
    assert "DynamicQuantizeLinear) over a whole batch" in desk.refusal(model)


def test_an_operator_of_a_foreign_domain_is_refused(desk: Desk) -> None:
    assert "ONNX Runtime refuses" in desk.refusal(network(domain="example.org"))


def test_weights_in_another_file_are_refused(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(secret))
    assert "is in another file" in desk.refusal(model)


def test_weights_in_another_file_are_found_inside_branches_too(desk: Desk) -> None:
    model = network()
    tensor = helper.make_tensor("inner", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])],
    )
    node = helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    assert "is in another file" in desk.refusal(model)


def test_a_weight_that_claims_more_than_it_has_is_refused(desk: Desk) -> None:
    model = network()
    model.graph.initializer[0].dims[0] = 1 << 40
    assert "ONNX Runtime refuses" in desk.refusal(model)


def test_values_that_are_not_finite_are_refused(desk: Desk) -> None:
    model = network()
    model.graph.initializer[0].raw_data = np.full((WIDTH, 3, 3, 3), np.inf, "<f4").tobytes()
    assert "not finite" in desk.refusal(model)


def test_a_batch_that_cannot_be_made_free_is_refused(desk: Desk) -> None:
    model = network(batch=1)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1], np.int64), "sizes"))
    model.graph.node.append(helper.make_node("Expand", ["vector", "sizes"], ["wide"]))
    shape = helper.make_node("Reshape", ["wide", "whole"], ["last"])
    whole = numpy_helper.from_array(np.array([VALUES], np.int64), "whole")
    again = numpy_helper.from_array(np.array([0], np.int64), "axis")
    model.graph.initializer.extend([whole, again])
    model.graph.node.extend([shape, helper.make_node("Unsqueeze", ["last", "axis"], ["row"])])
    model.graph.output[0].name = "row"
    assert "batch" in desk.refusal(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../up"}, "`name`"),
        ({"name": "a.b"}, "`name`"),
        ({"role": "listener"}, "`role`"),
        ({"format": "caffe"}, "`format`"),
        ({"format": "mxnet"}, "*.params"),
        ({"format": "mxnet-gluon"}, "`network`"),
        ({"format": "pytorch"}, "`network`"),
        ({"role": "detector", "format": "tflite"}, "detector must be onnx or mxnet"),
        ({"align": "somehow"}, "`align`"),
        ({"similarity": [1]}, "`similarity`"),
        ({"similarity": ["1", 2]}, "`similarity`"),
        ({"files": []}, "`files`"),
        ({"files": [{"sha256": None}]}, "`path`"),
        ({"files": [{"path": "a", "sha256": "12"}]}, "`sha256`"),
        ({"files": [{"path": "a/..", "sha256": None}]}, "`path`"),
        ({"format": "mxnet", "files": [{"path": "a"}, {"path": "b/a"}]}, "same name"),
        ({"input": {"size": None}}, "`input.size`"),
        ({"role": "analyzer", "input": {"size": None}}, "`input.size`"),
        ({"input": {"size": 0}}, "`input.size`"),
        ({"input": {"size": 32, "layout": "chw"}}, "`input.layout`"),
        ({"input": {"size": 32, "colour": "grey"}}, "`input.colour`"),
        ({"input": {"size": 32, "mean": 1}}, "`input.scale`"),
        ({"input": {"size": 32, "mean": 1, "scale": 0}}, "`input.scale`"),
        ({"input": {"size": 32, "mean": [1, 2], "scale": 1}}, "`input.mean`"),
    ],
)
def test_a_wrong_entry_is_refused_by_field(desk: Desk, change: dict[str, Any], words: str) -> None:
    desk.entry |= change
    assert words in desk.refusal(network())


def test_the_command_runs_as_a_process(desk: Desk, tmp_path: Path) -> None:
    """As `cf` calls it: JSON alone on stdout, progress on stderr."""
    (tmp_path / "source").write_bytes(network().SerializeToString())
    (tmp_path / "spec.json").write_text(json.dumps(desk.entry))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "compreface_convert", "prepare"),
            *("--spec", str(tmp_path / "spec.json"), "--models-source", str(tmp_path / "source")),
            *("--out", str(desk.out)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "engine")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == str(desk.out / "mine")
    assert "verified on" in done.stderr


def without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a Python that lacks a package."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from compreface_convert.__main__ import main\n"
        f"sys.exit(main({list(arguments)!r}))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "engine")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_help_needs_no_package_of_the_converter() -> None:
    done = without("onnx", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "prepare" in done.stdout


@pytest.mark.parametrize("package", ["flatbuffers", "google_crc32c", "onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    desk: Desk, tmp_path: Path, package: str
) -> None:
    (tmp_path / "source").write_bytes(network().SerializeToString())
    (tmp_path / "spec.json").write_text(json.dumps(desk.entry))
    spec, source = str(tmp_path / "spec.json"), str(tmp_path / "source")
    done = without(
        package,
        *("prepare", "--spec", spec, "--models-source", source, "--out", str(desk.out)),
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "missing-package"
    assert f"pip install '{package.replace('_', '-')}>=" in done.stderr
    assert "Traceback" not in done.stderr
