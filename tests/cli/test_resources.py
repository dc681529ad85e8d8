"""Where `cf` finds its own files, in a checkout and in an installed wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from compreface_cli import resources
from compreface_cli.config import paths
from tests.shared import ROOT


def test_the_wheels_install_and_equal_their_sources(tmp_path: Path) -> None:
    wheels = [str(resources.engine_wheel()), str(resources.converter_wheel())]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--target", str(tmp_path), *wheels], check=True
    )
    for package, project in resources.PROJECTS.items():
        source = ROOT / "engine" / package
        assert _content(tmp_path / package) == _content(source, leave_out=project.name)


def _content(folder: Path, leave_out: str = "") -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != leave_out
    }


def test_the_engines_wheel_has_nothing_of_the_converter() -> None:
    with zipfile.ZipFile(resources.engine_wheel()) as archive:
        assert not [name for name in archive.namelist() if "convert" in name]


def _metadata(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return archive.read(member).decode().splitlines()


def test_the_wheels_say_what_they_need() -> None:
    lines = _metadata(resources.engine_wheel())
    assert "Name: compreface-engine" in lines
    assert any(line.startswith("Requires-Dist: numpy") for line in lines)
    assert any("extra == 'gpu'" in line for line in lines)
    assert not any(line.startswith("Requires-Dist: onnx>") for line in lines)
    lines = _metadata(resources.converter_wheel())
    assert "Name: compreface-convert" in lines
    assert "Requires-Dist: compreface-engine" in lines
    assert any(line.startswith("Requires-Dist: onnx>") for line in lines)


@pytest.mark.parametrize("package", resources.PROJECTS)
def test_hatchling_builds_what_cf_packs(package: str, tmp_path: Path) -> None:
    project = (ROOT / "engine" / resources.PROJECTS[package]).parent
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as ours:
        made = {name: ours.read(name) for name in ours.namelist() if ".dist-info/" not in name}
    with zipfile.ZipFile(resources.pack(ROOT / "engine", package, tmp_path / "own")) as ours:
        packed = {name: ours.read(name) for name in ours.namelist() if ".dist-info/" not in name}
    assert made == packed


def engine(root: Path) -> Path:
    package = root / "engine" / "compreface_engine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (root / "version.py").write_text('"""cf"""\n\n__version__ = "9.9"\n')
    (root / "engine" / "pyproject.toml").write_text(
        '[project]\nname = "compreface-engine"\ndynamic = ["version"]\ndescription = "x"\n'
        'requires-python = ">=3.11"\n\n[tool.hatch.version]\npath = "../version.py"\n'
    )
    return root / "engine"


def test_equal_sources_give_equal_bytes_and_others_another_wheel(tmp_path: Path) -> None:
    source = engine(tmp_path)
    first = resources.pack(source, "compreface_engine", tmp_path / "one")
    second = resources.pack(engine(tmp_path / "copy"), "compreface_engine", tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()
    assert resources.pack(source, "compreface_engine", tmp_path / "one") == first
    (source / "compreface_engine" / "more.py").write_text("x = 1\n")
    third = resources.pack(source, "compreface_engine", tmp_path / "one")
    assert third != first
    assert third.name == first.name == "compreface_engine-9.9-py3-none-any.whl"
    third.unlink()
    assert resources.pack(source, "compreface_engine", tmp_path / "one").is_file()


class TestInstalled:
    """The layout of an installed wheel: everything below the package."""

    @pytest.fixture(autouse=True)
    def bundle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(resources, "PACKAGE", tmp_path / "site" / "compreface_cli")
        bundle = tmp_path / "site" / "compreface_cli" / "_bundle"
        monkeypatch.setattr(resources, "_BUNDLE", bundle)
        (bundle / "engine").mkdir(parents=True)
        self.bundle_folder = bundle
        return bundle

    def test_data_lies_below_the_package(self) -> None:
        assert resources.checkout() is None
        assert resources.builds_dir() == self.bundle_folder / "builds"
        assert resources.templates_dir() == self.bundle_folder / "templates"
        assert resources.engine_requirements("cpu") == (
            self.bundle_folder / "engine" / "requirements" / "cpu.txt"
        )

    def test_the_wheel_is_the_one_that_was_built_with_the_package(self) -> None:
        wheels = {
            "compreface_engine": resources.engine_wheel,
            "compreface_convert": resources.converter_wheel,
        }
        for package, packed in wheels.items():
            with pytest.raises(FileNotFoundError, match=package):
                packed()
            wheel = self.bundle_folder / "engine" / f"{package}-1-py3-none-any.whl"
            wheel.write_bytes(b"")
            assert packed() == wheel

    def test_the_revision_is_the_recorded_one(self) -> None:
        assert resources.revision() == "unknown"
        (self.bundle_folder / "revision").write_text("abc\n")
        assert resources.revision() == "abc"


class TestRevision:
    """The commit of a checkout, read without git."""

    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        engine(tmp_path)
        monkeypatch.setattr(resources, "PACKAGE", tmp_path / "compreface_cli")
        self.git = tmp_path / ".git"

    def write(self, name: str, text: str, git: Path | None = None) -> None:
        path = (git or self.git) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_no_repository_is_unknown(self) -> None:
        assert resources.revision() == "unknown"

    def test_a_detached_head_is_its_commit(self) -> None:
        self.write("HEAD", "a" * 40 + "\n")
        assert resources.revision() == "a" * 40

    def test_a_branch_is_read_loose_or_packed(self) -> None:
        self.write("HEAD", "ref: refs/heads/main\n")
        assert resources.revision() == "unknown"
        packed = f"# pack-refs\n{'c' * 40} refs/heads/x\n{'b' * 40} refs/heads/main\n"
        self.write("packed-refs", packed)
        assert resources.revision() == "b" * 40
        self.write("refs/heads/main", "d" * 40 + "\n")
        assert resources.revision() == "d" * 40
        (self.git / "refs/heads/main").unlink()
        self.write("packed-refs", f"{'c' * 40} refs/heads/x\n")
        assert resources.revision() == "unknown"

    def test_a_worktree_is_followed(self, tmp_path: Path) -> None:
        whole = tmp_path / "whole.git"
        tree = whole / "worktrees" / "one"
        self.git.write_text(f"gitdir: {tree}\n")
        self.write("HEAD", "ref: refs/heads/main\n", tree)
        self.write("commondir", "../..\n", tree)
        self.write("refs/heads/main", "e" * 40 + "\n", whole)
        assert resources.revision() == "e" * 40


def test_the_folders_of_the_user_follow_the_xdg_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    assert str(paths.user_file()) == "/home/me/.config/compreface-cli/config.yaml"
    assert str(paths.models_dir()) == "/home/me/.local/share/compreface-cli/models"
    assert str(paths.instances_dir()) == "/home/me/.local/state/compreface-cli/instances"
    assert str(paths.cache_dir()) == "/home/me/.cache/compreface-cli"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert str(paths.user_builds()) == "/home/me/.local/share/compreface-cli/builds"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert str(paths.project_dir("x")) == "/data/compreface-cli/projects/x"


def test_every_row_of_wheels_has_hashed_requirements() -> None:
    for row in ("cpu", "cuda13", "cuda12", "cuda12-legacy"):
        text = resources.engine_requirements(row).read_text()
        assert "--hash=sha256:" in text


def test_the_portraits_are_there() -> None:
    names = {path.name for path in resources.portraits_dir().iterdir()}
    assert {"astronaut.png", "grace_hopper.jpg"} <= names
    digest = hashlib.sha256((resources.portraits_dir() / "astronaut.png").read_bytes())
    assert digest.hexdigest()
