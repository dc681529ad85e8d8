"""A wheel and an sdist each install into a working `cf`, with no checkout near."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import __version__, resources
from tests.shared import ROOT


def _run(command: list[str | Path], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(what: str, source: Path, out: Path) -> Path:
    _run([sys.executable, "-m", "hatchling", "build", "-t", what, "-d", out], source)
    (made,) = out.iterdir()
    return made


def _members(wheel: Path) -> dict[str, int]:
    """Each file of the wheel with its CRC; RECORD aside, which only lists the others."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            one.filename: one.CRC
            for one in archive.infolist()
            if not one.filename.endswith("/RECORD")
        }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def cf(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs the `cf` that the wheel installed; its dependencies come from this environment."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / "bin" / "python"
    _run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel],
        home,
    )
    # Folders of PYTHONPATH run no .pth file, so the editable checkout stays out of sight.
    packages = [path for path in sys.path if path.endswith("site-packages")]

    def run(*arguments: str | Path) -> str:
        environment = {
            "PYTHONPATH": os.pathsep.join(packages),
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
        }
        return _run([home / "venv" / "bin" / "cf", *arguments], home, **environment)

    return run


def test_the_wheel_holds_the_engine_its_converter_and_no_test(wheel: Path) -> None:
    names = _members(wheel)
    packed = [name.rpartition("/")[2].partition("-")[0] for name in names if name.endswith(".whl")]
    assert sorted(packed) == ["compreface_convert", "compreface_engine"]
    assert not [name for name in names if name.startswith(("tests/", "engine/"))]
    assert [name for name in names if name.endswith("NOTICE")]


def test_the_wheel_carries_the_notices_of_the_networks_inside(wheel: Path) -> None:
    """Of those who made them, beside `cf` and beside the networks in the engine's own wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith("licenses/NOTICE"))
        ours = archive.read(name).decode()
        (inner,) = (one for one in archive.namelist() if "/compreface_engine-" in one)
        with zipfile.ZipFile(io.BytesIO(archive.read(inner))) as engine:
            folder = "compreface_engine/embedded_models/"
            beside = engine.read(f"{folder}NOTICE").decode()
            networks = {
                one.removeprefix(folder) for one in engine.namelist() if one.endswith(".onnx")
            }
    assert len(networks) == 5
    for text in (ours, beside):
        assert all(network in text for network in networks)
        for author in ("Vladimir Mandic", "2018 Vincent Mühler", "2016 Kaipeng Zhang"):
            assert f"(c) {author}" in text
    assert "Permission is hereby granted, free of charge" in beside


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = _build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        # as an attribute, which Python before 3.11.4 has no use for
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path / "source")  # noqa: S202  (our own archive)
    (source,) = (tmp_path / "source").iterdir()
    again = _build("wheel", source, tmp_path / "wheel")
    assert _members(again) == _members(wheel)


def test_the_installed_cf_lists_and_shows_its_builds(cf: Any) -> None:
    listed = json.loads(cf("list-builds", "--json"))
    assert "embedded" in {build["name"] for build in listed["builds"]}
    assert "embedded.FaceDetector@mtcnn" in cf("show", "embedded")


def test_the_installed_cf_renders_a_folder_with_the_engine_in_it(cf: Any, tmp_path: Path) -> None:
    cf("render", "embedded", "-o", tmp_path / "stack")
    assert (tmp_path / "stack" / "compose.yaml").is_file()
    (wheel,) = (tmp_path / "stack" / "core").rglob("*.whl")
    assert wheel.name.startswith("compreface_engine-")


def test_the_wheel_carries_the_engine_as_a_checkout_packs_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for package in resources.PROJECTS:
            packed = resources.pack(ROOT / "engine", package, tmp_path)
            (name,) = (one for one in archive.namelist() if f"/{package}-" in one)
            assert archive.read(name) == packed.read_bytes()


def test_both_wheels_the_commands_and_the_image_have_the_one_version(
    cf: Any, wheel: Path, tmp_path: Path
) -> None:
    """It is stated in `compreface_cli/__init__.py` and in no other source."""
    assert wheel.name.startswith(f"compreface_cli-{__version__}-")
    assert cf("--version") == f"cf {__version__}\n"
    engine = resources.engine_wheel()
    assert engine.name == f"compreface_engine-{__version__}-py3-none-any.whl"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    _run([*pip, "--target", tmp_path / "engine", engine], tmp_path)
    command: list[str | Path] = [sys.executable, "-m", "compreface_engine", "--version"]
    answer = _run(command, tmp_path, PYTHONPATH=str(tmp_path / "engine"))
    assert answer == f"compreface-engine {__version__}\n"
    cf("render", "embedded", "-o", tmp_path / "stack")
    dockerfile = (tmp_path / "stack" / "core" / "Dockerfile").read_text("utf-8")
    assert f'LABEL org.opencontainers.image.version="{__version__}"' in dockerfile
    stated = [
        path
        for folder in ("compreface_cli", "engine", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".toml", ".j2") and f'"{__version__}"' in path.read_text("utf-8")
    ]
    assert stated == [ROOT / "compreface_cli" / "__init__.py"]


def test_the_wheel_names_the_revision_it_is_of(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("compreface_cli/_bundle/revision").decode().strip() == (
            resources.revision()
        )
