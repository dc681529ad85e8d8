"""The models of bundled builds, prepared once from the shared weights and kept for the next run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from compreface_cli import resources
from compreface_cli.builds.builds import load
from compreface_cli.config import settings
from compreface_cli.engine.venv import EngineEnv
from compreface_cli.models import catalogue, store
from compreface_cli.models.entry import Model
from compreface_cli.plan import fallbacks, plan
from tests.shared import ROOT, shared

# By model of upstream whose file is not at hand, one of its architecture that stands in for it.
STAND_INS: Mapping[str, str] = {"retinaface_mnet025_v1": "mnet25_retrained"}


def _converter() -> str:
    """Changes with the converter, so that no test runs on what an older one has made."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "engine" / "compreface_convert").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def places() -> store.Places:
    """Where the tests keep what they have prepared; the shared weights are the mirror."""
    cache = ROOT / ".cache" / "test-models" / _converter()
    mirror = cache / ".mirror"
    mirror.mkdir(parents=True, exist_ok=True)
    for folder in shared("models").iterdir():
        _link(mirror / folder.name, folder)
    for name, instead in STAND_INS.items():
        for theirs, ours in zip(_files(name), _files(instead), strict=True):
            (mirror / theirs).parent.mkdir(exist_ok=True)
            _link(mirror / theirs, shared("models", ours))
    return store.Places(cache, cache / ".weights", cache / ".hashes", str(mirror))


def _files(model: str) -> list[str]:
    return [file.path for file in catalogue.models()[model].files]


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)


def plan_here(build: str) -> plan.Plan:
    """The build's plan, with its fallbacks for models whose files are not among the shared ones."""
    wanted = plan.resolve(load(build), settings.Settings())
    absent = {
        model.name: "its file is not among the shared ones"
        for model in wanted.models
        if model.name in fallbacks.optional(wanted) and not _is_here(model)
    }
    return fallbacks.without(wanted, absent)


def _is_here(model: Model) -> bool:
    return all((Path(places().mirror) / file.path).is_file() for file in model.files)


def prepared(build: str, models: Path, environment: EngineEnv) -> None:
    """Put the prepared models of a bundled build into the folder `models` of some `cf`."""
    kept = places()
    wanted = plan_here(build).models
    known = catalogue.models()
    store.ensure(
        wanted,
        lambda label, total: nullcontext(lambda amount: None),
        python=lambda: environment.python,
        portrait=resources.portrait(),
        places=kept,
        accept_hash={
            model.name: [file.sha256[0] for file in known[STAND_INS[model.name]].files]
            for model in wanted
            if model.name in STAND_INS
        },
    )
    models.mkdir(parents=True, exist_ok=True)
    for model in wanted:
        (models / model.name).symlink_to(kept.models / model.name)
