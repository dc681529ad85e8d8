"""The build file: what it may say, and how every fault is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from compreface_cli.builds import spec
from compreface_cli.config.yamlfile import Fault, parse
from compreface_cli.errors import ConfigurationError
from tests.cli.build_files import SHA, build_data, model_entry, plain_data, text


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
    ("changes", "words"),
    [
        ({"detektor": "x"}, "unknown key 'detektor' (did you mean 'detector'?)"),
        ({"zzz": 1}, "unknown key 'zzz' (known here: schema, name, summary"),
        ({"limits": {"max_wait": 3}}, "unknown key 'max_wait' (did you mean 'max_wait_s'?)"),
        (
            {"facts": {"licence": {"weights": "x", "comercial": "x"}}},
            "unknown key 'comercial' (did you mean 'commercial'?)",
        ),
        ({"name": "My Build"}, "name: 'My Build' is not a name of lower-case letters"),
        ({"name": 12}, "name: must be text, not 12 (put it in quotes)"),
        ({"schema": 2}, "schema: 2 is not one of 1"),
        ({"device": "gpu"}, "device: 'gpu' is not one of 'cpu' or 'cuda'"),
        ({"device": "gpu"}, "(did you mean 'cuda'?)"),
        ({"plugins": None}, "plugins: there is no list (write plugins: [] for an empty one, or"),
        ({"models": None}, "models: there is no list (write models: []"),
        ({"device": "cpuu"}, "(did you mean 'cpu'?)"),
        ({"runtime": "onxruntime"}, "(did you mean 'onnxruntime'?)"),
        ({"plugins": "facenet.PoseEstimator"}, "plugins: must be a valid list"),
        (
            {"plugins": ["facenet.PoseEstimator"] * 2},
            "plugins.1: facenet.PoseEstimator is listed twice",
        ),
        (
            {"models": [model_entry(), model_entry()]},
            "models.1.name: two models have the name my-model",
        ),
        ({"limits": {"max_wait_s": 0}}, "limits.max_wait_s: must be greater than 0"),
        ({"limits": {"max_detect_size": "640"}}, "must be a valid integer, not '640'"),
        ({"base_image": "UPPER case"}, "base_image: 'UPPER case' is not an image"),
        ({"gpu_index": True}, "gpu_index: must be a valid integer, not True"),
        (
            {"detector": "facenet.FaceDetectr"},
            "unknown detector 'facenet.FaceDetectr'; did you mean 'facenet.FaceDetector'?",
        ),
        ({"detector": "facenet"}, "detector: 'facenet' is not a plugin"),
        (
            {"detector": "facenet.Calculator"},
            "facenet.Calculator is a calculator, not a detector",
        ),
        ({"calculator": "custom.Calculator@a.b"}, "is not a plugin, like"),
    ],
)
def test_a_fault_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in fault(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a.b"}, "is not a model's name of letters"),
        ({"format": "pickle"}, "is not one of 'onnx', 'tensorflow-graph', 'tensorflow-checkpoint'"),
        ({"role": "detektor"}, "(did you mean 'detector'?)"),
        ({"align": "arcface"}, "(did you mean 'arcface5'?)"),
        ({"files": []}, "models.0.files"),
        ({"similarity": [1.1]}, "models.0.similarity.1 is missing"),
        ({"similarity": [6.0, 1.1]}, "similarity.0: must be between 0 and 2, not 6"),
        ({"similarity": [-1.1, 6]}, "similarity.0: must be between 0 and 2, not -1.1"),
        ({"similarity": [1.1, 0]}, "similarity.1: must be greater than 0"),
        ({"similarity": [float("nan"), 1]}, "similarity.0"),
        ({"border": {"at": 1.2}}, "models.0.border.at: must be less than 1"),
        ({"border": {"at": 0.7, "sure": 0.6}}, "border.sure: must be 0.7 (at) or more, not 0.6"),
        ({"border": {"at": 0.7, "surr": 0.8}}, "unknown key 'surr' (did you mean 'sure'?)"),
        ({"input": {"size": 112, "mean": 1}}, "mean and scale go together"),
        ({"input": {"size": 112, "mean": 1, "scale": 0}}, "scale must not be 0"),
        ({"input": {"size": 112, "mean": [1, 2, 3], "scale": [1, 0, 1]}}, "scale must not be 0"),
        ({"input": {"size": 1}}, "input.size: must be greater than or equal to 16"),
    ],
)
def test_a_fault_of_a_model_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in model_fault(**changes)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "~/x", "C:\\x", "a\\b", "", "c:x", "a\0b", "."]
)
def test_a_path_cannot_leave_its_folder(path: str) -> None:
    assert "path" in model_fault(files=[{"path": path, "sha256": SHA}])


@pytest.mark.parametrize("source", ["file:///etc/passwd", "ftp://x", "x y", "https://a b"])
def test_a_source_is_an_address_on_the_web(source: str) -> None:
    words = model_fault(files=[{"path": "x", "sha256": SHA, "sources": [source]}])
    assert "must be an http or https address" in words


def test_a_hash_may_be_one_or_several_or_unknown() -> None:
    def hashes(value: Any) -> list[str]:
        entry = model_entry(files=[{"path": "x", "sha256": value}])
        return spec.from_text(text(build_data(models=[entry]))).models[0].files[0].sha256

    assert hashes(SHA) == [SHA]
    assert hashes([SHA, "0" * 64]) == [SHA, "0" * 64]
    assert hashes(None) == []
    assert "is not a SHA-256" in model_fault(files=[{"path": "x", "sha256": "abc"}])


def test_every_missing_key_is_told() -> None:
    assert {one.message for one in faults({"name": "x"})} == {
        "schema is missing",
        "detector is missing",
        "calculator is missing",
    }


def test_faults_come_in_the_order_of_the_file() -> None:
    found = faults(build_data(name="X", device="tpu", foo=1, plugins=[1]))
    assert [one.line for one in found] == sorted(one.line for one in found)
    assert len(found) == 4


@pytest.mark.parametrize("content", ["", "- a\n", "text\n"])
def test_a_file_that_is_no_mapping_is_no_build(content: str) -> None:
    with pytest.raises(ConfigurationError, match="starts with schema: 1"):
        spec.from_text(content)


def test_a_file_is_checked_with_its_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\nname: x\ndetector: facenet.FaceDetector\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"mine.yaml:1: calculator is missing"):
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
    ],
)
def test_every_format_has_its_files(entry: dict[str, Any]) -> None:
    assert spec.from_text(text(build_data(models=[entry]))).models[0].format == entry["format"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (entry_of("mxnet", "m.params"), "has two files: *-symbol.json and *.params"),
        (entry_of("onnx", "a.onnx", "b.onnx"), "the format onnx has one file"),
        (entry_of("mxnet-gluon", "m.params"), "network: missing: a file in the format mxnet-gluon"),
        (
            entry_of("mxnet-gluon", "m.params", network="inception_v3_age"),
            "'inception_v3_age' does not fit",
        ),
        (entry_of("onnx", "m.onnx", network="resnet18_v1"), "has a graph of its own"),
        (
            entry_of("tensorflow-checkpoint", "m.data", network="inception_v3_age"),
            "has an *.index file",
        ),
        (entry_of("tensorflow-saved-model", "m.pb"), "has a file saved_model.pb"),
        (
            entry_of("tensorflow-saved-model", "saved_model.pb", "a/x", "b/x"),
            "two files have the same name in different folders",
        ),
        (
            entry_of("tflite", "m.tflite", role="detector", align=None, similarity=None),
            "a detector is onnx or mxnet",
        ),
    ],
)
def test_a_fault_of_format_and_files_is_told(entry: dict[str, Any], words: str) -> None:
    assert words in fault(models=[entry])


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
    assert "similarity is missing" in fault(models=[without(model_entry(), "similarity")])
    assert "align is for the role calculator only" in fault(models=[model_entry(role="analyzer")])
    entry = model_entry(role="analyzer", align=None, similarity=None, border={"at": 0.7})
    assert "border is for the role calculator only" in fault(models=[entry])
    assert "only a detector takes pictures of any size" in model_fault(input=any_size)
    standardised = {**detector, "input": {"size": None}}
    assert "a detector's picture is not standardised" in fault(models=[standardised])


def test_a_fault_between_two_keys_has_the_line_of_the_key_that_is_wrong() -> None:
    data = build_data(models=[model_entry(network="resnet18_v1")])
    (found,) = faults(data)
    assert text(data).splitlines()[found.line - 1].strip() == "network: resnet18_v1"
    data = build_data(models=[model_entry(role="analyzer")])
    (found,) = faults({**data, "models": [without(data["models"][0], "align", "similarity")]})
    assert "custom.Calculator@my-model needs a model with the role calculator" in found.message
    assert found.message.startswith("models.0.role")


def test_a_tolerance_and_a_precision_are_read() -> None:
    build = spec.from_text(text(plain_data(runtime="auto", precision="bf16", min_cosine=0.999)))
    assert (build.runtime, build.precision, build.min_cosine) == ("auto", "bf16", 0.999)
    (found,) = faults(plain_data(min_cosine=0.5))
    assert "greater than or equal to 0.9" in found.message
    (found,) = faults(plain_data(precision="int8"))
    assert "is not one of 'auto', 'fp32' or 'bf16'" in found.message


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
    assert found.message.startswith(f"precision: bf16 does not fit {other}")
