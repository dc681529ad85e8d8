"""The engine's virtual environment: made from hashed packages, tested, removed if that fails.

Its folder is named by a hash of its inputs (requirements, the engine's wheel, this Python), so an
upgrade makes a new one next to the old. The file `proven.json` in it is written last: a folder
without it is incomplete, for whatever reason, and is not used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
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
from compreface_cli.config import paths
from compreface_cli.errors import CfError, ConfigurationError, ConflictError, FetchError
from compreface_cli.runtimes import RUNTIMES

Report: TypeAlias = Callable[[str], None]
# (label, total) -> a block that yields advance(amount); Output.progress is one
Progress: TypeAlias = Callable[[str, float | None], AbstractContextManager[Callable[[float], None]]]

_PROOF_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class EngineInputs:
    """The inputs that an environment is made from."""

    row: str  # of the wheel table: cpu, cuda13, ...
    requirements: tuple[Path, ...]  # each line has hashes
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
    """An environment that was made completely and passed its test."""

    key: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def converts(row: str) -> bool:
    """Whether that row's environment can also prepare models; otherwise the `cpu` row's does."""
    # A framework needs other versions of some packages than the converter.
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
    """The environment for these inputs if it exists and is proven; starts no process."""
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
    """The environment for these inputs; made and proven first if it does not exist.

    `wheels` is a folder of wheels for a machine without network. Raises FetchError when a package
    is unavailable or has another hash, ConfigurationError when this Python cannot make
    environments, CfError when the new one does not work; in each case nothing of it is left.
    """
    env = find(home, wanted)
    if env is not None:
        return env
    if wheels is not None and not wheels.is_dir():
        raise ConfigurationError(f"--wheels: {wheels} is not a folder")
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
                label = "Reusing the packages of the previous engine's environment"
                with progress(label, None):
                    _derive(folder, sibling, wanted)
            else:
                _make(folder, wanted, wheels, report, progress)
            with progress("Testing the environment with the reference face", None):
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
    """Remove the environments whose keys are not in `used`, except those that are being made."""
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
    """A proven environment with the same packages and another version of the engine."""
    packages = wanted.packages()
    for proven in home.glob("*/proven.json"):
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(proven.read_text(encoding="utf-8")).get("packages") == packages:
                return proven.parent
    return None


def _derive(folder: Path, sibling: Path, wanted: EngineInputs) -> None:
    """Link the sibling's packages (pip replaces files and never writes into them), add this engine.

    An upgrade of the engine alone therefore takes seconds, little disk space and no network.
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
    # The wheels are part of `cf`; their dependencies are pinned and installed already.
    wheels = [str(path) for path in wanted.wheels]
    _run_pip([*pip, "--no-deps", "--no-index", *wheels], None, lambda amount: None)


def _pip(python: Path) -> list[str]:
    """The `pip install` command for an environment.

    It is this Python's pip if there is one (22.3 and newer), which saves installing pip there.
    """
    own = importlib.util.find_spec("pip") is not None
    pip = (
        [sys.executable, "-m", "pip", "--python", str(python)]
        if own
        else [str(python), "-m", "pip"]
    )
    return [*pip, "install", "--no-compile", "--only-binary", ":all:"]


def _create(folder: Path) -> None:
    """Make an environment without packages."""
    own_pip = importlib.util.find_spec("pip") is not None
    if not own_pip and importlib.util.find_spec("ensurepip") is None:
        raise _no_venv("it has neither pip nor ensurepip")
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
                report("All packages are downloaded; unpacking them ...")
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


def _pip_error(output: str, wheels: Path | None) -> CfError:
    cause = causes.of("pip", output)
    if cause is not None and (full := re.search(r"No space left on device(: '([^']+)')?", output)):
        where = Path(full[2]) if full[2] else paths.engine_environments_dir()
        hint = f"It is the disk of {where}. {paths.room(where)} Then run the command again."
        details = {"pip": output, "path": str(where)}
        return cause.error(cause.what, hint=hint, details=details, topic=cause.topic)
    if cause is not None:
        error, what, hint = cause.error, cause.what, cause.hint
    elif wheels is not None:
        error, what, hint = FetchError, f"some of the engine's packages are not in {wheels}", ""
    else:
        error, what = FetchError, "the engine's packages could not be installed"
        hint = "Without network: put the wheels into a folder and pass --wheels DIR."
    said = f"pip printed:\n{output}\n{hint}".rstrip()
    about = cause.topic if cause else None
    return error(what, hint=said, details={"pip": output}, topic=about)


def _prove(python: Path) -> None:
    """Have the engine recognise a face in the new environment, which exercises its packages."""
    try:
        engine_python.run(
            python, "compreface_engine", "check", "--portrait", str(resources.portrait()),
            timeout_s=_PROOF_TIMEOUT_S,
        )  # fmt: skip
    except TimeoutError as error:
        raise CfError(
            f"the engine's new environment gave no answer in {_PROOF_TIMEOUT_S:.0f} s; it was "
            "removed"
        ) from error
    except engine_python.Failed as failed:
        raise CfError(
            "the engine's new environment does not work and was removed",
            hint=str(failed),
            details={"exit_code": failed.exit_code},
        ) from failed
