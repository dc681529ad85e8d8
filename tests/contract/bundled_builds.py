"""An engine process for each bundled build that can run on this machine."""

from __future__ import annotations

from pathlib import Path

from compreface_cli.builds.builds import load
from compreface_cli.config import settings
from compreface_cli.models import store
from compreface_cli.plan import plan
from tests.cli.local_cf import shared_environment
from tests.cli.prepared_models import places, plan_here, prepared
from tests.contract.process import Engine
from tests.shared import NO_SHARED, ROOT, SHARED

NAMES = sorted(path.stem for path in (ROOT / "builds").glob("*.yaml"))


def plan_of(build: str) -> plan.Plan:
    if SHARED is None:
        return plan.resolve(load(build), settings.Settings())
    return plan_here(build)


def why_not_here(build: str) -> str:
    """Why the build cannot run on this machine without a download; empty if it can."""
    wanted = plan_of(build)
    if wanted.device != "cpu":
        return f"{build} is for a GPU ({wanted.device})"
    if wanted.models and SHARED is None:
        return f"{build} needs {', '.join(model.name for model in wanted.models)}; {NO_SHARED}"
    absent = [
        file.path
        for model in wanted.models
        if store.state(model, places()) != "here"
        for file in model.files
        if not (Path(places().mirror) / file.path).is_file()
    ]
    return f"{build} needs {', '.join(absent)}, which no mirror here has" if absent else ""


def engine_of(build: str, models: Path) -> Engine:
    """The engine as `cf up` starts it for the build; its models are linked into `models`."""
    wanted = plan_of(build)
    models.mkdir(parents=True)
    if wanted.models:
        prepared(build, models, shared_environment())
    return Engine(**wanted.engine_environment(), CF_MODELS_DIR=str(models))
