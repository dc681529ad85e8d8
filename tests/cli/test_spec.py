"""The build file: what it may say, and how every fault is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from compreface_cli.builds import builds, spec
from compreface_cli.config.yamlfile import Fault, parse
from compreface_cli.errors import ConfigurationError
from tests.cli.build_files import SHA, build_data, model_entry, plain_data, text
from tests.cli.names import assert_named


def faults(data: dict[str, Any]) -> list[Fault]:
    found, all_of_them = spec.check(parse(text(data), "b.yaml"))
    assert (found is None) == bool(all_of_them)
    return all_of_them


def fault(**changes: Any) -> str:
    (one,) = faults(build_data(**changes))
    return str(one).split(": ", 1)[1]


def model_fault(**changes: Any) -> str:
    return fault(models=[model_entry(**changes)])


def test_the_format_of_the_design_is_read() -> None:
    build = spec.from_text(
        f"""
schema: 1
name: my-build
summary: A model of our own
runtime: onnxruntime
device: cpu
detector: embedded.FaceDetector@mtcnn
calculator: custom.Calculator@my-model
plugins: [facenet.LandmarksDetector]
base_image: null
limits: {{max_detect_size: 640, max_concurrency: null, max_wait_s: 10}}
models:
  - name: my-model
    role: calculator
    format: onnx
    files: [{{path: my-model.onnx, sha256: "{SHA}", sources: ["https://example.org/m.onnx"]}}]
    input: {{size: 112, layout: nchw, colour: rgb, mean: 127.5, scale: 128}}
    align: arcface5
    similarity: [1.10, 6.0]
