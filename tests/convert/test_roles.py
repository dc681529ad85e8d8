"""Preparing detectors, analyzers and networks of several files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compreface_convert.__main__ import main
from compreface_convert.proof import run_onnx, session
from compreface_engine import check
from compreface_engine.models.prepared import read_prepared
from tests.convert.mxnet_small import Line, norm, params, statistics, symbol
from tests.shared import ROOT, needs_shared, shared

RECORDINGS = Path(__file__).parent / "recordings"
PORTRAIT = ROOT / "compreface_cli" / "portraits" / "astronaut.png"


class Desk:
    """A folder with source files and an entry, and the command on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.out, self._capsys = folder, folder / "models", capsys
        self.entry: dict[str, Any] = {
            "name": "mine",
            "role": "detector",
            "format": "onnx",
            "input": {"size": None, "layout": "nchw", "colour": "bgr", "mean": 0, "scale": 1},
        }

    def prepare(self, files: dict[str, bytes], *arguments: str) -> tuple[int, dict[str, Any]]:
        paths = []
        for name, data in files.items():
            paths.append(self.folder / name)
            paths[-1].write_bytes(data)
        self.entry["files"] = [{"path": f"some/{name}", "sha256": None} for name in files]
        spec = self.folder / "spec.json"
        spec.write_text(json.dumps(self.entry))
        return self.run(
            *("prepare", "--spec", str(spec), "--models-source", *map(str, paths)),
            *("--out", str(self.out), *arguments),
        )

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        return self.document(main([*arguments, "--json"]))

    def document(self, code: int) -> tuple[int, dict[str, Any]]:
        """The exit code, and the document that was printed with it."""
        return code, json.loads(self._capsys.readouterr().out)

    def refusal(self, files: dict[str, bytes]) -> str:
        """The message of a refusal that left nothing behind."""
        code, document = self.prepare(files)
        assert code == 9
        assert not self.out.exists() or not list(self.out.iterdir())
        return str(document["error"]["message"])

    def model(self) -> bytes:
        return (self.out / "mine" / "model.onnx").read_bytes()


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def detector(
    *,
    batch: int | str = "N",
    batch_axis: bool = True,
    any_size: bool = True,
    even: bool = False,
    slope: Any = None,
) -> bytes:
    """Two maps of half the size from one picture; `even`: only sides that divide by 32 will do."""
    rng = np.random.default_rng(2)
    tensors: dict[str, Any] = {
        "kernel": rng.uniform(-0.01, 0.01, (6, 3, 3, 3)).astype(np.float32),
        "slope": rng.uniform(-1, 2, (6, 1, 1)).astype(np.float32) if slope is None else slope,
        "head": rng.uniform(-1, 1, (4, 6, 1, 1)).astype(np.float32),
        "rows": np.array([-1, 4], np.int64),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["c", "slope"], ["p"]),
        helper.make_node("Conv", ["p", "head"], ["boxes"]),
    ]
    score = "p"
    if even:
        pooled = helper.make_node("MaxPool", ["p"], ["q"], kernel_shape=[16] * 2, strides=[16] * 2)
        scales = numpy_helper.from_array(np.array([1, 1, 16, 16], np.float32), "up")
        tensors["up"] = numpy_helper.to_array(scales)
        nodes += [pooled, helper.make_node("Resize", ["q", "", "up"], ["r"], mode="nearest")]
        nodes.append(helper.make_node("Add", ["r", "p"], ["s"]))
        score = "s"
    if batch_axis:
        nodes.append(helper.make_node("Sigmoid", [score], ["scores"]))
        outputs = {"boxes": [batch, 4, None, None], "scores": [batch, 6, None, None]}
    else:  # as SCRFD: the batch is lost among the rows
        nodes += [
            helper.make_node("Transpose", ["boxes"], ["t"], perm=[2, 3, 0, 1]),
            helper.make_node("Reshape", ["t", "rows"], ["flat"]),
        ]
        outputs = {"flat": [4096, 4]}
    side: int | str = "side" if any_size else 64
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def noise(*shape: int) -> Any:
    return np.random.default_rng(5).uniform(0, 255, shape).astype(np.float32)


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(data).graph.node]


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_detector_keeps_its_names_and_takes_any_size_and_batch(
    desk: Desk, batch: int | str
) -> None:
    source = detector(batch=batch)
    code, document = desk.prepare({"mine.onnx": source}, "--portrait", str(PORTRAIT))
    model = document["model"]
    assert code == 0
    assert (model["role"], model["input"]["size"], model["batch"]) == ("detector", None, None)
    assert model["outputs"] == ["boxes", "scores"]
    assert not {"align", "similarity", "dimension", "known_answers"} & model.keys()
    assert model["proof"]["inputs"] == 7
    assert [value.name for value in session(desk.model()).get_inputs()] == ["x"]
    assert "PRelu" not in operators(desk.model())
    pictures = noise(2, 3, 45, 70)
    together = run_onnx(desk.model(), pictures, ["boxes", "scores"])
    for i in range(2):
        alone = run_onnx(source, pictures[i : i + 1], ["boxes", "scores"])
        for first, other in zip(alone, together, strict=True):
            assert np.abs(first[0] - other[i]).max() < 1e-4


