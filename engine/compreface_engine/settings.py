"""The engine's settings, read once from environment variables; no other module reads them."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.table import AUTO, RUNTIMES
from compreface_engine.variables import Variables

if TYPE_CHECKING:
    from compreface_engine.pipeline import PipelineConfig

DEFAULT_DETECTOR = "embedded.FaceDetector@mtcnn"
DEFAULT_CALCULATOR = "embedded.Calculator@mobilefacenet192"
DEFAULT_EXTRAS = (
    "facenet.LandmarksDetector",
    "facenet.PoseEstimator",
    "embedded.AgeDetector",
    "embedded.GenderDetector",
)
CONTRACT_VERSION = "1.2.0"
PRECISIONS = ("auto", "fp32", "bf16")
BATCHINGS = ("auto", "on", "off")
MEBIBYTE = 1024 * 1024
_CONCURRENCY_ON_GPU = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the engine; times in seconds. The README describes each variable.

    `max_pixels` is width x height; `max_memory_bytes` 0 stands for the system's limit,
    `rate_limit` 0 for none.
    """

    host: str
    port: int
    detector: str
    calculator: str
    extras: tuple[str, ...]
    img_length_limit: int
    gpu_idx: int
    runtime: str
    precision: str
    min_cosine: float
    choices_dir: Path | None
    batching: str
    models_dir: Path | None
    threads: int
    max_concurrency: int
    max_wait_s: float
    retry_after: bool
    drain_s: float
    stuck_s: float
    max_queue: int
    max_queue_bytes: int
    max_body_bytes: int
    max_memory_bytes: int
    max_pixels: int
    body_timeout_s: float
    apply_exif: bool
    log_level: int
    build_version: str
    api_keys: tuple[str, ...] = field(repr=False)
    api_keys_file: Path | None  # that they were read from
    rate_limit: float
    rate_burst: int
    traces: bool
    service_name: str
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, cores: int | None = None) -> Settings:
        """The settings in `environ`, where empty means unset; `cores` replaces the host's number.

        Raises ConfigurationError with the variable, its value and the reason.
        """
        return cls.read(Variables(environ), cores=cores)

    @classmethod
    def read(cls, env: Variables, *, cores: int | None = None) -> Settings:
        """As `from_env`, from variables that are already looked up by type."""
        cores = usable_cores() if cores is None else cores
        processes = env.integer("UWSGI_PROCESSES", 0, low=1)
        threads = env.integer("UWSGI_THREADS", 0, low=1)
        gpu_idx = env.integer("GPU_IDX", -1, low=-1)
        batching = env.choice("CF_BATCHING", "auto", BATCHINGS)
        # Batches form where more requests are computed than the cores or the GPU can run at once.
        default = cores if batching != "on" else 2 * cores
        default = default if gpu_idx < 0 else max(_CONCURRENCY_ON_GPU, 2 * cores)
        concurrency = max(processes, 1) * max(threads, 1) if processes or threads else default
        rate = env.number("CF_RATE_LIMIT", 0.0, "a number of requests a second")
        models_dir = env.folder("CF_MODELS_DIR")
        choices = env.text("CF_CHOICES_DIR", "")
        build_version = env.text("APP_VERSION_STRING", CONTRACT_VERSION)
        settings = cls(
            host=env.text("CF_HOST", "127.0.0.1"),
            port=env.integer("CF_PORT", 3000, low=0, high=65535),
            detector=env.text("FACE_DETECTION_PLUGIN", DEFAULT_DETECTOR),
            calculator=env.text("CALCULATION_PLUGIN", DEFAULT_CALCULATOR),
            extras=env.names("EXTRA_PLUGINS", DEFAULT_EXTRAS),
            img_length_limit=env.integer("IMG_LENGTH_LIMIT", 640, low=0),
            gpu_idx=gpu_idx,
            runtime=env.choice("CF_RUNTIME", "onnxruntime", (*RUNTIMES, AUTO)),
            precision=env.choice("CF_PRECISION", "auto", PRECISIONS),
            min_cosine=env.cosine("CF_MIN_COSINE", 0.998),
            choices_dir=Path(choices) if choices else models_dir and models_dir / ".choices",
            batching=batching,
            models_dir=models_dir,
            threads=env.integer("CF_THREADS", cores, low=1),
            max_concurrency=env.integer("CF_MAX_CONCURRENCY", concurrency, low=1),
            max_wait_s=env.seconds("CF_MAX_WAIT_S", 10.0),
            retry_after=env.flag("CF_RETRY_AFTER", True),
            drain_s=env.seconds("CF_DRAIN_S", 6.0),
            stuck_s=env.seconds("CF_STUCK_S", 60.0),
            max_queue=env.integer("CF_MAX_QUEUE", 64, low=0),
            max_queue_bytes=env.integer("CF_MAX_QUEUE_BYTES", 256 * MEBIBYTE, low=1),
            max_body_bytes=env.integer("CF_MAX_BODY_BYTES", 64 * MEBIBYTE, low=1),
            max_memory_bytes=env.integer("CF_MAX_MEMORY_BYTES", 0, low=1),
            max_pixels=env.integer("CF_MAX_PIXELS", 178956970, low=1),
            body_timeout_s=env.seconds("CF_BODY_TIMEOUT_S", 30.0),
            apply_exif=env.flag("CF_APPLY_EXIF", False),
            log_level=env.level("LOGGING_LEVEL_NAME", logging.INFO),
            build_version=build_version,
            api_keys=env.keys("CF_API_KEYS", "CF_API_KEYS_FILE"),
            api_keys_file=env.file("CF_API_KEYS_FILE"),
            rate_limit=rate,
            rate_burst=env.integer("CF_RATE_BURST", max(1, math.ceil(rate)), low=1),
            traces=env.traces(),
            service_name=env.text("OTEL_SERVICE_NAME", "compreface-engine"),
            warnings=(*env.without_effect(build_version), *env.unknown()),
        )
        if settings.max_queue_bytes < settings.max_body_bytes:
            raise ConfigurationError(
                f"CF_MAX_QUEUE_BYTES={settings.max_queue_bytes}: must be at least "
                f"CF_MAX_BODY_BYTES ({settings.max_body_bytes}), the size of the largest body"
            )
        return settings

    def pipeline_config(self) -> PipelineConfig:
        """The plugins, the runtime and the limits for `Pipeline.load`."""
        # Imported late, so that --version and errors of settings are printed at once.
        from compreface_engine.pipeline import PipelineConfig
        from compreface_engine.runtimes.choice import RuntimeRequest

        return PipelineConfig(
            detector=self.detector,
            calculator=self.calculator,
            extras=self.extras,
            img_length_limit=self.img_length_limit,
            models_dir=self.models_dir,
            gpu_idx=self.gpu_idx,
            # As many runs at once as cores, each with its share of the threads: more threads than
            # cores would only contend for them.
            threads=max(1, self.threads // self.max_concurrency),
            concurrency=self.max_concurrency,
            cores=self.threads,
            request=RuntimeRequest(self.runtime, self.precision, self.min_cosine, self.choices_dir),
            batching=self.batching,
            apply_exif=self.apply_exif,
            max_pixels=self.max_pixels,
        )


def usable_cores(
    *,
    cgroup: Path = Path("/sys/fs/cgroup"),
    affinity: Callable[[], int] | None = None,
) -> int:
    """The number of cores this process may use: the lower of its affinity and cgroup quota."""
    cores = (affinity or _affinity)()
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """The CPU quota in cores (cgroup v2 `cpu.max`, v1 `cpu.cfs_*_us`); None without one."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
