"""Builds whose detector, calculator and further plugins are prepared models, as a local process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from compreface_cli import resources
from compreface_cli.engine.client import EngineClient
from compreface_cli.models import prepare
from tests.cli.local_cf import LocalCf
from tests.cli.names import assert_named
from tests.cli.prepared_models import prepared
from tests.shared import needs_shared, shared

pytestmark = [pytest.mark.slow, needs_shared]


@pytest.fixture
def mnet25(local_cf: LocalCf) -> Iterator[dict[str, Any]]:
    prepared("mnet25-mobilefacenet", local_cf.data / "models", local_cf.environment)
    yield local_cf.json("up", "mnet25-mobilefacenet", "--launcher", "process", "--port", "auto")
    local_cf.run("down", "mnet25-mobilefacenet")


def test_mnet25_mobilefacenet_answers_with_every_plugin_it_names(
    local_cf: LocalCf, mnet25: dict[str, Any]
) -> None:
    assert mnet25["calculator"] == "custom.Calculator@arcface_mobilefacenet_rgb"
    assert mnet25["proof"]["cosine"] >= 0.9999
    picture = (resources.portraits_dir() / "astronaut.png").read_bytes()
    with EngineClient(mnet25["engine_url"], timeout_s=30) as client:
        plugins = ["calculator", "gender", "age", "landmarks", "pose"]
        answer = client.scan(picture, filename="astronaut.png", plugins=plugins)
    assert answer["plugins_versions"]["gender"] == "genderage.GenderDetector@genderage_v1_rgb"
    (face,) = answer["result"]
    assert face["gender"]["value"] in ("male", "female")
    assert 15 <= face["age"]["low"] == face["age"]["high"] <= 60
    assert len(face["landmarks"]) == 5
    assert set(face["pose"]) == {"pitch", "roll", "yaw"}
    assert len(face["embedding"]) == 128

    wanted = {"runtime": "onnxruntime", "precision": "fp32"}
    status = local_cf.json("status", "mnet25-mobilefacenet")["instances"][0]
    assert set(status["runtimes"]) == {"detector", "calculator", "gender", "age"}
    assert wanted.items() <= status["runtimes"]["calculator"].items()
    shown = local_cf.json("show", "mnet25-mobilefacenet")
    assert shown["tolerance"] == 0.998
    assert shown["runtimes"] == {"mnet25-mobilefacenet": status["runtimes"]}
    assert_named(
        local_cf.run("show", "mnet25-mobilefacenet").stdout,
        "mnet25-mobilefacenet",
        "age: onnxruntime fp32",
    )
    again = local_cf.json("up", "mnet25-mobilefacenet", "--launcher", "process", "--port", "auto")
    assert again["change"] == "already running"


def test_a_pair_that_no_answer_covers_is_proven_by_the_converters_answer(local_cf: LocalCf) -> None:
    prepared("yunet-embedded", local_cf.data / "models", local_cf.environment)
    up = local_cf.json("up", "yunet-embedded", "--launcher", "process", "--port", "auto")
    assert up["proof"]["cosine"] >= 0.9999
    assert up["proof"]["box_off_px"] == 0
    (kept,) = (local_cf.data / "models" / ".answers").glob("*.json")
    assert len(json.loads(kept.read_text())["embedding"]) == 192


def test_what_was_prepared_is_linked_whole_into_the_deployment(
    local_cf: LocalCf, mnet25: dict[str, Any]
) -> None:
    (folder,) = (local_cf.state / "instances" / "mnet25-mobilefacenet").glob("engine-*")
    names = sorted(path.name for path in (folder / "models").iterdir())
    assert names == ["arcface_mobilefacenet_rgb", "genderage_v1_rgb", "mnet25_retrained"]
    for name in names:
        record = prepare.read_record(folder / "models" / name)
        assert record is not None
        assert prepare.intact(folder / "models" / name, record, by_hash=True)


def test_models_without_an_address_are_refused_with_a_remedy(local_cf: LocalCf) -> None:
    calculator = ("--calculator", "insightface.Calculator@arcface_resnet34")
    flags = ("up", "embedded", *calculator, "--launcher", "process", "--port", "auto")
    error = local_cf.json(*flags, exit_code=9)["error"]
    assert "arcface_resnet34/model-symbol.json" in json.dumps(error)
    assert "CF_MODELS_MIRROR" in json.dumps(error)
    assert (local_cf.processes(), local_cf.files()) == ([], [])


OWN = """\
schema: 1
name: my-build
detector: embedded.FaceDetector@mtcnn
calculator: custom.Calculator@mine
models:
  - name: mine
    role: calculator
    format: mxnet
    files:
      - {path: mine-symbol.json}
      - {path: mine-0000.params}
    input: {size: 112, colour: rgb, mean: 0, scale: 1}
    align: arcface5
    similarity: [1.26, 5.5]
"""


def test_a_user_supplied_mxnet_model_runs_once_both_hashes_are_accepted(
    local_cf: LocalCf,
) -> None:
    build = local_cf.root / "my-build.yaml"
    build.write_text(OWN)
    theirs = shared("models", "arcface_mobilefacenet")
    for name, own in (("symbol.json", "mine-symbol.json"), ("0000.params", "mine-0000.params")):
        shutil.copy(theirs / f"model-{name}", local_cf.root / own)
    flags = ("up", str(build), "--launcher", "process", "--port", "auto")
    refused = local_cf.json(*flags, exit_code=9)["error"]
    accept = [word for word in refused["hint"].split() if word.startswith("mine=")]
    assert len(accept) == 2
    up = local_cf.json(*flags, *(part for one in accept for part in ("--accept-hash", one)))
    assert up["calculator"] == "custom.Calculator@mine"
    assert up["proof"]["cosine"] >= 0.999
