"""Whether each plugin can run its prepared model: the engine's code is asked before it is started.

Models of the catalogue with their published hash are known to fit. What was found to fit is noted
beside the models, under a name that depends on their bytes, their entries and the engine.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from compreface_cli import child_processes, plugin_table
from compreface_cli.config import paths
from compreface_cli.engine import venv
from compreface_cli.engine.converter import FOLDER
from compreface_cli.errors import CfError, FetchError
from compreface_cli.models import prepare, store
from compreface_cli.models.files import disk_error, make_folder
from compreface_cli.plan.plan import Model, Plan

_TIMEOUT_S = 300.0
_TRIAL = f"""
import json, sys
from pathlib import Path
from compreface_engine.core.errors import EngineError
from compreface_engine.pipeline import Pipeline, PipelineConfig
folder, detector, calculator, *plugins = sys.argv[1:]
try:
    Pipeline.load(PipelineConfig(detector, calculator, tuple(plugins), models_dir=Path(folder)))
except EngineError as error:
    print(error)
    sys.exit({prepare.REFUSED})
"""


def check(plan: Plan, python: Callable[[], Path]) -> None:
    """Raises FetchError for a model that its plugin cannot run.

    `python` gives an interpreter with the engine, and is called only if nobody has tried yet.
    """
    if not is_due(plan):
        return
    doubtful, tried = _doubtful(plan), _note(plan)
    plugins = (plan.detector, plan.calculator, *plan.plugins)
    command = [str(python()), "-c", _TRIAL, str(paths.models_dir()), *plugins]
    try:
        done = child_processes.run(command, timeout_s=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CfError(f"the plugins did not load their models in {_TIMEOUT_S:g} s") from error
    if done.returncode == prepare.REFUSED:
        raise FetchError(
            f"a model does not fit its plugin: {done.stdout.strip()}",
            hint=f"Look at {' and at '.join(_whose(model, plugins) for model in doubtful)} in the "
            "build: another file may be meant, another plugin, or another `input`.",
        )
    if done.returncode:
        raise CfError(f"the plugins could not be tried: {done.stderr.strip()[-600:]}")
    make_folder(tried.parent)
    try:
        tried.touch()
    except OSError as error:
        raise disk_error(error, tried) from error


def is_due(plan: Plan) -> bool:
    """Whether nobody has tried yet."""
    return bool(_doubtful(plan)) and not _note(plan).exists()


def _doubtful(plan: Plan) -> list[Model]:
    return [model for model in plan.models if not _published(model)]


def _note(plan: Plan) -> Path:
    return paths.models_dir() / FOLDER / f"{_key(plan)}.fits"


def _published(model: Model) -> bool:
    record = prepare.read_record(paths.models_dir() / model.name)
    return (
        not model.build_folder
        and record is not None
        and all(record.sources.get(one.path) in one.sha256 for one in model.files)
    )


def _key(plan: Plan) -> str:
    models = [[one.name, store.fingerprint(one), prepare.entry_digest(one)] for one in plan.models]
    engine = venv.inputs(plan.wheels).key()
    plugins = [plan.detector, plan.calculator, *plan.plugins]
    return hashlib.sha256(json.dumps([plugins, models, engine]).encode()).hexdigest()[:24]


def _whose(model: Model, plugins: tuple[str, ...]) -> str:
    users = [plugin for plugin in plugins if plugin_table.model_of(plugin) == model.name]
    files = ", ".join(one.path for one in model.files)
    return f"{model.name} ({files}) for {' and '.join(users)}"
