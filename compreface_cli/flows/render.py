"""`cf render`: a folder that builds and runs without `cf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli import project
from compreface_cli import render as renderer
from compreface_cli.checks import port, raise_for
from compreface_cli.errors import UsageError
from compreface_cli.flows import reach, render_place, show
from compreface_cli.flows.build import prepared_models
from compreface_cli.launch.base import interruptible
from compreface_cli.output import Output
from compreface_cli.plan import Plan
from compreface_cli.project import Written

MODELS = "core/models"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was written, and the plan that it was rendered from."""

    plan: Plan
    written: Written
    digest: str
    missing_models: tuple[str, ...] = ()  # without them the image cannot be built


def render(
    flags: Mapping[str, Any],
    folder: Path,
    out: Output,
    *,
    with_models: bool = True,
    accept_hash: Mapping[str, Sequence[str]] | None = None,
) -> Rendered:
    """Render the build that the flags and settings choose into the folder."""
    # A rendered project is one for Compose, whatever the settings say for `up`.
    plan, notes = show.resolved({**flags, "launcher": "compose"})
    for note in notes:
        out.note(note)
    both = port.clash(plan)
    if both is not None:
        raise UsageError(both, hint="Give another --core-port.")
    render_place.refuse(plan, folder, out)
    if with_models:
        raise_for(reach.out_of_reach(plan))
    with interruptible():
        models = prepared_models(plan, out, accept_hash=accept_hash) if with_models else {}
        rendered = renderer.render(plan, models, with_models=with_models)
        written = project.write(rendered, folder)
    missing = [one.name for one in plan.models if not (folder / MODELS / one.name).is_dir()]
    return Rendered(plan, written, rendered.digest(), tuple(missing))
