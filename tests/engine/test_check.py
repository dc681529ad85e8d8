"""`python -m compreface_engine check`: whether the engine can serve here as it is configured."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compreface_cli import resources
from compreface_engine import check
from tests.shared import ROOT

PORTRAIT = str(resources.portrait())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the engine as its wheel installs it."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(resources.engine_wheel()) as wheel:
        wheel.extractall(folder)
    return folder


def run(
    *arguments: str, engine: Path = ROOT / "engine", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compreface_engine", "check", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(engine), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def in_process(
    capsys: pytest.CaptureFixture[str], *arguments: str, **variables: str
) -> tuple[int, dict[str, Any]]:
    """The exit code and the document."""
    code = check.main([*arguments, "--json"], variables)
    return code, json.loads(capsys.readouterr().out)


def test_a_portrait_is_answered_by_every_plugin(installed: Path) -> None:
    done = run("--portrait", PORTRAIT, "--json", engine=installed)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["plugins"]["calculator"] == "embedded.Calculator@mobilefacenet192"
    assert said["similarity"] == [1.1, 6.0]
    face = said["face"]
    assert np.abs(np.subtract(face["box"], [160, 48, 287, 184])).max() <= 2
    assert np.linalg.norm(face["embedding"]) == pytest.approx(1, abs=1e-6)
    assert {"landmarks", "pose", "age", "gender"} <= face.keys()


def test_without_json_it_is_said_in_lines() -> None:
    done = run("--portrait", PORTRAIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "calculator: embedded.Calculator@mobilefacenet192" in done.stdout.splitlines()
    assert "face: [" in done.stdout


def test_the_installation_alone_loads_no_network(installed: Path) -> None:
    code = (
        "import sys; from compreface_engine import check\n"
        "assert check.main(['--installation', '--json']) == 0\n"
        "assert 'compreface_engine.pipeline' not in sys.modules\n"
    )
    environment = {"PYTHONPATH": str(installed), "CALCULATION_PLUGIN": "nonsense"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_a_network_that_was_changed_or_is_gone_is_named(installed: Path) -> None:
    network = next((installed / "compreface_engine").rglob("mobilefacenet*.onnx"))
    whole = network.read_bytes()
    try:
        network.write_bytes(whole[:-1] + b"x")
        changed = run("--installation", "--json", engine=installed)
        network.unlink()
        gone = run("--installation", engine=installed)
    finally:
        network.write_bytes(whole)
    assert (changed.returncode, gone.returncode) == (1, 1)
    assert json.loads(changed.stdout)["error"]["code"] == "damaged"
    for done in (changed, gone):
        assert network.name in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_missing_package_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; sys.modules['simplejpeg'] = None\n"
        "from compreface_engine import check\n"
        "sys.exit(check.main([]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "engine")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "simplejpeg" in done.stderr


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"CALCULATION_PLUGIN": "facenet.Calculator"}, "facenet.Calculator"),
        ({"EXTRA_PLUGINS": "nonsense"}, "nonsense"),
        ({"CF_MODELS_DIR": "/no/such/folder"}, "CF_MODELS_DIR"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(
    capsys: pytest.CaptureFixture[str], variables: dict[str, str], named: str
) -> None:
    code, said = in_process(capsys, **variables)
    assert (code, said["error"]["code"]) == (3, "configuration")
    assert named in said["error"]["message"]


def test_a_picture_must_show_one_face(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as opened:
        portrait = opened.convert("RGB")
    twice = Image.new("RGB", (portrait.width * 2, portrait.height))
    twice.paste(portrait, (0, 0))
    twice.paste(portrait, (portrait.width, 0))
    Image.new("RGB", (64, 64)).save(tmp_path / "none.png")
    twice.save(tmp_path / "twice.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, count in (("none.png", "0"), ("twice.png", "2")):
        code, said = in_process(capsys, "--portrait", str(tmp_path / name))
        assert code == 3
        assert name in said["error"]["message"]
        assert f" {count} " in said["error"]["message"]
    for name in ("text.png", "absent.png"):
        assert in_process(capsys, "--portrait", str(tmp_path / name))[0] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts written memory")
def test_models_are_limited_to_the_memory_that_their_size_can_need(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_bytes(bytes(1 << 20))
    code = (
        "import json, resource; from compreface_engine import check\n"
        "assert check.main(['--limit-memory']) == 0\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0])\n"
    )
    limits = []
    for variables in ({}, {"CF_MODELS_DIR": str(tmp_path)}):
        environment = {"PYTHONPATH": str(ROOT / "engine"), **variables}
        said = subprocess.check_output([sys.executable, "-c", code], env=environment, timeout=60)
        limits.append(int(said.splitlines()[-1]))
    assert limits[0] > 2 << 30
    assert limits[1] - limits[0] == 12 << 20
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] not in limits


def test_flags_that_it_does_not_know_are_a_mistake_of_usage() -> None:
    assert run("--help").returncode == 0
    unknown = run("--port", "3000")
    assert unknown.returncode == 2
    assert "--port" in unknown.stderr
