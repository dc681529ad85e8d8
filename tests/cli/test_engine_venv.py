"""The engine's environment is made from pinned hashes, proven, removed if it fails, and shared."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.engine import venv
from compreface_cli.engine.venv import EngineEnv, EngineInputs
from compreface_cli.errors import CfError, ConfigurationError, FetchError
from tests.cli.names import assert_named
from tests.shared import ROOT

ENGINE = "compreface_engine-1.0-py3-none-any.whl"
CONVERTER = "compreface_convert-1.0-py3-none-any.whl"
CHECK = ("-m", "compreface_engine", "check", "--portrait", "x", "--json")
# Stands in for the engine's own `check`; the real one makes the environment of `local_cf`.
WORKS = """
import sys, tiny, compreface_convert, compreface_engine
assert sys.argv[1:3] == ["check", "--portrait"]
assert compreface_engine.VALUE == compreface_convert.VALUE == tiny.VALUE
print("{}")
"""
ROWS = ("cpu", "openvino", "tensorflow", "mxnet", "cuda13", "cuda12", "cuda12-legacy")


def wheel(folder: Path, name: str, text: str, main: str = WORKS) -> Path:
    """A wheel of one package, `main` its __main__; as small as the format allows."""
    distribution, version = name.split("-")[:2]
    info = f"{distribution}-{version}.dist-info"
    files = {
        f"{distribution}/__init__.py": text,
        f"{distribution}/__main__.py": main,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest())
        rows.append(f"{path},sha256={digest.rstrip(b'=').decode()},{len(content)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            # A fixed time: the same bytes, so the same name of the environment, each time.
            archive.writestr(zipfile.ZipInfo(path), content)
    return folder / name


class Workshop:
    """Inputs of a tiny engine, and the folder its environments go to."""

    def __init__(self, root: Path) -> None:
        self.home = root / "engine-env"
        self.wheels = root / "wheels"
        package = wheel(self.wheels, "tiny-1.0-py3-none-any.whl", "VALUE = 1\n")
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        self.requirements = root / "cpu.txt"
        self.requirements.write_text(f"# pinned\ntiny==1.0 \\\n    --hash=sha256:{digest}\n")
        both = tuple(wheel(root / "one", name, "VALUE = 1\n") for name in (ENGINE, CONVERTER))
        self.inputs = EngineInputs("cpu", (self.requirements,), both)
        new = tuple(wheel(root / "two", name, "VALUE = 1  # new\n") for name in (ENGINE, CONVERTER))
        self.next = replace(self.inputs, wheels=new)
        self.said: list[str] = []

    def with_main(self, main: str) -> EngineInputs:
        """The inputs with another __main__ of the engine."""
        engine = wheel(self.home.parent / "other", ENGINE, "VALUE = 1\n", main)
        return replace(self.inputs, wheels=(engine, *self.inputs.wheels[1:]))

    @contextmanager
    def progress(self, label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        self.said.append(label)
        yield lambda amount: None

    def ensure(self, wanted: EngineInputs, wheels: Path | None = None) -> EngineEnv:
        return venv.ensure(
            self.home, wanted, report=self.said.append, progress=self.progress, wheels=wheels
        )

    def left(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir()) if self.home.exists() else []


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_it_is_made_once_and_then_found(workshop: Workshop) -> None:
    assert venv.find(workshop.home, workshop.inputs) is None
    made = workshop.ensure(workshop.inputs, workshop.wheels)
    assert subprocess.run([made.python, "-I", *CHECK], check=False).returncode == 0
    assert venv.find(workshop.home, workshop.inputs) == made
    steps = [" ".join(line.split()[:2]) for line in workshop.said]
    assert steps == [*("Making a", "Preparing the", "All packages", "Testing the", "The engine's")]
    assert workshop.left() == [made.key]
    # No wheels and no network are needed any more: nothing is asked.
    assert workshop.ensure(workshop.inputs, workshop.home / "nowhere") == made


def test_a_new_engine_takes_the_packages_of_the_old_one(workshop: Workshop) -> None:
    old = workshop.ensure(workshop.inputs, workshop.wheels)
    new = workshop.ensure(workshop.next, workshop.home)  # no wheel of `tiny` is in reach
    assert new.key != old.key
    for package in ("compreface_engine", "compreface_convert"):
        say = f"import {package}; print(open({package}.__file__).read())"
        said = [
            subprocess.check_output([made.python, "-I", "-c", say], text=True).strip()
            for made in (old, new)
        ]
        assert said == ["VALUE = 1", "VALUE = 1  # new"]


def test_the_converter_is_installed_where_models_are_prepared_and_nowhere_else() -> None:
    wheels = {row: [path.name for path in venv.inputs(row).wheels] for row in ROWS}
    for row, names in wheels.items():
        packages = [name.partition("-")[0] for name in names]
        converts = ["compreface_convert"] if venv.converts(row) else []
        assert packages == ["compreface_engine", *converts], row
    assert len(wheels["mxnet"]) == len(wheels["tensorflow"]) == 1
    assert len(wheels["cpu"]) == 2


def test_an_environment_that_does_not_work_is_removed(workshop: Workshop) -> None:
    broken = workshop.with_main("import nothing_of_that_name\n")
    with pytest.raises(CfError, match="environment") as caught:
        workshop.ensure(broken, workshop.wheels)
    assert "nothing_of_that_name" in str(caught.value.hint)
    assert workshop.left() == []


def test_a_package_with_another_hash_is_refused(workshop: Workshop) -> None:
    wheel(workshop.wheels, "tiny-1.0-py3-none-any.whl", "VALUE = 666\n")
    with pytest.raises(FetchError) as caught:
        workshop.ensure(workshop.inputs, workshop.wheels)
    assert_named(caught.value.details["pip"], "DO NOT MATCH THE HASHES")
    assert workshop.left() == []


def test_a_missing_wheel_is_reported(workshop: Workshop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FetchError, match=str(empty)) as caught:
        workshop.ensure(workshop.inputs, empty)
    assert "tiny" in str(caught.value.hint)
    assert workshop.left() == []
    with pytest.raises(ConfigurationError, match="--wheels"):
        workshop.ensure(workshop.inputs, tmp_path / "none")


@pytest.mark.parametrize(
    ("of_path", "variable"), [("", "XDG_DATA_HOME"), (": '{}/x'", "TMPDIR")], ids=["data", "tmp"]
)
def test_a_disk_that_is_full_for_pip_is_named_with_what_moves_it(
    of_path: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    said = f"ERROR: [Errno 28] No space left on device{of_path.format(tmp_path / 'tmp')}"
    error = venv._pip_error(said, None)
    where = error.details["path"]
    assert where.startswith(str(tmp_path))
    assert_named(str(error.hint), where, variable)
    assert said not in str(error.hint)


def test_an_environment_that_a_killed_run_left_is_not_used(workshop: Workshop) -> None:
    left = workshop.home / workshop.inputs.key()
    (left / "bin").mkdir(parents=True)
    (left / "bin" / "python").write_text("half")
    assert venv.find(workshop.home, workshop.inputs) is None
    made = workshop.ensure(workshop.inputs, workshop.wheels)
    assert made.folder == left
    assert subprocess.run([made.python, "-I", *CHECK], check=False).returncode == 0


def test_an_interrupt_leaves_nothing(workshop: Workshop) -> None:
    slow = workshop.with_main("import time; time.sleep(600)\n")
    script = (
        "import sys; from pathlib import Path; from tests.cli.test_engine_venv import *\n"
        "root = Path(sys.argv[1]); shop = Workshop(root)\n"
        "shop.ensure(shop.with_main('import time; time.sleep(600)\\n'), shop.wheels)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(workshop.home.parent)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'engine'}"},
        stderr=subprocess.DEVNULL,
    )
    site = workshop.home / slow.key()
    deadline = time.monotonic() + 300
    try:
        while not list(site.glob("lib/*/site-packages/compreface_engine")):
            assert process.poll() is None
            assert time.monotonic() < deadline, workshop.left()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) != 0
    finally:
        process.kill()
        process.wait()
    assert workshop.left() == []


def test_the_same_inputs_give_the_same_name_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Workshop(tmp_path).inputs.key()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert Workshop(tmp_path).inputs.key() == one


def test_unused_environments_are_removed_and_used_ones_stay(workshop: Workshop) -> None:
    old = workshop.ensure(workshop.inputs, workshop.wheels)
    new = workshop.ensure(workshop.next)
    assert venv.remove_unused(workshop.home, [new.key]) == [old.key]
    assert workshop.left() == [new.key]


def test_any_changed_input_gives_another_name(workshop: Workshop) -> None:
    inputs, newer = workshop.inputs, workshop.next
    other_converter = replace(inputs, wheels=(inputs.wheels[0], newer.wheels[1]))
    others = (newer, replace(inputs, row="x"), other_converter)
    keys = {inputs.key(), *(other.key() for other in others)}
    workshop.requirements.write_text("# other\n")
    assert len({*keys, workshop.inputs.key()}) == 5


@pytest.mark.slow
def test_a_cf_without_pip_of_its_own_makes_one_with_pip(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pip" else real(name)
    )
    made = workshop.ensure(workshop.inputs, workshop.wheels)
    assert subprocess.run([made.python, "-m", "pip", "--version"], check=False).returncode == 0
    assert workshop.ensure(workshop.next, workshop.wheels).key != made.key


def test_without_pip_and_ensurepip_the_message_names_the_package(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        workshop.ensure(workshop.inputs, workshop.wheels)
    assert "python3-venv" in str(caught.value.hint)
    assert workshop.left() == []
