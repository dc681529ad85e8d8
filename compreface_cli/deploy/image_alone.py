"""`cf up --image NAME` without a build: the image's labels describe what it runs and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compreface_cli import __version__
from compreface_cli.builds import builds, spec
from compreface_cli.builds.builds import BuildFile
from compreface_cli.config.settings import Settings, Value
from compreface_cli.config.settings_table import BUILD
from compreface_cli.docker.labels import (
    LABEL_ANSWER,
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
from compreface_cli.engine import known_answer
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.errors import ConfigurationError, FetchError, UsageError
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import REFERENCE, RUNTIMES
from compreface_cli.terminal.output import Output

_VERSION = "org.opencontainers.image.version"  # of cf
_SUMMARY = "org.opencontainers.image.description"
_BASE = "org.opencontainers.image.base.name"
NEEDED = (
    LABEL_BUILD, LABEL_DETECTOR, LABEL_CALCULATOR, LABEL_PLUGINS, LABEL_MODELS, LABEL_RUNTIME,
    LABEL_MIN_COSINE, LABEL_DEVICE, LABEL_WHEELS,
)  # fmt: skip
# What is in the image; the other settings of a build are this machine's.
_DECIDED = [row for row in BUILD if row.key not in ("build", "image", "gpu_index", "fallbacks")]


def asked(chosen: Settings) -> str:
    """The image that is to be started without a build; "" if a build or a process is asked for."""
    image, build, launcher = (chosen.given(key) for key in ("image", "build", "launcher"))
    if image is None or build is not None:
        return ""
    if launcher is not None and launcher.value == "process":
        if image.layer != "flag":
            return ""
        raise UsageError(
            f"--image {image.value} needs Docker, and the launcher is process ({launcher.where})",
            hint="Leave one of them out.",
        )
    return str(image.value)


def refuse_flags(chosen: Settings) -> None:
    """Raise UsageError for a flag that would change what is in the image."""
    for row in _DECIDED:
        given = chosen.given(row.key)
        if given is not None and given.layer == "flag":
            raise UsageError(
                f"{row.flag} cannot change an image that is started without its build",
                hint=f"Leave it out, or name a build: cf up BUILD {row.flag} ...",
            )


def settings_for(chosen: Settings, labels: Mapping[str, str], out: Output) -> Settings:
    """The settings, with the image's own values of what it decides."""
    values = dict(chosen.values)
    for row in _DECIDED:
        if (given := values.pop(row.key, None)) is not None:
            out.note(f"{row.key} ({given.where}) has no effect: the image decides it")
    wheels = labels[LABEL_WHEELS]
    if labels[LABEL_DEVICE] == "cuda" and wheels in RUNTIMES[REFERENCE].gpu_wheels:
        values["wheels"] = Value(wheels, "flag", f"label {LABEL_WHEELS}")
    return Settings(values)


def labels_of(
    name: str, out: Output, *, pull: bool = False, dry_run: bool = False
) -> Mapping[str, str]:
    """The labels of that image, which is pulled where it is absent; raises FetchError."""
    from compreface_cli.deploy.build import shown
    from compreface_cli.docker import image as images

    if dry_run:
        image = images.find(name)
        if image is None:
            raise FetchError(
                f"the image {name} is not available locally, and a dry run pulls nothing",
                hint=f"docker pull {name}, then run the command again.",
            )
    else:
        image = images.obtain(name, report=out.note, waiting=shown(out), pull=pull)
    return image.labels


def build_of(name: str, labels: Mapping[str, str]) -> BuildFile:
    """The build that the labels of that image describe.

    Raises ConfigurationError for missing labels, and for a build that this cf does not know.
    """
    missing = [label for label in NEEDED if label not in labels]
    if missing:
        raise _not_described(name, labels, missing)
    summary = labels.get(_SUMMARY, "")  # the build's name, if it has none
    runtime, _, precision = labels[LABEL_RUNTIME].partition(" ")
    data: dict[str, Any] = {
        "schema": 1,
        "name": labels[LABEL_BUILD],
        "summary": "" if summary == labels[LABEL_BUILD] else summary[:200],
        "runtime": runtime,
        "precision": precision,
        "min_cosine": _number(labels[LABEL_MIN_COSINE]),
        "device": labels[LABEL_DEVICE],
        "detector": labels[LABEL_DETECTOR],
        "calculator": labels[LABEL_CALCULATOR],
        "plugins": [plugin for plugin in labels[LABEL_PLUGINS].split(",") if plugin],
        "base_image": labels.get(_BASE),
        "limits": {
            key: _number(value)
            for key, _, value in (
                pair.partition("=") for pair in labels.get(LABEL_LIMITS, "").split(",") if pair
            )
        },
    }
    try:
        build = spec.validate(builds.read_data(data, f"the labels of {name}"))
    except ConfigurationError as error:
        faults = "; ".join(str(fault["message"]) for fault in error.details["faults"])
        raise ConfigurationError(
            f"the labels of the image {name} describe no build that this cf can run: {faults}",
            hint=f"It was built by cf {labels.get(_VERSION, '?')}; this is cf {__version__}.",
        ) from error
    return BuildFile(build, "image", Path(name))


def answer_of(plan: Plan, labels: Mapping[str, str] | None = None) -> KnownAnswer:
    """What the engine of the plan's image must answer, by its label, else as `cf` ships it.

    Raises ConfigurationError if there is neither. `labels`: of the image, if they were read.
    """
    if labels is None:
        from compreface_cli.docker import image as images

        image = images.find(plan.image)
        labels = image.labels if image is not None else {}
    text = labels.get(LABEL_ANSWER)
    if text is not None:
        return known_answer.of_label(plan, text, f"label {LABEL_ANSWER} of {plan.image}")
    shipped = known_answer.stored(plan, {})
    if shipped is None:
        raise _not_described(plan.image, labels, [LABEL_ANSWER])
    return shipped


def _not_described(
    name: str, labels: Mapping[str, str], missing: Sequence[str]
) -> ConfigurationError:
    build, version = labels.get(LABEL_BUILD), labels.get(_VERSION, "an earlier version")
    hint = (
        "Name an image that `cf build` made. CompreFace's own images have other programs in them; "
        "`cf up facenet` runs their networks, and `cf list-builds` shows the other builds."
    )
    if build is not None:
        hint = (
            f"It was built from {build} by cf {version}. Name that build: cf up {build} --image "
            f"{name}. Or build the image again with this cf."
        )
    return ConfigurationError(
        f"the image {name} does not describe the engine in it: it lacks the label"
        f"{'' if len(missing) == 1 else 's'} {', '.join(missing)}",
        hint=hint,
        details={"image": name, "missing": list(missing)},
    )


def _number(text: str) -> float | int | str:
    """The number of a label; other text as it is, for the check of the build."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
