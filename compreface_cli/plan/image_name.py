"""The name of an engine's image, which follows from all that is in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from compreface_cli import __version__
from compreface_cli.docker.labels import IMAGE
from compreface_cli.models.entry import Model

if TYPE_CHECKING:
    from compreface_cli.plan.plan import Plan


def _of_image(model: Model) -> dict[str, Any]:
    """The fields of a model that affect an image: not its folder, its threshold or the sizes."""
    entry = asdict(replace(model, alternatives=()))
    del entry["border"], entry["build_folder"]
    for file in entry["files"]:
        del file["bytes"]
    entry["alternatives"] = [_of_image(other) for other in model.alternatives]
    if not model.alternatives:
        del entry["alternatives"]
    return entry | {"beside": ""}  # in the hash of each image's name since the first version


def image_name(plan: Plan) -> str:
    """The image's name, unique for each engine: it ends in a hash of all choices."""
    choice = {
        "version": __version__,
        "plugins": [plan.detector, plan.calculator, *plan.plugins],
        "runtime": [plan.runtime, plan.precision, plan.min_cosine, plan.device],
        "packages": [plan.gpu_index, plan.wheels, plan.base_image],
        "models": [_of_image(model) for model in plan.models],
    }
    digest = hashlib.sha256(json.dumps(choice, sort_keys=True).encode()).hexdigest()
    return f"{IMAGE}:{plan.build}-{digest[:8]}"
