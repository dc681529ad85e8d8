"""Checks the prepared models before the engine serves, and computes the reference answer.

Both run the engine's code in its environment. The results are kept in the folder of the models,
under a name that depends on the models' bytes and entries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compreface_cli import engine_python, plugin_table, resources
from compreface_cli.config import paths
from compreface_cli.engine import venv
from compreface_cli.errors import CfError, FetchError
from compreface_cli.models import prepare, store
from compreface_cli.models.files import disk_error, make_folder
from compreface_cli.plan.plan import Model, Plan

FOLDER = ".answers"
_TIMEOUT_S = 300.0


def models(plan: Plan, python: Callable[[], Path]) -> None:
    """Raises FetchError for a model that its plugin cannot run.

    Models of the catalogue with their published hash are known to run. `python` returns an
    interpreter with the engine; it is called only if these models were not checked before.
    """
    if not models_are_due(plan):
        return
    doubtful, checked, plugins = _doubtful(plan), _checked(plan), _plugins(plan)
    try:
        _ask(python(), plugins)
    except engine_python.Failed as failed:
        if not failed.refused:
            raise CfError(f"the plugins could not be checked: {failed}") from failed
        raise FetchError(
            f"a model does not fit its plugin: {failed}",
            hint=f"Check {' and '.join(_users(model, plugins) for model in doubtful)} in the "
            "build: the file, the plugin and the model's `input` must belong together.",
        ) from failed
    _write(checked, "")


def models_are_due(plan: Plan) -> bool:
    """Whether `models` has to run the engine."""
    return bool(_doubtful(plan)) and not _checked(plan).exists()


def answer(plan: Plan, python: Callable[[], Path]) -> dict[str, Any]:
    """The result of the plan's detector and calculator for the shipped portrait; computed once.

    `box` px, `embedding`, `similarity` (c0, c1). The models run in ONNX Runtime, in a process apart
    from the server whose answer is compared with it. `python` as for `models`.
    """
    known = _known(plan)
    if known is not None:
        return known
    pair = (plan.detector, plan.calculator)
    names = " with ".join(pair)
    try:
        result = _ask(python(), pair, "--portrait", str(resources.portrait()))
        document = {key: result["face"][key] for key in ("box", "embedding")}
        document["similarity"] = result["similarity"]
    except engine_python.Failed as failed:
        if failed.refused:
            raise FetchError(
                f"{names} does not recognise the reference face: {failed}",
                hint="Check the build's models: their files, and `input` (size, colour, mean "
                "and scale must be as the network was trained).",
            ) from failed
        raise _not_computed(names, str(failed)) from failed
    except (KeyError, TypeError) as error:
        raise _not_computed(names, f"the engine's answer lacks {error}") from error
    _write(_place(plan), json.dumps(document))
    return document


def answer_is_kept(plan: Plan) -> bool:
    """Whether `answer` was computed before."""
    return _known(plan) is not None


def _known(plan: Plan) -> dict[str, Any] | None:
    try:
        document = json.loads(_place(plan).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # never computed, or damaged
    return document if isinstance(document, dict) else None


def _place(plan: Plan) -> Path:
    """Where the answer of the plan's detector and calculator is kept."""
    pair = (plan.detector, plan.calculator)
    named = plugin_table.models_of(pair)
    used = [model for model in plan.models if model.name in named]
    return _kept(pair, used, resources.PORTRAIT).with_suffix(".json")


def _plugins(plan: Plan) -> tuple[str, ...]:
    return (plan.detector, plan.calculator, *plan.plugins)


def _doubtful(plan: Plan) -> list[Model]:
    return [model for model in plan.models if not _published(model)]


def _published(model: Model) -> bool:
    """Whether the model was made from files whose hashes the catalogue lists."""
    choice, record = store.chosen(model), prepare.read_record(paths.models_dir() / model.name)
    return (
        not model.build_folder
        and choice is not None
        and record is not None
        and all(record.sources.get(file.path) in file.sha256 for file in choice.files)
    )


def _checked(plan: Plan) -> Path:
    """The file that marks these models as checked: the engine has run them."""
    engine = venv.inputs(plan.wheels).key()
    return _kept(_plugins(plan), plan.models, engine).with_suffix(".fits")


def _not_computed(names: str, reason: str) -> CfError:
    return CfError(
        f"the reference answer of {names} could not be computed: {reason}",
        hint="It is needed to check the engine. Check the models of the build.",
    )


def _ask(python: Path, plugins: Sequence[str], *arguments: str) -> dict[str, Any]:
    detector, calculator, *others = plugins
    variables = {
        "FACE_DETECTION_PLUGIN": detector,
        "CALCULATION_PLUGIN": calculator,
        "EXTRA_PLUGINS": ",".join(others) or ",",
    }
    if paths.models_dir().is_dir():
        variables["CF_MODELS_DIR"] = str(paths.models_dir())
    command = ("check", "--limit-memory", *arguments)
    try:
        return engine_python.run(
            python, "compreface_engine", *command, timeout_s=_TIMEOUT_S, variables=variables
        )
    except TimeoutError as error:
        raise CfError(f"{' with '.join(plugins)}: {error}") from error


def _kept(plugins: Sequence[str], of: Sequence[Model], also: str) -> Path:
    """The file in which a result is kept, without its suffix."""
    # The entry counts too: with another colour, mean or scale the same weights answer differently.
    weights = [[model.name, store.fingerprint(model), prepare.entry_digest(model)] for model in of]
    text = json.dumps([plugins, weights, also])
    return paths.models_dir() / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:24]


def _write(kept: Path, text: str) -> None:
    make_folder(kept.parent)
    part = kept.with_suffix(".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(kept)
    except OSError as error:
        raise disk_error(error, kept) from error


def _users(model: Model, plugins: Sequence[str]) -> str:
    users = [plugin for plugin in plugins if plugin_table.model_of(plugin) == model.name]
    files = ", ".join(file.path for file in model.files)
    return f"{model.name} ({files}) for {' and '.join(users)}"
