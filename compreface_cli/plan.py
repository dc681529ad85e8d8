"""What is wanted: `Plan`, the settled form of a build and its settings; nothing in it depends on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from compreface_cli.models.types import Model, ModelFile

__all__ = [
    "Missing",
    "Model",
    "ModelFile",
    "Operation",
    "Plan",
]

Device = Literal["cpu", "cuda"]
LauncherKind = Literal["auto", "compose", "process"]
Services = Literal["full", "core"]
Port = int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A plugin or model of the build that cannot run, and the way out."""

    what: str  # "plugin insightface.FaceDetector@retinaface_r50_v1"
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `render`, the checks and a launcher need; no Optional is left open but by meaning."""

    # the build
    build: str
    summary: str
    detector: str
    calculator: str
    plugins: tuple[str, ...]
    runtime: Literal["onnxruntime", "tensorflow", "mxnet"]
    device: Device
    gpu_index: int  # -1: CPU
    wheels: Literal["cpu", "cuda13", "cuda12", "cuda12-legacy"]  # row of the wheel table
    base_image: str
    models: tuple[Model, ...]
    missing: tuple[Missing, ...]
    # limits of the engine
    max_detect_size: int
    max_concurrency: int  # 0: as many as there are cores
    max_wait_s: float
    # the instance
    instance: str
    launcher: LauncherKind
    services: Services
    bind: str
    port: Port  # the user's door: UI with the full stack, engine otherwise
    core_port: Port  # the engine's own loopback port beside the full stack
    image: str  # repository:tag of the core image
    # the rest of the stack: upstream's `.env` values, by our setting names (registry, postgres_user, ...)
    stack: Mapping[str, str] = field(default_factory=dict)
    # where each value came from: flag, environment, project file, user file, build, default
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str:
        """The Compose project's name."""
        return f"cf-{self.instance}"

    @property
    def volume(self) -> str:
        return f"{self.project}_postgres-data"

    def engine_environment(self) -> dict[str, str]:
        """The engine's environment variables for this plan, paths and ports aside."""
        return {
            "FACE_DETECTION_PLUGIN": self.detector,
            "CALCULATION_PLUGIN": self.calculator,
            "EXTRA_PLUGINS": ",".join(self.plugins) or ",",
            "IMG_LENGTH_LIMIT": str(self.max_detect_size),
            "GPU_IDX": str(self.gpu_index),
            "CF_RUNTIME": self.runtime,
            "CF_MAX_WAIT_S": f"{self.max_wait_s:g}",
            **({"CF_MAX_CONCURRENCY": str(self.max_concurrency)} if self.max_concurrency else {}),
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a launcher will do, and why it is needed; a dry run prints these, `up` executes them."""

    verb: str  # "prepare model", "build image", "write project", "create volume", "start", ...
    target: str
    cause: str
