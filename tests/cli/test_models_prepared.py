"""The models of the catalogue, and a user's own, through the engine's real converter."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.errors import FetchError
from compreface_cli.models import catalogue
from compreface_cli.models.catalogue import about
from compreface_cli.models.entry import ModelFile
from tests.cli.model_bench import Bench, a_model
from tests.cli.names import assert_named
from tests.shared import needs_shared, shared
from tools import source_python


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_engines_own_converter_prepares_an_onnx_file(bench: Bench, tmp_path: Path) -> None:
    data = tiny_network()
    bench.put("own/mine.onnx", data)
    model = a_model(
        files=(ModelFile("own/mine.onnx", (hashlib.sha256(data).hexdigest(),), ()),), size=32
    )
    folder = bench.ensure(model, python=lambda: source_python.write(tmp_path))["mine"]
    described = json.loads((folder / "model.json").read_text())
    assert described["dimension"] == 3
    assert described["known_answers"]


def tiny_network() -> bytes:
    """Mean of each colour: [N, 3, 32, 32] -> [N, 3]."""
    from onnx import TensorProto, helper

    pool = helper.make_node("GlobalAveragePool", ["data"], ["pooled"])
    flat = helper.make_node("Flatten", ["pooled"], ["vector"])
    graph = helper.make_graph(
        [pool, flat],
        "tiny",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 3])],
    )
    opset = [helper.make_opsetid("", 13)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


@needs_shared
@pytest.mark.slow
def test_the_catalogues_facenet_is_prepared_from_a_mirror(bench: Bench, tmp_path: Path) -> None:
    bench.places = replace(bench.places, mirror=str(shared("models")))
    model = catalogue.models()["20180402-114759"]
    folder = bench.ensure(model, python=lambda: source_python.write(tmp_path))[model.name]
    described = json.loads((folder / "model.json").read_text())
    assert described["dimension"] == 512
    assert "facenet.FaceDetector" in described["known_answers"]


def test_every_model_of_the_catalogue_states_its_origin() -> None:
    models = catalogue.models()
    known = about()
    assert list(models) == list(known)
    for name, entry in known.items():
        assert entry.origin, name
        assert entry.licence, name


def test_the_model_without_known_hash_asks_for_it(bench: Bench) -> None:
    model = catalogue.models()["20180408-102900"]
    bench.put("facenet/20180408-102900.pb")
    with pytest.raises(FetchError) as caught:
        bench.ensure(model)
    assert_named(caught.value.hint, "--accept-hash 20180408-102900=")
