"""The figures of builds: what is measured, with what in place of weights that are not here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bench import builds as bench
from bench import seeded
from compreface_cli import resources
from compreface_cli.builds import measured
from compreface_cli.config.settings_table import DEFAULT_BUILD
from compreface_cli.config.yamlfile import read
from compreface_cli.plan.plan import Plan
from tests.cli.build_files import plain_data, write

ROWS = json.loads(measured.path().read_text("utf-8"))["builds"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["build"])
def test_the_figures_are_of_a_bundled_build_as_it_is_now(row: dict[str, object]) -> None:
    data = read(resources.builds_dir() / f"{row['build']}.yaml").data
    assert row["parts"] == measured.parts(data), "run: make bench ARGS='builds --write'"
    figures = measured.of(data)
    assert figures is not None
    assert 0.01 < figures.speed < 20
    if row["build"] == DEFAULT_BUILD:
        assert figures == measured.Measured(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("network", "side", "values"),
    [(seeded.iresnet((1, 1, 1, 1)), 112, 512), (seeded.mobilenet(4, 96, 2, 3), 96, 3)],
    ids=["iresnet", "mobilenet"],
)
def test_a_seeded_network_runs_and_is_the_same_each_time(
    tmp_path: Path, network: Callable[[Path], None], side: int, values: int
) -> None:
    network(tmp_path / "one.onnx")
    network(tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    session = onnxruntime.InferenceSession(str(tmp_path / "one.onnx"))
    pictures = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    [answer] = session.run(None, {"input": pictures})
    assert answer.shape == (2, values)
    assert np.isfinite(answer).all()
    assert not np.allclose(answer[0], answer[1])


def plan_of(tmp_path: Path, **changes: object) -> Plan:
    return bench._plan(write(tmp_path, plain_data(**changes)))


def test_a_build_without_weights_has_no_figures_and_names_them(tmp_path: Path) -> None:
    wanted = plan_of(tmp_path, detector="yunet.FaceDetector@yunet_n")
    with pytest.raises(bench.Unmeasured, match="yunet_n"):
        bench._runnable(wanted, tmp_path)
    with pytest.raises(bench.Unmeasured, match="GPU"):
        bench._runnable(replace(wanted, device="cuda"), tmp_path)
    [file] = wanted.models[0].files
    path = tmp_path / "models" / file.path
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert bench._runnable(wanted, tmp_path) == (wanted, "")


def test_a_stand_in_is_named_and_has_its_own_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = bench.StandIn("other weights", ("other.onnx",))
    monkeypatch.setattr(bench, "STAND_INS", {"yunet_n": stand_in})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "other.onnx").write_text("x")
    wanted = plan_of(tmp_path, detector="yunet.FaceDetector@yunet_n")
    made, how = bench._runnable(wanted, tmp_path)
    assert how == "other weights"
    [file] = made.models[0].files
    assert (file.path, len(file.sha256[0])) == ("other.onnx", 64)
    assert made.models[0].name == "yunet_n"


def test_a_plugin_with_a_fallback_is_measured_with_that(tmp_path: Path) -> None:
    plugin = "agegender.AgeDetector"
    wanted = plan_of(tmp_path, plugins=[plugin], fallbacks={plugin: "embedded.AgeDetector"})
    made, how = bench._runnable(wanted, tmp_path)
    assert (made.plugins, made.models) == (("embedded.AgeDetector",), ())
    assert [each.plugin for each in made.replaced] == [plugin]
    assert how == ""  # no part of a scan's time; its memory is not measured
