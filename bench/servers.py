"""The compared servers (the engine, TensorFlow, the public peers) and their models."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import peers_env, tensorflow_env
from bench.processes import Server, free_port, running
from compreface_cli import resources
from compreface_cli.models import catalogue, store
from compreface_cli.models.entry import Model
from compreface_cli.terminal.output import Output
from tools import source_python

ROOT = Path(__file__).resolve().parent.parent
FACENET = "20180402-114759"
SAMPLES = "faces/compreface-samples"
PHOTO = f"{SAMPLES}/000_5.jpg"


@dataclass(frozen=True, slots=True)
class Build:
    """The engine's plugins and models; `models` are entries or names of the catalogue."""

    detector: str
    calculator: str
    models: tuple[str | Model, ...]
    extras: str = ","
    environment: tuple[tuple[str, str], ...] = ()


# The build's setting: the fastest runtime of this machine, measured at the first start only.
_AUTO = (("CF_RUNTIME", "auto"), ("CF_CHOICES_DIR", str(ROOT / ".cache" / "bench" / "choices")))
FACENET_BUILD = Build("facenet.FaceDetector", "facenet.Calculator", (FACENET,), environment=_AUTO)
MOBILENET_BUILD = Build(
    "retinaface.FaceDetector@mnet25_retrained",
    "custom.Calculator@arcface_mobilefacenet_rgb",
    ("mnet25_retrained", "arcface_mobilefacenet_rgb"),
)


def prepared(shared: Path, models: Sequence[str | Model]) -> Path:
    """The engine's models, prepared once for all benchmarks of this checkout."""
    cache = ROOT / ".cache" / "bench"
    places = store.Places(
        models=cache / "models",
        weights=cache / "weights",
        accepted=cache / "accepted.json",
        mirror=str(shared / "models"),
    )
    out = Output()
    known = catalogue.models()
    store.ensure(
        [known[model] if isinstance(model, str) else model for model in models],
        out.progress,
        python=lambda: source_python.write(cache),
        portrait=resources.portrait(),
        note=out.note,
        places=places,
    )
    return places.models


def engine(
    shared: Path, work: Path, build: Build, environment: Mapping[str, str] | None = None
) -> AbstractContextManager[Server]:
    """The engine with its default settings, in a process of its own."""
    port = free_port()
    settings = {
        "PYTHONPATH": str(ROOT / "engine"),
        "CF_PORT": str(port),
        "CF_MODELS_DIR": str(prepared(shared, build.models)) if build.models else "",
        "FACE_DETECTION_PLUGIN": build.detector,
        "CALCULATION_PLUGIN": build.calculator,
        "EXTRA_PLUGINS": build.extras,
        "LOGGING_LEVEL_NAME": "warning",
        **dict(build.environment),
        **(environment or {}),
    }
    command = [sys.executable, "-m", "compreface_engine"]
    return running("engine", command, port, settings, work / "engine.log")


def tensorflow(shared: Path, work: Path, kind: str) -> AbstractContextManager[Server]:
    """The TensorFlow baseline, `tuned` or `plain`."""
    port = free_port()
    mtcnn, facenet = shared / "models/mtcnn/mtcnn.npz", shared / f"models/facenet/{FACENET}.pb"
    module = "bench.baseline_tensorflow"
    command = [str(tensorflow_env.ensure()), "-m", module, str(port), str(mtcnn), str(facenet)]
    settings = {"PYTHONPATH": str(ROOT)}
    return running("baseline", [*command, kind], port, settings, work / "baseline.log")


def peer(
    name: str, work: Path, detector: Path, recogniser: Path, at_once: int
) -> AbstractContextManager[Server]:
    """A public peer with these weights."""
    port = free_port()
    command = [str(peers_env.ensure()), "-m", "bench.peer_server", str(port), name]
    files = [str(detector), str(recogniser), str(at_once)]
    label = f"{name}, {at_once} at once"
    settings = {"PYTHONPATH": str(ROOT)}
    return running(label, [*command, *files], port, settings, work / f"{name}.log")
