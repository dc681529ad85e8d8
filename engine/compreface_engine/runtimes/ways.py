"""The ways to run an ONNX file: runtime and precision, and which of them are installed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, TypeAlias

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.base import Session
from compreface_engine.runtimes.host import Cpu


@dataclass(frozen=True, slots=True)
class Way:
    """A runtime and the precision its products are computed in."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


REFERENCE: Final = Way("onnxruntime", "fp32")
"""What accuracy is measured against, and what runs wherever nothing else is asked for."""

WAYS: Final = (REFERENCE, Way("openvino", "fp32"), Way("openvino", "bf16"))

# Packages that hold a runtime; the first one installed counts.
_PACKAGES: Final = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "mxnet": ("mxnet",),
}


Version: TypeAlias = Callable[[str], str | None]
"""From a runtime to its installed version, None where it is not installed."""


def version_of(runtime: str) -> str | None:
    """The installed version, read without importing it; None where it is not installed."""
    for package in _PACKAGES[runtime]:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def demand(runtime: str, version_of: Version = version_of) -> str:
    """The installed version. Raises ConfigurationError with the way out where there is none."""
    version = version_of(runtime)
    if version is None:
        raise ConfigurationError(
            f"CF_RUNTIME={runtime}, but it is not installed. Install the engine with its "
            f"`{runtime}` extra, or set CF_RUNTIME=onnxruntime."
        )
    return version


def here(cpu: Cpu, version_of: Version = version_of) -> list[Way]:
    """The ways that this host can go, the reference first."""
    return [
        way
        for way in WAYS
        if version_of(way.runtime) is not None
        and (way.precision != "bf16" or cpu.multiplies_bfloat16)
    ]


def open_file(way: Way, path: Path, *, threads: int, lanes: int) -> Session:
    """`path` opened that way; `lanes` runs side by side. Raises ConfigurationError."""
    if way.runtime == "openvino":
        # Imported where it is chosen: each runtime costs memory and time at start.
        from compreface_engine.runtimes.openvino import OpenVinoSession

        return OpenVinoSession(path, threads=threads, lanes=lanes, precision=way.precision)
    from compreface_engine.runtimes.onnxruntime import OnnxSession

    return OnnxSession(path, threads=threads)