def test_a_detector_without_a_batch_axis_keeps_its_batch_of_one(desk: Desk) -> None:
    source = detector(batch=1, batch_axis=False)
    code, document = desk.prepare({"mine.onnx": source})
    assert (code, document["model"]["batch"]) == (0, 1)
    assert "PRelu" not in operators(desk.model())
    (output,) = session(desk.model()).get_outputs()
    assert output.shape == ["flat_0", 4]  # 4096 rows are those of one size only
    (first,), (other,) = (
        run_onnx(data, noise(1, 3, 40, 50), ["flat"]) for data in (source, desk.model())
    )
    assert np.abs(first - other).max() < 1e-4


def test_a_free_batch_that_no_output_shows_is_not_believed(desk: Desk) -> None:
    code, document = desk.prepare({"mine.onnx": detector(batch_axis=False)})
    assert (code, document["model"]["batch"]) == (0, 1)


def test_a_detector_that_needs_multiples_of_32_is_tried_with_them(desk: Desk) -> None:
    code, document = desk.prepare({"mine.onnx": detector(even=True)}, "--portrait", str(PORTRAIT))
    assert (code, document["model"]["proof"]["inputs"]) == (0, 7)


def test_a_detector_of_one_size_says_which(desk: Desk) -> None:
    document = desk.refusal({"mine.onnx": detector(any_size=False)})
    assert "the entry says nchw of any height and width" in document
    desk.entry["input"]["size"] = 64
    code, made = desk.prepare({"mine.onnx": detector(any_size=False)})
    assert (code, made["model"]["input"]["size"]) == (0, 64)


def test_a_name_that_is_no_text_is_refused_in_json(desk: Desk) -> None:
    assert "UTF-8" in desk.refusal({"mine.onnx": detector().replace(b"boxes", b"box\xffs")})


def test_slopes_that_are_not_finite_are_refused(desk: Desk) -> None:
    slope = np.full((6, 1, 1), np.inf, np.float32)
    assert "not finite" in desk.refusal({"mine.onnx": detector(slope=slope)})


def test_the_engine_reads_what_was_prepared(desk: Desk) -> None:
    desk.prepare({"mine.onnx": detector()}, "--keep-source")
    model = read_prepared(desk.out, "mine", "scrfd.FaceDetector@mine", "detector")
    assert (model.role, model.inputs.size, model.outputs) == ("detector", 0, ("boxes", "scores"))
    assert model.source is not None
    ((path, sha256),) = model.source.files
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


# --- MXNet --------------------------------------------------------------------------------------

HEADS: list[Line] = [
    ("Convolution", "c", ["data", "w"], {"no_bias": "True", "stride": "(2,2)", "pad": "(1,1)"}),
    norm("c", "n"),
    ("LeakyReLU", "l", ["n", "s"], {"act_type": "prelu"}),
    ("Reshape", "r", ["l"], {"shape": "(0, 2, -1, 0)"}),
    ("SoftmaxActivation", "a", ["r"], {"mode": "channel"}),
    ("Reshape", "prob", ["a"], {"shape": "(0, 4, -1, 0)"}),
]
VECTOR: list[Line] = [
    *HEADS[:3],
    ("FullyConnected", "pre_fc1", ["l", "f"], {"no_bias": "True"}),
    norm("pre_fc1", "fc1"),
    ("FullyConnected", "fc7", ["fc1", "never"], {"no_bias": "True"}),
]


def mxnet(lines: list[Line], heads: list[str], without: str = "") -> dict[str, bytes]:
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)) / 100,
        **statistics("n", 4),
        "s": rng.uniform(-0.5, 1, 4),
        "f": rng.standard_normal((6, 4 * 16 * 16)) / 10,
        **statistics("fc1", 6),
    }
    arrays = {f"arg:{k}": v.astype(np.float32) for k, v in weights.items() if k != without}
    return {"m-symbol.json": symbol(*lines, heads=heads), "m-0000.params": params(arrays)}


def test_an_mxnet_detector_is_made_of_two_files(desk: Desk) -> None:
    desk.entry["format"] = "mxnet"
    files = mxnet(HEADS, ["prob", "l"])
    code, document = desk.prepare(files, "--keep-source", "--portrait", str(PORTRAIT))
    model = document["model"]
    assert (code, model["outputs"], model["batch"]) == (0, ["prob", "l"], None)
    assert model["proof"]["max_abs_difference"] <= 1e-4
    kept = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert {item["name"]: item["sha256"] for item in model["source"]["files"]} == kept
    for name, data in files.items():
        assert (desk.out / "mine" / "source" / name).read_bytes() == data
    assert [value.name for value in session(desk.model()).get_inputs()] == ["input"]
    assert run_onnx(desk.model(), noise(3, 3, 31, 50), ["prob"])[0].shape == (3, 4, 16, 25)


def test_without_being_asked_no_source_is_kept(desk: Desk) -> None:
    desk.entry["format"] = "mxnet"
    _, document = desk.prepare(mxnet(HEADS, ["prob"]))
    assert "files" not in document["model"]["source"]
    assert not (desk.out / "mine" / "source").exists()


