"""The engine's private virtual environment: made from pinned hashes, proven, removed if it fails.

Its folder is named by a hash of its inputs (requirements, the engine's wheel, this Python), so an
upgrade makes a new one beside the old. The file `proven.json` in it is written last: without it an
environment does not count, whatever killed the run that was making it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from compreface_cli import causes, engine_python, locks, resources
from compreface_cli.errors import CfError, ConfigurationError, ConflictError, FetchError
from compreface_cli.runtimes import RUNTIMES

Report: TypeAlias = Callable[[str], None]
# (label, total) -> a block that yields advance(amount); Output.progress is one
Progress: TypeAlias = Callable[[str, float | None], AbstractContextManager[Callable[[float], None]]]

_PROOF_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class EngineInputs:
    """What an environment is made of."""

    row: str  # of the wheel table: cpu, cuda13, ...
    requirements: tuple[Path, ...]  # every line with hashes
    wheels: tuple[Path, ...]  # the engine, and the converter where models are prepared

    def packages(self) -> str:
        """Hash over this Python and the pinned packages: all but the engine itself."""
        digest = hashlib.sha256()
        python = (platform.python_implementation(), platform.python_version(), platform.machine())
        for text in (*python, sys.platform, os.path.realpath(sys.executable), self.row):
            digest.update(text.encode() + b"\0")
        for path in self.requirements:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def key(self) -> str:
        """Name of the environment: 16 hex digits over all inputs."""
        wheels = (hashlib.sha256(path.read_bytes()).hexdigest() for path in self.wheels)
        return hashlib.sha256(" ".join((self.packages(), *wheels)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EngineEnv:
    """A proven environment."""

    key: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def converts(row: str) -> bool:
    """Whether the environment of that row prepares models too; else that of `cpu` does."""
    # A framework's packages need other versions of theirs than the converter's.
    return not any(runtime.wheels == row and runtime.format for runtime in RUNTIMES.values())


def inputs(row: str) -> EngineInputs:
    """The inputs for a row of the wheel table, as this `cf` ships them."""
    rows, wheels = [row], [resources.engine_wheel()]
    if converts(row):
        rows.append("convert")
        wheels.append(resources.converter_wheel())
    return EngineInputs(
        row=row,
        requirements=tuple(resources.engine_requirements(name) for name in rows),
        wheels=tuple(wheels),
    )


def find(home: Path, wanted: EngineInputs) -> EngineEnv | None:
    """The proven environment for these inputs, if it is there; asks nobody and starts nothing."""
    env = EngineEnv(wanted.key(), home / wanted.key())
    return env if (env.folder / "proven.json").is_file() and env.python.exists() else None


def ensure(
    home: Path,
    wanted: EngineInputs,
    *,
    report: Report,
    progress: Progress,
    wheels: Path | None = None,
) -> EngineEnv:
    """The environment for these inputs, made and proven if it is not there yet.

    `wheels` is a folder of wheels for a machine without network. Raises FetchError when a package
    cannot be had or has another hash, ConfigurationError when this Python cannot make environments,
    CfError when what was made does not work; in each case nothing of it is left.
    """
    env = find(home, wanted)
    if env is not None:
        return env
    if wheels is not None and not wheels.is_dir():
        raise ConfigurationError(f"--wheels: {wheels} is no folder")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = wanted.key()
    folder = home / key
    with _locked(home, key, report, wait_s=float("inf")):
        env = find(home, wanted)
        if env is not None:  # another cf made it while this one waited
            return env
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed
        try:
            sibling = _with_packages(home, wanted)
            if sibling is not None:
                label = "Taking the packages of the environment that is here for the new engine"
                with progress(label, None):
                    _derive(folder, sibling, wanted)
            else:
                _make(folder, wanted, wheels, report, progress)
            with progress("Proving the environment with a known face", None):
                _prove(folder / "bin" / "python")
            proven = {
                "packages": wanted.packages(),
                "wheels": [path.name for path in wanted.wheels],
            }
            (folder / "proven.json").write_text(json.dumps(proven), encoding="utf-8")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    report(f"The engine's environment is in {folder}")
    return EngineEnv(key, folder)


def remove_unused(home: Path, used: Iterable[str]) -> list[str]:
    """Remove the environments that nothing in `used` names (keys); those being made stay."""
    keep = set(used)
    removed = []
    for folder in sorted(home.glob("*/")):
        if folder.name in keep:
            continue
        with suppress(ConflictError), _locked(home, folder.name):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    return removed


def _locked(
    home: Path, key: str, note: Report = lambda text: None, wait_s: float = 0.0
) -> AbstractContextManager[None]:
    what = "the engine's environment"
    return locks.hold(home / f"{key}.lock", what, note=note, wait_s=wait_s)


def _with_packages(home: Path, wanted: EngineInputs) -> Path | None:
    """A proven environment that has the very same packages, with another engine."""
    packages = wanted.packages()
    for proven in home.glob("*/proven.json"):
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(proven.read_text(encoding="utf-8")).get("packages") == packages:
                return proven.parent
    return None


def _derive(folder: Path, sibling: Path, wanted: EngineInputs) -> None:
    """The sibling's packages (linked: pip replaces files, it never writes into them), this engine.

    So an upgrade of the engine alone takes seconds, little disk and no network.
    """
    shutil.copytree(sibling, folder, symlinks=True, copy_function=_link)
    (folder / "proven.json").unlink()
    for site in folder.glob("lib/python*/site-packages"):
        for package in resources.PROJECTS:
            for old in site.glob(f"{package}*"):
                shutil.rmtree(old)
    _install_engine(_pip(folder / "bin" / "python"), wanted)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _make(
    folder: Path, wanted: EngineInputs, wheels: Path | None, report: Report, progress: Progress
) -> None:
    python = folder / "bin" / "python"
    with progress("Making a private Python environment for the engine", None):
        _create(folder)
    names = sum(
        1
        for path in wanted.requirements
        for line in path.read_text(encoding="utf-8").splitlines()
        if line[:1].isalnum()
    )
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    files = [part for path in wanted.requirements for part in ("-r", str(path))]
    with progress(f"Preparing the engine's environment: {names} packages", names) as advance:
        command = [*_pip(python), *source, "--require-hashes", *files]
        _run_pip(command, wheels, advance, report)
    _install_engine(_pip(python), wanted)


def _install_engine(pip: Sequence[str], wanted: EngineInputs) -> None:
    # The wheels are our own files; all they need is pinned.
    wheels = [str(path) for path in wanted.wheels]
    _run_pip([*pip, "--no-deps", "--no-index", *wheels], None, lambda amount: None)


def _pip(python: Path) -> list[str]:
    """The command that installs into an environment.

    pip of this Python can serve it (22.3 and newer), which saves installing pip there.
    """
    own = importlib.util.find_spec("pip") is not None
    pip = (
        [sys.executable, "-m", "pip", "--python", str(python)]
        if own
        else [str(python), "-m", "pip"]
    )
    return [*pip, "install", "--no-compile", "--only-binary", ":all:"]


def _create(folder: Path) -> None:
    """Make the bare environment."""
    own_pip = importlib.util.find_spec("pip") is not None
    if not own_pip and importlib.util.find_spec("ensurepip") is None:
        raise _no_venv("neither pip nor ensurepip is here")
    options = ["--without-pip"] if own_pip else []
    made = subprocess.run(
        [sys.executable, "-m", "venv", *options, str(folder)],
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    if made.returncode:
        raise _no_venv((made.stdout + made.stderr).strip()[-600:])


def _no_venv(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"this Python cannot make a virtual environment: {why}",
        hint="On Debian and Ubuntu install the package python3-venv, then run this again.",
    )


def _run_pip(
    command: Sequence[str],
    wheels: Path | None,
    advance: Callable[[float], None],
    report: Report = lambda line: None,
) -> None:
    flags = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONPATH": ""}
    tail: deque[str] = deque(maxlen=12)
    process = subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101  (for the type checker)
        for line in process.stdout:
            tail.append(line.rstrip())
            if line.startswith(("Collecting ", "Processing ")):
                advance(1)
            elif line.startswith("Installing collected packages"):
                report("All packages are here; unpacking them ...")
        code = process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
    if code:
        raise _pip_error("\n".join(line for line in tail if line), wheels)


def _pip_error(said: str, wheels: Path | None) -> CfError:
    cause = causes.of("pip", said)
    if cause is not None:
        error, what, hint = cause.error, cause.what, cause.hint
    elif wheels is not None:
        error, what, hint = FetchError, f"the engine's packages are not all in {wheels}", ""
    else:
        error, what = FetchError, "the engine's packages could not be installed"
        hint = "Without network: put the wheels into a folder, pass --wheels DIR."
    return error(what, hint=f"pip said:\n{said}\n{hint}".rstrip(), details={"pip": said})


def _prove(python: Path) -> None:
    """The engine of a new environment recognises a face: all its packages work together."""
    try:
        engine_python.run(
            python, "compreface_engine", "check", "--portrait", str(resources.portrait()),
            timeout_s=_PROOF_TIMEOUT_S,
        )  # fmt: skip
    except TimeoutError as error:
        raise CfError(
            f"the engine's new environment gave no answer in {_PROOF_TIMEOUT_S:.0f} s; removed"
        ) from error
    except engine_python.Failed as failed:
        raise CfError(
            "the engine's new environment does not work and was removed",
            hint=str(failed),
            details={"exit_code": failed.exit_code},
        ) from failed
