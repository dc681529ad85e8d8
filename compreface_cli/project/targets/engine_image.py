"""What the engine's image is built from: the folder `core/` of every rendered project."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compreface_cli import __version__, resources
from compreface_cli.docker.labels import (
    LABEL_BUILD,
    LABEL_CALCULATOR,
    LABEL_DETECTOR,
    LABEL_DEVICE,
    LABEL_LIMITS,
    LABEL_MIN_COSINE,
    LABEL_MODELS,
    LABEL_PLUGINS,
    LABEL_RUNTIME,
    LABEL_WHEELS,
)
from compreface_cli.errors import FetchError
from compreface_cli.plan.plan import Plan
from compreface_cli.project.rendered import Content, FileRef
from compreface_cli.project.targets.templating import jinja
from compreface_cli.runtimes import RUNTIMES

PREPARED = ("model.json", "model.onnx")  # files of every prepared model


def files(
    plan: Plan,
    models: Mapping[str, Path] | None = None,
    *,
    with_models: bool = True,
    revision: str | None = None,
) -> dict[str, Content]:
    """The files of `core/` with its Dockerfile; none where an image is taken as it is.

    `models`: the folder of each prepared model by name. Raises FetchError for one that is missing.
    """
    if plan.image_alone:
        return {}
    content = _files(plan, (models or {}) if with_models else None)
    context = _of_image(plan, content, revision or resources.revision())
    template = jinja().get_template("engine.Dockerfile.j2")
    return {**content, "core/Dockerfile": template.render(context)}


def _files(plan: Plan, models: Mapping[str, Path] | None) -> dict[str, Content]:
    """The files that the engine's image is built from; `models` None: without them."""
    wheel = resources.engine_wheel()
    return {
        f"core/{wheel.name}": FileRef.of(wheel),
        "core/requirements.txt": FileRef.of(resources.engine_requirements(plan.wheels)),
        **({} if models is None else _model_files(plan, models)),
    }


def _of_image(plan: Plan, files: Mapping[str, Content], revision: str) -> dict[str, Any]:
    """What the Dockerfile's template needs."""
    wheel = resources.engine_wheel()
    return {
        "version": __version__,
        "build": plan.build,
        "base_image": plan.base_image,
        "wheel": wheel.name,
        "models": [model.name for model in plan.models],
        "environment": _image_environment(plan),
        "labels": _image_labels(plan, files, wheel, revision),
    }


def _image_environment(plan: Plan) -> list[tuple[str, str]]:
    """The environment variables of the image, in the order of its lines."""
    chosen = plan.image_environment()
    if RUNTIMES[plan.runtime].measured:
        # The root file system is read-only and the host may change: each start measures again.
        chosen["CF_CHOICES_DIR"] = "/tmp/runtimes"  # noqa: S108
    chosen |= {"CF_HOST": "0.0.0.0", "CF_PORT": "3000"}  # noqa: S104
    if plan.models:
        chosen["CF_MODELS_DIR"] = "/models"
    return list(chosen.items())


def _image_labels(
    plan: Plan, files: Mapping[str, Content], wheel: Path, revision: str
) -> list[tuple[str, str]]:
    return [
        ("org.opencontainers.image.title", f"compreface-core, build {plan.build}"),
        ("org.opencontainers.image.description", plan.summary or plan.build),
        ("org.opencontainers.image.version", __version__),
        ("org.opencontainers.image.revision", revision),
        ("org.opencontainers.image.licenses", "Apache-2.0"),
        ("org.opencontainers.image.base.name", plan.base_image),
        (LABEL_BUILD, plan.build),
        (LABEL_DETECTOR, plan.detector),
        (LABEL_CALCULATOR, plan.calculator),
        (LABEL_PLUGINS, ",".join(plan.plugins)),
        (LABEL_RUNTIME, f"{plan.runtime} {plan.precision}"),
        (LABEL_MIN_COSINE, f"{plan.min_cosine:g}"),
        (LABEL_DEVICE, plan.device),
        (LABEL_WHEELS, plan.wheels),
        *([(LABEL_LIMITS, limits)] if (limits := _limits(plan)) else []),
        (LABEL_MODELS, ",".join(f"{name}={sha}" for name, sha in _models_in(files, wheel).items())),
    ]


def _limits(plan: Plan) -> str:
    """The limits that the build itself sets, as `KEY=VALUE` with commas between."""
    keys = ("max_detect_size", "max_concurrency", "max_wait_s")
    own = {
        key: getattr(plan, key) for key in keys if plan.origins.get(key) == f"build {plan.build}"
    }
    if not own.get("max_concurrency"):
        own.pop("max_concurrency", None)  # the build leaves it to the machine
    return ",".join(f"{key}={value:g}" for key, value in own.items())


def _models_in(files: Mapping[str, Content], wheel: Path) -> dict[str, str]:
    """Name and SHA-256 of every network in the image: those of the engine's wheel first."""
    hashes = dict(_models_in_wheel(wheel))
    for path, content in sorted(files.items()):
        if path.endswith("/model.onnx") and isinstance(content, FileRef):
            hashes[Path(path).parent.name] = content.sha256
    return hashes


@cache
def _models_in_wheel(wheel: Path) -> Mapping[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            Path(name).stem: hashlib.sha256(archive.read(name)).hexdigest()
            for name in sorted(archive.namelist())
            if name.startswith("compreface_engine/embedded_models/") and name.endswith(".onnx")
        }


def _model_files(plan: Plan, models: Mapping[str, Path]) -> dict[str, Content]:
    files: dict[str, Content] = {}
    for model in plan.models:
        folder = models.get(model.name)
        if folder is None or not all((folder / name).is_file() for name in PREPARED):
            raise FetchError(
                f"the model {model.name} is not prepared on this machine",
                hint="`cf up` or `cf render` prepare it; --no-models leaves it out of the folder",
            )
        kept = sorted((folder / "source").iterdir()) if model.keep_source else []
        for path in [*(folder / name for name in PREPARED), *kept]:
            place = path.relative_to(folder).as_posix()
            files[f"core/models/{model.name}/{place}"] = FileRef.of(path)
    return files