def test_the_two_files_may_come_in_either_order(desk: Desk) -> None:
    desk.entry["format"] = "mxnet"
    code, _ = desk.prepare(dict(reversed(mxnet(HEADS, ["prob"]).items())))
    assert code == 0


@pytest.mark.parametrize("role", ["analyzer", "calculator"])
def test_an_mxnet_network_of_faces_ends_at_fc1(desk: Desk, role: str) -> None:
    desk.entry |= {"format": "mxnet", "role": role, "align": "arcface5", "similarity": [1, 2]}
    desk.entry["input"]["size"] = 32
    code, document = desk.prepare(mxnet(VECTOR, ["fc7"]), "--portrait", str(PORTRAIT))
    assert (code, document["model"]["outputs"]) == (0, ["fc1"])
    assert ("known_answers" in document["model"]) == (role == "calculator")
    if role == "calculator":
        assert document["model"]["dimension"] == 6


def test_an_mxnet_pair_that_does_not_fit_is_refused(desk: Desk) -> None:
    desk.entry["format"] = "mxnet"
    assert "has no n_beta" in desk.refusal(mxnet(HEADS, ["prob"], without="n_beta"))


def test_two_files_that_are_not_the_two_are_refused(desk: Desk) -> None:
    desk.entry["format"] = "mxnet"
    weights = mxnet(HEADS, ["prob"])["m-0000.params"]
    assert "*-symbol.json" in desk.refusal({"a.params": weights, "b.params": weights})


def test_a_mxnet_network_of_another_layout_is_refused(desk: Desk) -> None:
    desk.entry["format"] = "mxnet"
    desk.entry["input"]["layout"] = "nhwc"
    assert "`input.layout`" in desk.refusal(mxnet(HEADS, ["prob"]))


def test_a_saved_model_is_made_of_a_folders_files(desk: Desk) -> None:
    desk.entry |= {"format": "tensorflow-saved-model", "role": "analyzer"}
    desk.entry["input"] = {"size": 20, "layout": "nhwc", "colour": "rgb", "mean": 0, "scale": 255}
    names = ("saved_model.pb", "variables.index", "variables.data-00000-of-00001")
    with zipfile.ZipFile(RECORDINGS / "keras2_small.zip") as packed:
        inside = {Path(name).name: packed.read(name) for name in packed.namelist()}
    code, document = desk.prepare({name: inside[name] for name in names}, "--keep-source")
    assert (code, document["model"]["role"], len(document["model"]["outputs"])) == (
        0,
        "analyzer",
        1,
    )
    assert [item["name"] for item in document["model"]["source"]["files"]] == list(names)


# --- pairs of plugins ---------------------------------------------------------------------------


def answer(desk: Desk, detector: str, calculator: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document of the engine's `check` on what was prepared."""
    variables = {
        "FACE_DETECTION_PLUGIN": detector,
        "CALCULATION_PLUGIN": calculator,
        "EXTRA_PLUGINS": "facenet.LandmarksDetector",
        "CF_MODELS_DIR": str(desk.out),
    }
    return desk.document(check.main(["--portrait", str(PORTRAIT), "--json"], variables))


def test_a_pair_answers_as_its_known_answer_says(desk: Desk) -> None:
    desk.entry |= {"format": "mxnet", "role": "calculator"}
    desk.entry |= {"align": "arcface5", "similarity": [1.5, 2.5]}
    desk.entry["input"]["size"] = 32
    _, document = desk.prepare(mxnet(VECTOR, ["fc1"]), "--portrait", str(PORTRAIT))
    for detector_name, known in document["model"]["known_answers"].items():
        code, result = answer(desk, detector_name, "custom.Calculator@mine")
        assert code == 0
        assert result["similarity"] == [1.5, 2.5]
        face = result["face"]
        assert {key: face[key] for key in ("box", "probability", "landmarks")} == {
            key: known[key] for key in ("box", "probability", "landmarks")
        }
        assert np.abs(np.subtract(face["embedding"], known["embedding"])).max() < 1e-4


def test_a_pair_that_is_not_there_is_refused(desk: Desk) -> None:
    desk.out.mkdir()
    code, document = answer(desk, "facenet.FaceDetector", "custom.Calculator@absent")
    assert code == 3
    assert "absent" in document["error"]["message"]


# --- real files ---------------------------------------------------------------------------------


@needs_shared
@pytest.mark.parametrize(
    ("folder", "file", "batch"),
    [("scrfd", "scrfd_500m.onnx", 1), ("yunet", "yunet_n_dynamic.onnx", None)],
)
def test_published_detectors_are_prepared(
    desk: Desk, folder: str, file: str, batch: int | None
) -> None:
    data = shared("models", folder, file).read_bytes()
    code, document = desk.prepare({file: data})
    assert (code, document["model"]["batch"]) == (0, batch)
    before, after = (session(x).get_outputs() for x in (data, desk.model()))
    assert [value.name for value in before] == [value.name for value in after]