facts: {{accuracy: [{{set: lfw, value: 99.25, source: us}}], licence: {{weights: MIT}}}}
"""
    )
    assert build.models[0].files[0].sha256 == [SHA]
    assert build.models[0].similarity == (1.1, 6.0)
    assert build.limits.max_wait_s == 10
    assert build.facts.licence is not None


def test_a_build_cannot_be_changed() -> None:
    build = spec.from_text(text(build_data()))
    with pytest.raises(ValidationError):
        build.name = "other"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"detektor": "x"}, ("'detektor'", "'detector'")),
        ({"zzz": 1}, ("'zzz'", "schema, name, summary")),
        ({"limits": {"max_wait": 3}}, ("'max_wait'", "'max_wait_s'")),
        (
            {"facts": {"licence": {"weights": "x", "comercial": "x"}}},
            ("'comercial'", "'commercial'"),
        ),
        ({"name": "My Build"}, ("name: ", "'My Build'")),
        ({"name": 12}, ("name: ", "12")),
        ({"schema": 2}, ("schema: 2", "1")),
        ({"device": "gpu"}, ("device: 'gpu'", "'cpu'", "'cuda'?")),
        ({"plugins": None}, ("plugins: ", "plugins: []")),
        ({"models": None}, ("models: ", "models: []")),
        ({"device": "cpuu"}, ("'cpu'?",)),
        ({"runtime": "onxruntime"}, ("'onnxruntime'?",)),
        ({"plugins": "facenet.PoseEstimator"}, ("plugins: ", "'facenet.PoseEstimator'")),
        ({"plugins": ["facenet.PoseEstimator"] * 2}, ("plugins.1: ", "facenet.PoseEstimator")),
        ({"models": [model_entry(), model_entry()]}, ("models.1.name: ", "my-model")),
        ({"limits": {"max_wait_s": 0}}, ("limits.max_wait_s: ", "0")),
        ({"limits": {"max_detect_size": "640"}}, ("limits.max_detect_size: ", "'640'")),
        ({"base_image": "UPPER case"}, ("base_image: ", "'UPPER case'")),
        ({"gpu_index": True}, ("gpu_index: ", "True")),
        (
            {"detector": "facenet.FaceDetectr"},
            ("'facenet.FaceDetectr'", "'facenet.FaceDetector'?"),
        ),
        ({"detector": "facenet"}, ("detector: ", "'facenet'")),
        ({"detector": "facenet.Calculator"}, ("facenet.Calculator", "a calculator", "a detector")),
        ({"calculator": "custom.Calculator@a.b"}, ("calculator: ", "'custom.Calculator@a.b'")),
    ],
)
def test_a_fault_names_the_key_and_the_value(
    changes: dict[str, Any], named: tuple[str, ...]
) -> None:
    assert_named(fault(**changes), *named)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "a.b"}, ("models.0.name: ", "'a.b'")),
        ({"format": "pickle"}, ("'pickle'", "'onnx'", "'tensorflow-graph'")),
        ({"role": "detektor"}, ("'detector'?",)),
        ({"align": "arcface"}, ("'arcface5'?",)),
        ({"files": []}, ("models.0.files",)),
        ({"similarity": [1.1]}, ("models.0.similarity.1",)),
        ({"similarity": [6.0, 1.1]}, ("similarity.0: ", "6", "[1.1, 6.0]")),
        ({"similarity": [-1.1, 6]}, ("similarity.0: ", "-1.1")),
        ({"similarity": [1.1, 0]}, ("similarity.1: ", "0")),
        ({"similarity": [float("nan"), 1]}, ("similarity.0",)),
        ({"border": {"at": 1.2}}, ("models.0.border.at: ", "1.2")),
        ({"border": {"at": 0.7, "sure": 0.6}}, ("border.sure: ", "0.7", "0.6")),
        ({"border": {"at": 0.7, "surr": 0.8}}, ("'surr'", "'sure'?")),
        ({"input": {"size": 112, "mean": 1}}, ("models.0.input: ", "mean", "scale")),
        ({"input": {"size": 112, "mean": 1, "scale": 0}}, ("models.0.input: ", "scale", "0")),
        (
            {"input": {"size": 112, "mean": [1, 2, 3], "scale": [1, 0, 1]}},
            ("models.0.input: ", "scale", "0"),
        ),
        ({"input": {"size": 1}}, ("input.size: ", "16")),
    ],
)
def test_a_fault_of_a_model_names_the_key_and_the_value(
    changes: dict[str, Any], named: tuple[str, ...]
) -> None:
    assert_named(model_fault(**changes), *named)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "~/x", "C:\\x", "a\\b", "", "c:x", "a\0b", "."]
)
def test_a_path_cannot_leave_its_folder(path: str) -> None:
    assert "path" in model_fault(files=[{"path": path, "sha256": SHA}])


def test_a_model_may_have_other_files_that_give_the_same_network() -> None:
    other = {
        "format": "mxnet-gluon",
        "network": "resnet18_v1",
        "files": [{"path": "other.params", "bytes": 7}],
        "input": {"size": 112, "mean": 0, "scale": 1, "colour": "bgr"},
    }
    plain = {"format": "onnx", "files": [{"path": "third.onnx"}]}
    entry = model_entry(alternatives=[other, plain])
    spec_of = spec.model_from_data(entry, "x")
    first, second, third = builds.model_of(spec_of, "/folder").choices
    assert first == builds.model_of(spec.model_from_data(model_entry(), "x"), "/folder")
    assert (second.name, second.similarity) == (first.name, first.similarity)
    assert (second.format, second.network, second.colour) == ("mxnet-gluon", "resnet18_v1", "bgr")
    assert (second.files[0].bytes, second.build_folder) == (7, "/folder")
    assert (third.format, third.network, third.mean) == ("onnx", None, first.mean)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"files": []}, "models.0.alternatives.0.files"),
        ({"format": "mxnet"}, "models.0.alternatives.0.files"),
        ({"files": [{"path": "x/my-model.onnx"}]}, "models.0.alternatives.0.files"),
        ({"input": {"size": None, "mean": 0, "scale": 1}}, "models.0.alternatives.0.input.size"),
        ({"network": "resnet18_v1"}, "models.0.alternatives.0.network"),
        ({"colour": "rgb"}, "format, network, files, input"),
    ],
)
def test_a_fault_of_an_alternative_has_its_place(change: dict[str, Any], place: str) -> None:
    other = {"format": "onnx", "files": [{"path": "other.onnx"}], **change}
    assert_named(model_fault(alternatives=[other]), place)


@pytest.mark.parametrize("source", ["file:///etc/passwd", "ftp://x", "x y", "https://a b"])
def test_a_source_is_an_address_on_the_web(source: str) -> None:
    said = model_fault(files=[{"path": "x", "sha256": SHA, "sources": [source]}])
    assert_named(said, "models.0.files.0.sources.0", "https")


def test_a_hash_may_be_one_or_several_or_unknown() -> None:
    def hashes(value: Any) -> list[str]:
        entry = model_entry(files=[{"path": "x", "sha256": value}])
        return spec.from_text(text(build_data(models=[entry]))).models[0].files[0].sha256

    assert hashes(SHA) == [SHA]
    assert hashes([SHA, "0" * 64]) == [SHA, "0" * 64]
    assert hashes(None) == []
    said = model_fault(files=[{"path": "x", "sha256": "abc"}])
    assert_named(said, "models.0.files.0.sha256", "'abc'")


def test_every_missing_key_is_reported() -> None:
    said = [one.message for one in faults({"name": "x"})]
    assert [one.split()[0] for one in said] == ["schema", "detector", "calculator"]


def test_faults_come_in_the_order_of_the_file() -> None:
    found = faults(build_data(name="X", device="tpu", foo=1, plugins=[1]))
    assert [one.line for one in found] == sorted(one.line for one in found)
    assert len(found) == 4


@pytest.mark.parametrize("content", ["", "- a\n", "text\n"])
def test_a_file_that_is_not_a_mapping_is_refused(content: str) -> None:
    with pytest.raises(ConfigurationError, match="schema: 1"):
        spec.from_text(content)


def test_a_file_is_checked_with_its_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\nname: x\ndetector: facenet.FaceDetector\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"mine.yaml:1: calculator"):
        spec.load(path)


def test_an_entry_of_the_catalogue_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"catalogue: x: align"):
        spec.model_from_data(model_entry(align="no"), "catalogue: x")
    assert spec.model_from_data(model_entry(), "catalogue: x").name == "my-model"


def test_a_plain_build_needs_five_lines() -> None:
    assert spec.from_text(text(plain_data())).runtime == "onnxruntime"


def entry_of(format: str, *names: str, **changes: Any) -> dict[str, Any]:
    files = [{"path": f"here/{name}", "sha256": SHA} for name in names]
    return model_entry(format=format, files=files, **changes)


@pytest.mark.parametrize(
    "entry",
    [
        entry_of("mxnet", "m-symbol.json", "m-0000.params"),
        entry_of("mxnet-gluon", "m.params", network="resnet18_v1"),
        entry_of("tensorflow-checkpoint", "m.index", "m.data", network="inception_v3_age"),
        entry_of("tensorflow-saved-model", "saved_model.pb", "variables.index", "variables.data"),
        entry_of("tensorflow-graph", "m.pb"),
        entry_of("tflite", "m.tflite"),
        entry_of("pytorch", "m.pt", network="inception_resnet_v1"),
    ],
)
def test_every_format_has_its_files(entry: dict[str, Any]) -> None:
    assert spec.from_text(text(build_data(models=[entry]))).models[0].format == entry["format"]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (entry_of("mxnet", "m.params"), ("files: ", "*-symbol.json", "*.params")),
        (entry_of("onnx", "a.onnx", "b.onnx"), ("files: ", "onnx")),
        (entry_of("mxnet-gluon", "m.params"), ("network: ", "mxnet-gluon", "resnet18_v1")),
        (
            entry_of("mxnet-gluon", "m.params", network="inception_v3_age"),
            ("network: ", "'inception_v3_age'"),
        ),
        (entry_of("onnx", "m.onnx", network="resnet18_v1"), ("network: ", "onnx")),
        (
            entry_of("tensorflow-checkpoint", "m.data", network="inception_v3_age"),
            ("files: ", "*.index"),
        ),
        (entry_of("tensorflow-saved-model", "m.pb"), ("files: ", "saved_model.pb")),
        (entry_of("tensorflow-saved-model", "saved_model.pb", "a/x", "b/x"), ("files: ",)),
        (
            entry_of("tflite", "m.tflite", role="detector", align=None, similarity=None),
            ("format: ", "tflite", "onnx", "mxnet"),
        ),
    ],
)
def test_a_fault_of_format_and_files_names_them(
    entry: dict[str, Any], named: tuple[str, ...]
) -> None:
    assert_named(fault(models=[entry]), *named)


def without(entry: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}


def test_only_a_calculator_is_aligned_and_only_a_detector_takes_any_size() -> None:
    any_size = {"size": None, "mean": 0, "scale": 1}
    detector = without(model_entry(role="detector", input=any_size), "align", "similarity")
    analyzer = without(model_entry(role="analyzer"), "align", "similarity")
    for entry, plugin in (
        (detector, {"detector": "scrfd.FaceDetector@my-model"}),
        (analyzer, {"plugins": ["genderage.AgeDetector@my-model"]}),
    ):
        build = spec.from_text(text(plain_data(models=[entry], **plugin)))
        assert build.models[0].align is None
    assert_named(fault(models=[without(model_entry(), "similarity")]), "models.0.similarity")
    assert_named(fault(models=[model_entry(role="analyzer")]), "models.0.align", "analyzer")
    entry = model_entry(role="analyzer", align=None, similarity=None, border={"at": 0.7})
    assert_named(fault(models=[entry]), "models.0.border", "analyzer")
    assert_named(model_fault(input=any_size), "models.0.input.size")
    standardised = {**detector, "input": {"size": None}}
    assert_named(fault(models=[standardised]), "models.0.input: ", "mean", "scale")


def test_a_fault_between_two_keys_has_the_line_of_the_key_that_is_wrong() -> None:
    data = build_data(models=[model_entry(network="resnet18_v1")])
    (found,) = faults(data)
    assert text(data).splitlines()[found.line - 1].strip() == "network: resnet18_v1"
    data = build_data(models=[model_entry(role="analyzer")])
    (found,) = faults({**data, "models": [without(data["models"][0], "align", "similarity")]})
    assert_named(found.message, "models.0.role", "custom.Calculator@my-model", "analyzer")


def test_a_tolerance_and_a_precision_are_read() -> None:
    build = spec.from_text(text(plain_data(runtime="auto", precision="bf16", min_cosine=0.999)))
    assert (build.runtime, build.precision, build.min_cosine) == ("auto", "bf16", 0.999)
    (found,) = faults(plain_data(min_cosine=0.5))
    assert_named(found.message, "min_cosine: ", "0.9", "0.5")
    (found,) = faults(plain_data(precision="int8"))
    assert_named(found.message, "precision: 'int8'", "'auto'", "'fp32'", "'bf16'")


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({}, "runtime: onnxruntime"),
        ({"runtime": "mxnet"}, "runtime: mxnet"),
        ({"runtime": "auto", "device": "cuda"}, "device: cuda"),
    ],
)
def test_bf16_where_nothing_computes_in_it_has_its_line(
    changes: dict[str, Any], other: str
) -> None:
    data = plain_data(**changes, precision="bf16")
    (found,) = faults(data)
    assert text(data).splitlines()[found.line - 1] == "precision: bf16"
    assert_named(found.message, "precision: bf16", other)
