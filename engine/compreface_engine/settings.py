"""What the environment says, read once and checked: the only reader of environment variables."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from compreface_engine.core.errors import ConfigurationError

T = TypeVar("T")

DEFAULT_DETECTOR = "embedded.FaceDetector@mtcnn"
DEFAULT_CALCULATOR = "embedded.Calculator@mobilefacenet192"
DEFAULT_EXTRAS = ("facenet.LandmarksDetector", "facenet.PoseEstimator")
CONTRACT_VERSION = "1.2.0"
RUNTIMES = ("onnxruntime",)
MEBIBYTE = 1024 * 1024

WITHOUT_EFFECT = frozenset(
    {
        "ML_PORT",
        "FLASK_ENV",
        "BE_VERSION",
        "RUN_MODE",
        "CUDA",
        "INTEL_OPTIMIZATION",
        "JOBLIB_MULTIPROCESSING",
        "HOME",
    }
)
"""Variables of the original that are accepted and change nothing."""

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "notset": logging.DEBUG,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is set from outside; times in seconds, `max_pixels` is width x height."""

    host: str
    port: int
    detector: str
    calculator: str
    extras: tuple[str, ...]
    img_length_limit: int
    gpu_idx: int
    runtime: str
    models_dir: Path | None
    threads: int
    max_concurrency: int
    max_wait_s: float
    max_queue: int
    max_queue_bytes: int
    max_body_bytes: int
    max_pixels: int
    body_timeout_s: float
    apply_exif: bool
    log_level: int
    build_version: str
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, cores: int | None = None) -> Settings:
        """The settings in `environ`; empty means unset. `cores` replaces what the host reports.

        Raises ConfigurationError that names the variable, its value and the reason.
        """
        env = _Reader(environ)
        cores = usable_cores() if cores is None else cores
        processes = env.integer("UWSGI_PROCESSES", 0, low=1)
        threads = env.integer("UWSGI_THREADS", 0, low=1)
        uwsgi = max(processes, 1) * max(threads, 1) if processes or threads else cores
        settings = cls(
            host=env.text("CF_HOST", "127.0.0.1"),
            port=env.integer("CF_PORT", 3000, low=0, high=65535),
            detector=env.text("FACE_DETECTION_PLUGIN", DEFAULT_DETECTOR),
            calculator=env.text("CALCULATION_PLUGIN", DEFAULT_CALCULATOR),
            extras=env.names("EXTRA_PLUGINS", DEFAULT_EXTRAS),
            img_length_limit=env.integer("IMG_LENGTH_LIMIT", 640, low=0),
            gpu_idx=env.integer("GPU_IDX", -1, low=-1),
            runtime=env.choice("CF_RUNTIME", "onnxruntime", RUNTIMES),
            models_dir=env.folder("CF_MODELS_DIR"),
            threads=env.integer("CF_THREADS", cores, low=1),
            max_concurrency=env.integer("CF_MAX_CONCURRENCY", uwsgi, low=1),
            max_wait_s=env.seconds("CF_MAX_WAIT_S", 10.0),
            max_queue=env.integer("CF_MAX_QUEUE", 64, low=0),
            max_queue_bytes=env.integer("CF_MAX_QUEUE_BYTES", 256 * MEBIBYTE, low=1),
            max_body_bytes=env.integer("CF_MAX_BODY_BYTES", 64 * MEBIBYTE, low=1),
            max_pixels=env.integer("CF_MAX_PIXELS", 178956970, low=1),
            body_timeout_s=env.seconds("CF_BODY_TIMEOUT_S", 30.0),
            apply_exif=env.flag("CF_APPLY_EXIF", False),
            log_level=env.level("LOGGING_LEVEL_NAME", logging.INFO),
            build_version=env.text("APP_VERSION_STRING", CONTRACT_VERSION),
            warnings=env.unknown(),
        )
        if settings.max_queue_bytes < settings.max_body_bytes:
            raise ConfigurationError(
                f"CF_MAX_QUEUE_BYTES={settings.max_queue_bytes}: is less than "
                f"CF_MAX_BODY_BYTES ({settings.max_body_bytes}), so that body would never be let in"
            )
        return settings


class _Reader:
    """Typed look-ups in a mapping; remembers which names were asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: set[str] = set()

    def _parse(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        self._known.add(name)
        value = self._environ.get(name, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise ConfigurationError(f"{name}={value}: {error}") from error

    def text(self, name: str, default: str) -> str:
        return self._parse(name, default, str)

    def integer(self, name: str, default: int, *, low: int, high: int | None = None) -> int:
        def parse(value: str) -> int:
            try:
                number = int(value)
            except ValueError as error:
                raise ValueError("is not a whole number") from error
            if number < low or (high is not None and number > high):
                limits = f"at least {low}" if high is None else f"between {low} and {high}"
                raise ValueError(f"must be {limits}")
            return number

        return self._parse(name, default, parse)

    def seconds(self, name: str, default: float) -> float:
        def parse(value: str) -> float:
            try:
                number = float(value)
            except ValueError as error:
                raise ValueError("is not a number of seconds") from error
            if not (0 < number and math.isfinite(number)):
                raise ValueError("must be more than 0 seconds")
            return number

        return self._parse(name, default, parse)

    def flag(self, name: str, default: bool) -> bool:
        def parse(value: str) -> bool:
            word = value.lower()
            if word in ("true", "1", "yes", "on"):
                return True
            if word in ("false", "0", "no", "off"):
                return False
            raise ValueError("must be true or false")

        return self._parse(name, default, parse)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        def parse(value: str) -> str:
            if value not in allowed:
                raise ValueError(f"does not run in this version; it knows {', '.join(allowed)}")
            return value

        return self._parse(name, default, parse)

    def folder(self, name: str) -> Path | None:
        def parse(value: str) -> Path | None:
            path = Path(value)
            if not path.is_dir():
                raise ValueError("is no folder")
            return path

        return self._parse(name, None, parse)

    def level(self, name: str, default: int) -> int:
        def parse(value: str) -> int:
            if value.lower() not in _LEVELS:
                raise ValueError(f"is no log level; use one of {', '.join(_LEVELS)}")
            return _LEVELS[value.lower()]

        return self._parse(name, default, parse)

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list split at commas and blanks; a lone comma or blank is an empty list."""
        self._known.add(name)
        value = self._environ.get(name, "")
        if not value:
            return default
        return tuple(name for name in re.split(r"[,\s]+", value) if name)

    def unknown(self) -> tuple[str, ...]:
        """One warning for each CF_* variable that nobody asked for."""
        return tuple(
            f"{name} is set but means nothing to this engine (a typing mistake?)"
            for name in sorted(self._environ)
            if name.startswith("CF_") and name not in self._known and self._environ[name].strip()
        )


def usable_cores(
    *,
    cgroup: Path = Path("/sys/fs/cgroup"),
    affinity: Callable[[], int] | None = None,
) -> int:
    """Cores this process may use: its CPU affinity or its cgroup's quota, whichever is less."""
    cores = (affinity or _affinity)()
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Cores of the CPU quota (cgroup v2 `cpu.max`, v1 `cpu.cfs_*_us`); None without one."""
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
