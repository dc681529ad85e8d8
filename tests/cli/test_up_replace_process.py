"""`cf up` on an instance that runs: the old engine goes on until the new one answers rightly."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request

import pytest

from tests.cli.local_cf import ONE_INSTANCE, LocalCf, eventually, free_port
from tests.cli.names import assert_named

pytestmark = pytest.mark.slow

CALCULATOR = "mobilefacenet192_fp16w.onnx"


def test_a_changed_plan_replaces_the_engine(local_cf: LocalCf) -> None:
    first = local_cf.up("--port", "auto")
    second = local_cf.up("--port", "auto", CF_MAX_WAIT_S="7")
    assert second["change"] == "replaced"
    assert second["engine_url"] == first["engine_url"]
    assert second["services"][0]["pid"] != first["services"][0]["pid"]
    assert len(local_cf.processes()) == ONE_INSTANCE
    assert len(list(local_cf.state.glob("instances/embedded/engine-*"))) == 1


def test_more_plugins_replace_the_engine_of_the_same_calculator(local_cf: LocalCf) -> None:
    """As an instance takes the engine that has age and gender of its own."""
    first = local_cf.up("--port", "auto", CF_PLUGINS="facenet.LandmarksDetector")
    second = local_cf.up("--port", "auto")
    assert second["change"] == "replaced"
    assert second["engine_url"] == first["engine_url"]
    with urllib.request.urlopen(f"{second['engine_url']}/status", timeout=10) as answer:
        status = json.load(answer)
    assert status["calculator_version"] == "embedded.Calculator@mobilefacenet192"
    assert status["available_plugins"]["age"] == "embedded.AgeDetector"
    assert status["available_plugins"]["gender"] == "embedded.GenderDetector"


def test_one_flipped_weight_makes_up_fail_with_both_values(local_cf: LocalCf) -> None:
    _flip_a_weight(local_cf)
    error = local_cf.up("--port", "auto", exit_code=8)["error"]
    assert error["details"]["wrong"]
    assert error["details"]["expected"] in error["message"]
    assert error["details"]["got"] in error["message"]
    assert error["details"]["expected"] != error["details"]["got"]
    assert error["details"]["cosine"] < 0.999
    assert (local_cf.processes(), local_cf.files()) == ([], [])


def test_an_engine_that_answers_wrongly_does_not_replace_the_one_that_runs(
    local_cf: LocalCf,
) -> None:
    first = local_cf.up("--port", "auto")
    _flip_a_weight(local_cf)
    error = local_cf.up("--port", "auto", CF_MAX_WAIT_S="7", exit_code=8)["error"]
    assert error["details"]["wrong"]
    status = local_cf.status()
    assert status["state"] == "running"
    assert status["services"][0]["pid"] == first["services"][0]["pid"]
    assert len(local_cf.processes()) == ONE_INSTANCE
    assert len(list(local_cf.state.glob("instances/embedded/engine-*"))) == 1


def test_the_old_engine_runs_again_when_the_new_one_fails_in_its_place(local_cf: LocalCf) -> None:
    old = local_cf.up("--port", "auto")
    wanted = free_port()
    process = local_cf.start("up", "embedded", "--launcher", "process", "--port", str(wanted))
    home = local_cf.state / "instances" / "embedded"
    with socket.socket() as rival:
        # After the checks and before the new engine takes its place, somebody takes its port.
        assert eventually(lambda: bool(list(home.glob("engine-*/trial.log"))))
        rival.bind(("127.0.0.1", wanted))
        rival.listen()
        out, err = process.communicate(timeout=90)
    assert process.returncode == 4, out + err
    assert_named(err, wanted)
    status = local_cf.status()
    assert (status["state"], status["engine_url"]) == ("running", old["engine_url"])
    assert len(local_cf.processes()) == ONE_INSTANCE
    assert len(list(home.glob("engine-*"))) == 1


def test_an_interrupted_replacement_is_repaired_by_the_next_up(local_cf: LocalCf) -> None:
    old = local_cf.up("--port", "auto")
    flags = ("up", "embedded", "--launcher", "process", "--port", "auto")
    process = local_cf.start(*flags, CF_MAX_WAIT_S="7")
    home = local_cf.state / "instances" / "embedded"
    assert eventually(lambda: bool(list(home.glob("engine-*/trial.log"))))
    process.kill()
    process.communicate()
    assert eventually(
        lambda: len(local_cf.processes()) == ONE_INSTANCE
    )  # the trial ends with its `cf`
    again = local_cf.up("--port", "auto")
    assert again["change"] == "already running"
    assert again["services"][0]["pid"] == old["services"][0]["pid"]
    assert len(list(home.glob("engine-*"))) == 1


def test_down_after_a_replacement_was_killed_stops_both(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto")
    flags = ("up", "embedded", "--launcher", "process", "--port", "auto")
    process = local_cf.start(*flags, CF_MAX_WAIT_S="7")
    home = local_cf.state / "instances" / "embedded"
    assert eventually(lambda: len(list(home.glob("engine-*/state.json"))) == 2)
    process.kill()
    process.communicate()
    local_cf.json("down")
    assert (local_cf.processes(), local_cf.files()) == ([], [])


def test_another_calculator_on_an_instance_is_refused(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto", "--instance", "mine")
    flags = ("up", "facenet", "--launcher", "process", "--port", "auto", "--instance", "mine")
    done = local_cf.run(*flags)
    assert done.returncode == 5, done.stderr
    assert "embedded.Calculator@mobilefacenet192" in done.stderr
    assert local_cf.status("mine")["state"] == "running"


def _flip_a_weight(cf: LocalCf) -> None:
    """Give this `cf` an engine whose embedding network differs in one bit of one weight."""
    link = cf.data / "engine-env" / cf.environment.key
    copied = cf.root / "other-env"
    shutil.copytree(cf.environment.folder, copied, symlinks=True, copy_function=os.link)
    (network,) = copied.glob(f"lib/python*/site-packages/compreface_engine/**/{CALCULATOR}")
    script = (
        "import sys, onnx\n"
        "from onnx import numpy_helper\n"
        "model = onnx.load(sys.argv[1])\n"
        "weights = max(model.graph.initializer, key=lambda one: len(one.raw_data))\n"
        "values = numpy_helper.to_array(weights).copy()\n"
        "bits = values.reshape(-1).view('u2')\n"
        "bits[0] ^= 0x7000\n"
        "weights.CopyFrom(numpy_helper.from_array(values, weights.name))\n"
        "open(sys.argv[2], 'wb').write(model.SerializeToString())\n"
    )
    changed = network.with_suffix(".new")
    subprocess.run(
        [str(cf.environment.python), "-c", script, str(network), str(changed)], check=True
    )
    changed.replace(network)
    link.unlink()
    link.symlink_to(copied)
