"""`cf up` where the model of a plugin cannot be fetched: what answers instead, and what is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compreface_cli import resources
from compreface_cli.engine.client import EngineClient
from tests.cli.local_cf import ONE_INSTANCE, LocalCf
from tests.cli.lying_server import Answer, LyingServer, lying_server
from tests.cli.names import assert_named

pytestmark = pytest.mark.slow

AGE = "genderage.AgeDetector@years"
UP = ("--launcher", "process", "--port", "auto")
BUILD = """\
schema: 1
name: aged
detector: embedded.FaceDetector@mtcnn
calculator: embedded.Calculator@mobilefacenet192
plugins: [facenet.LandmarksDetector, genderage.AgeDetector@years]
fallbacks:
  genderage.AgeDetector@years: INSTEAD
models:
  - name: years
    role: analyzer
    format: onnx
    files: [{path: "years.onnx", sha256: HASH, sources: []}]
    input: {size: 96, mean: 0, scale: 1}
facts: {licence: {weights: ours, commercial: allowed}}
"""


def _network() -> bytes:
    """A network that finds everybody 42 years old."""
    weights = [np.zeros((3, 3), np.float32), np.array([0.5, 0.5, 0.42], np.float32)]
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w", "b"], ["out"]),
        ],
        "years",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 96, 96])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(each, name) for each, name in zip(weights, "wb", strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


NETWORK = _network()


class Aged:
    """The build, and a server that is its mirror."""

    def __init__(self, cf: LocalCf, server: LyingServer) -> None:
        self.cf, self.server = cf, server
        self.build = self.write("embedded.AgeDetector")
        cf.env["CF_MODELS_MIRROR"] = server.url

    def write(self, instead: str, *, sha: str = hashlib.sha256(NETWORK).hexdigest()) -> str:
        path = self.cf.root / "aged.yaml"
        path.write_text(BUILD.replace("HASH", sha).replace("INSTEAD", instead))
        return str(path)

    def answers(self, *script: Answer) -> None:
        self.server.script[:] = script
        self.server.requests.clear()

    def up(self, *flags: str, exit_code: int = 0, **more: str) -> dict[str, Any]:
        return self.cf.json("up", self.build, *UP, *flags, exit_code=exit_code, **more)

    def age(self, url: str) -> Any:
        picture = (resources.portraits_dir() / "astronaut.png").read_bytes()
        with EngineClient(url, timeout_s=30) as client:
            answer = client.scan(picture, filename="a.png", plugins=["age", "landmarks"])
        return answer["result"][0].get("age")


@pytest.fixture
def aged(local_cf: LocalCf) -> Iterator[Aged]:
    with lying_server([Answer(b"", status=404)]) as server:
        yield Aged(local_cf, server)


def test_a_plugin_is_replaced_until_its_model_can_be_fetched(aged: Aged) -> None:
    flags = ("up", aged.build, *UP)
    done = aged.cf.run(*flags)
    assert done.returncode == 0, done.stderr
    assert_named(done.stderr, AGE, "embedded.AgeDetector", "years", "404", "CF_MODELS_MIRROR")
    status = aged.cf.json("status", "aged")["instances"][0]
    (taken,) = status["fallbacks"]
    assert (taken["plugin"], taken["instead"]) == (AGE, "embedded.AgeDetector")
    assert taken["model"] == "years"
    assert "404" in taken["reason"]
    assert aged.age(status["engine_url"])["high"] != 42
    for command in (("status",), ("show", aged.build)):
        assert_named(aged.cf.run(*command).stdout, AGE, "embedded.AgeDetector", "years")
    assert aged.cf.json("show", aged.build)["fallbacks"] == {"aged": [taken]}

    # The next one tries again, and leaves what runs as it is.
    asked = len(aged.server.requests)
    again = aged.up()
    assert (again["change"], again["fallbacks"]) == ("already running", [taken])
    assert len(aged.server.requests) > asked
    assert again["services"][0]["pid"] == status["services"][0]["pid"]

    aged.answers(Answer(NETWORK))
    whole = aged.up()
    assert (whole["change"], whole["fallbacks"]) == ("replaced", [])
    assert "prepare model" in {each["verb"] for each in whole["operations"]}
    (download,) = whole["downloads"]
    assert (download["models"], download["files"]) == (["years"], ["years.onnx"])
    assert download["from"] in aged.server.url
    assert aged.age(whole["engine_url"])["high"] == 42
    assert aged.cf.status("aged")["fallbacks"] == []
    assert len(aged.cf.processes()) == ONE_INSTANCE
    aged.answers(Answer(b"", status=404))
    assert aged.up()["change"] == "already running"
    assert aged.server.requests == []


def test_null_starts_the_engine_without_the_plugin(aged: Aged) -> None:
    aged.write("null")
    started = aged.up()
    assert [each["instead"] for each in started["fallbacks"]] == [None]
    assert aged.age(started["engine_url"]) is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(NETWORK, cut_after=0),
        Answer(b"", status=429, extra=(("Retry-After", "1"),)),
    ],
    ids=["cut", "too many requests"],
)
def test_what_a_bad_network_does_is_a_reason(aged: Aged, answer: Answer) -> None:
    aged.answers(answer)
    started = aged.up()
    assert [each["instead"] for each in started["fallbacks"]] == ["embedded.AgeDetector"]


def test_a_source_at_fault_is_no_reason(aged: Aged) -> None:
    aged.answers(Answer(b"<html>sign in", content_type="text/html"))
    error = aged.up(exit_code=9)["error"]
    assert error["type"] == "FetchError"
    assert (aged.cf.processes(), aged.cf.files()) == ([], [])


def test_a_wrong_file_is_no_reason(aged: Aged) -> None:
    aged.answers(Answer(b"another file"))
    error = aged.up(exit_code=9)["error"]
    assert hashlib.sha256(b"another file").hexdigest() in error["message"]
    assert (aged.cf.processes(), aged.cf.files()) == ([], [])


def test_a_file_whose_hash_is_not_accepted_is_no_reason(aged: Aged) -> None:
    aged.write("embedded.AgeDetector", sha="null")
    aged.answers(Answer(NETWORK))
    error = aged.up(exit_code=9)["error"]
    assert error["details"]["model"] == "years"
    assert (aged.cf.processes(), aged.cf.files()) == ([], [])


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        (("--no-fallbacks",), {}),
        ((), {"CF_FALLBACKS": "false"}),
        (("--plugin", AGE), {}),
    ],
    ids=["the flag", "the setting", "the plugin is named"],
)
def test_who_asks_for_the_plugin_gets_an_error_and_nothing_else(
    aged: Aged, flags: tuple[str, ...], environment: dict[str, str]
) -> None:
    error = aged.up(*flags, exit_code=9, **environment)["error"]
    assert (error["details"]["model"], error["details"]["plugins"]) == ("years", [AGE])
    assert_named(error["message"], "years", AGE, "404")
    assert_named(error["hint"], "CF_MODELS_MIRROR", "cf models pull")
    assert (aged.cf.processes(), aged.cf.files()) == ([], [])


def test_a_dry_run_says_what_would_be_tried_and_asks_nobody(aged: Aged) -> None:
    listed = aged.up("--dry-run")
    (cause,) = (row["cause"] for row in listed["operations"] if row["verb"] == "prepare model")
    assert_named(cause, AGE, "embedded.AgeDetector")
    assert (listed["fallbacks"], aged.server.requests) == ([], [])
    assert [each["bytes"] for each in listed["downloads"]] == [None]


def test_without_any_address_the_dry_run_knows_it(aged: Aged) -> None:
    listed = aged.up("--dry-run", CF_MODELS_MIRROR="")
    assert [each["model"] for each in listed["fallbacks"]] == ["years"]
    assert "prepare model" not in {row["verb"] for row in listed["operations"]}
    started = aged.up(CF_MODELS_MIRROR="")
    assert [each["model"] for each in started["fallbacks"]] == ["years"]
    assert started["operations"] == listed["operations"]


def test_an_accepted_hash_of_a_model_that_cannot_be_fetched_is_no_error(aged: Aged) -> None:
    started = aged.up("--accept-hash", f"years={'0' * 64}")
    assert len(started["fallbacks"]) == 1


def test_a_rendered_project_is_for_what_can_be_fetched(aged: Aged, tmp_path: Path) -> None:
    folder = tmp_path / "rendered"
    document = aged.cf.json("render", aged.build, "--output", str(folder))
    assert [each["plugin"] for each in document["fallbacks"]] == [AGE]
    text = "".join((folder / name).read_text() for name in ("compose.yaml", "core/Dockerfile"))
    assert "embedded.AgeDetector" in text
    assert AGE not in text
    refused = aged.cf.json(
        "render", aged.build, "--output", str(folder), "--no-fallbacks", exit_code=9
    )
    assert "years" in json.dumps(refused["error"])
