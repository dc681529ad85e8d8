"""The models of bundled builds, prepared once from the shared weights and kept for the next run."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path

from compreface_cli import resources
from compreface_cli.builds.builds import load
from compreface_cli.config import settings
from compreface_cli.engine.venv import EngineEnv
from compreface_cli.models import store
from compreface_cli.plan import plan
from tests.shared import ROOT, shared


def _converter() -> str:
    """Changes with the converter, so that no test runs on what an older one has made."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "engine" / "compreface_convert").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def places() -> store.Places:
    """Where the tests keep what they have prepared; the shared weights are the mirror."""
    cache = ROOT / ".cache" / "test-models" / _converter()
    return store.Places(cache, cache / ".weights", cache / ".hashes", str(shared("models")))


def prepared(build: str, models: Path, environment: EngineEnv) -> None:
    """Put the prepared models of a bundled build into the folder `models` of some `cf`."""
    kept = places()
    wanted = plan.resolve(load(build), settings.Settings()).models
    store.ensure(
        wanted,
        lambda label, total: nullcontext(lambda amount: None),
        python=lambda: environment.python,
        portrait=resources.portrait(),
        places=kept,
    )
    models.mkdir(parents=True, exist_ok=True)
    for model in wanted:
        (models / model.name).symlink_to(kept.models / model.name)
