"""The known answer that no file stores: the engine's converter computes it from prepared models.

It runs the networks that the converter has proven, in ONNX Runtime and apart from the server that
must say the same. It is kept beside the models, under a name that depends on their bytes and on
their entries.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compreface_cli import child_processes, plugin_table, resources
from compreface_cli.config import paths
from compreface_cli.errors import CfError, FetchError
from compreface_cli.models import prepare, store
from compreface_cli.models.files import disk_error, make_folder
from compreface_cli.plan.plan import Plan

FOLDER = ".answers"
_TIMEOUT_S = 300.0


def of(plan: Plan, python: Callable[[], Path], portrait: str) -> dict[str, Any]:
    """The converter's answer for the plan's detector and calculator, computed once.

    `python` gives an interpreter with the converter, and is called only if nothing is kept.
    """
    known = _kept(plan, portrait)
    if known is not None:
        return known
    kept = _place(plan, portrait)
    answer = _compute(plan, python(), resources.portraits_dir() / portrait)
    make_folder(kept.parent)
    part = kept.with_suffix(".part")
    try:
        part.write_text(json.dumps(answer), encoding="utf-8")
        part.replace(kept)
    except OSError as error:
        raise disk_error(error, kept) from error
    return answer


def is_kept(plan: Plan, portrait: str) -> bool:
    """Whether the answer was computed before."""
    return _kept(plan, portrait) is not None


def _kept(plan: Plan, portrait: str) -> dict[str, Any] | None:
    try:
        known = json.loads(_place(plan, portrait).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # never computed, or damaged
    return known if isinstance(known, dict) else None


def _place(plan: Plan, portrait: str) -> Path:
    return paths.models_dir() / FOLDER / f"{_key(plan, portrait)}.json"


def _key(plan: Plan, portrait: str) -> str:
    named = plugin_table.models_of((plan.detector, plan.calculator))
    # The entry too: the same weights answer otherwise where colour, mean or scale is another.
    models = {
        one.name: [store.fingerprint(one), prepare.entry_digest(one)]
        for one in plan.models
        if one.name in named
    }
    text = json.dumps([plan.detector, plan.calculator, models, portrait], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _compute(plan: Plan, python: Path, portrait: Path) -> dict[str, Any]:
    command = [
        str(python), "-m", "compreface_convert", "answer", "--detector", plan.detector,
        "--calculator", plan.calculator, "--models-dir", str(paths.models_dir()),
        "--portrait", str(portrait), "--json",
    ]  # fmt: skip
    pair = f"{plan.detector} with {plan.calculator}"
    try:
        done = child_processes.run(command, timeout_s=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CfError(f"the known answer of {pair} was not there after {_TIMEOUT_S:g} s") from error
    try:
        document = json.loads(done.stdout)
    except ValueError:
        document = {}
    if done.returncode or "embedding" not in document:
        said = document.get("error", {}).get("message") or done.stderr.strip()[-600:]
        if done.returncode == prepare.REFUSED:
            raise FetchError(
                f"{pair} does not know the known face: {said}",
                hint="Look at the build's models: their files, and `input` (size, colour, mean "
                "and scale must be as the network was trained).",
            )
        raise CfError(
            f"the known answer of {pair} could not be computed: {said}",
            hint="Without one a wrong engine cannot be told. Look at the models of the build.",
        )
    return {key: document[key] for key in ("box", "embedding", "similarity")}
