"""Chooses the backend of a network on this host: measured once, then kept in a file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compreface_engine import __version__
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.backends import BACKENDS, REFERENCE, Backend, available
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.host import Cpu, this_cpu
from compreface_engine.runtimes.measure import Measured, measure_apart
from compreface_engine.runtimes.table import AUTO, Version, require, version_of

_log = logging.getLogger("compreface_engine.runtimes")

_SCHEMA: Final = 3
_WORTH_IT: Final = 0.97  # another backend must save more than two runs of the same one differ


@dataclass(frozen=True, slots=True)
class RuntimeRequest:
    """The runtime and precision that the settings ask for.

    `runtime` is `auto` or a name, `precision` `auto`, `fp32` or `bf16`; `min_cosine` is the least
    cosine to the float32 embedding that another backend may have; `folder` is where measurements
    are kept, None for nowhere.
    """

    runtime: str = REFERENCE.runtime
    precision: str = "auto"
    min_cosine: float = 0.998
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """How a network runs, and what was measured, if anything was."""

    backend: Backend
    version: str
    device: str = "cpu"
    min_cosine: float | None = None
    tolerance: float | None = None
    measured: tuple[Measured, ...] = ()
    sha256: str | None = None  # of the network's file, if it is known
    threads_alone: int = 1  # of a run while nothing else computes

    def __str__(self) -> str:
        """For the log."""
        text = f"{self.backend.runtime} {self.version} {self.backend.precision} on {self.device}"
        if self.threads_alone > 1:
            text += f", {self.threads_alone} threads when alone"
        if self.min_cosine is None:
            return text
        times = ", ".join(f"{m.backend} {m.error or f'{m.ms:.1f} ms'}" for m in self.measured)
        return f"{text} (cosine {self.min_cosine:.6f}, at least {self.tolerance:g}; {times} a face)"

    def json(self) -> dict[str, Any]:
        """For /status."""
        return {
            "runtime": self.backend.runtime,
            "version": self.version,
            "precision": self.backend.precision,
            "device": self.device,
            "sha256": self.sha256,
            "threads_alone": self.threads_alone,
            "min_cosine": self.min_cosine,
            "tolerance": self.tolerance,
            "measured": [
                {
                    "runtime": m.backend.runtime,
                    "precision": m.backend.precision,
                    "ms": round(m.ms, 3),
                }
                for m in self.measured
                if not m.error
            ],
        }


def reference_choice(device: str = "cpu") -> Choice:
    """The reference, with nothing measured."""
    return Choice(REFERENCE, require(REFERENCE.runtime), device)


Measure = Callable[[Path, NDArray[np.float32], Sequence[Backend], int], list[Measured]]


def choose(
    path: Path,
    probe: Callable[[], NDArray[np.float32]],
    request: RuntimeRequest,
    *,
    concurrency: Concurrency,
    cpu: Cpu | None = None,
    measure: Measure = measure_apart,
    version_of: Version = version_of,
) -> Choice:
    """The backend for the calculator's network `path` on this host.

    `probe` makes rows of its usual input. Raises ConfigurationError where the request names what
    is not installed, what this CPU cannot compute, or what is less accurate than it allows.
    """
    cpu = cpu or this_cpu()
    wanted = _wanted(request, cpu, version_of)
    if len(wanted) == 1 and wanted[0].precision == "fp32":
        return Choice(wanted[0], require(wanted[0].runtime, version_of))
    candidates = [REFERENCE, *(backend for backend in wanted if backend != REFERENCE)]
    versions = {backend: require(backend.runtime, version_of) for backend in candidates}
    key = _key(path, versions, cpu, concurrency)
    results = _read(request.folder, key)
    if results is None:
        try:
            results = measure(path, probe(), candidates, concurrency.threads)
        except ConfigurationError as error:
            if request.runtime != AUTO or request.precision == "bf16":
                raise ConfigurationError(
                    f"{path.parent.name}: {wanted[0].runtime} could not be measured: {error}. "
                    "Set CF_RUNTIME=onnxruntime and CF_PRECISION=fp32."
                ) from error
            _log.warning("the runtimes could not be measured, so ONNX Runtime is taken: %s", error)
            return Choice(REFERENCE, versions[REFERENCE])
        _keep(request.folder, key, results)
    return _best(results, wanted, request, versions)


def _wanted(request: RuntimeRequest, cpu: Cpu, version_of: Version) -> list[Backend]:
    """The backends that the request allows, at least one."""
    if request.runtime != AUTO:
        require(request.runtime, version_of)
    if request.precision == "bf16" and not cpu.multiplies_bfloat16:
        raise ConfigurationError(
            "CF_PRECISION=bf16: this CPU has neither avx512_bf16 nor amx_bf16. "
            "Set CF_PRECISION=auto."
        )
    wanted = [
        backend
        for backend in available(cpu, version_of)
        if request.runtime in (AUTO, backend.runtime)
        and request.precision in (AUTO, backend.precision)
    ]
    if not wanted:
        able = " or ".join(b.runtime for b in BACKENDS if b.precision == request.precision)
        raise ConfigurationError(
            f"CF_RUNTIME={request.runtime} cannot compute in CF_PRECISION={request.precision} "
            f"here. Install the engine with its `{able}` extra and set CF_RUNTIME=auto or {able}."
        )
    return wanted


def _best(
    results: Sequence[Measured],
    wanted: Sequence[Backend],
    request: RuntimeRequest,
    versions: Mapping[Backend, str],
) -> Choice:
    allowed = [result for result in results if result.backend in wanted]
    exact = [result for result in allowed if result.min_cosine >= request.min_cosine]
    if not exact:
        reached = "; ".join(
            f"{r.backend}: {r.error or f'cosine {r.min_cosine:.6f}'}" for r in allowed
        )
        raise ConfigurationError(
            f"CF_RUNTIME={request.runtime} with CF_PRECISION={request.precision} does not reach "
            f"CF_MIN_COSINE={request.min_cosine:g} on this host ({reached}). "
            "Set CF_RUNTIME=onnxruntime and CF_PRECISION=fp32."
        )
    best = min(exact, key=lambda r: r.ms if r.backend == REFERENCE else r.ms / _WORTH_IT)
    return Choice(
        best.backend,
        versions[best.backend],
        min_cosine=best.min_cosine,
        tolerance=request.min_cosine,
        measured=tuple(results),
    )


def _key(
    path: Path, versions: Mapping[Backend, str], cpu: Cpu, concurrency: Concurrency
) -> dict[str, Any]:
    """All that a measurement depends on."""
    with path.open("rb") as file:
        model = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "schema": _SCHEMA,
        "engine": __version__,
        "cpu": cpu.name,
        "flags": hashlib.sha256(" ".join(sorted(cpu.flags)).encode()).hexdigest(),
        "threads": concurrency.threads,
        "lanes": concurrency.runs,
        "model": model,
        "ways": [[b.runtime, b.precision, version] for b, version in versions.items()],
    }


def _file(folder: Path, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:24]}.json"


def _read(folder: Path | None, key: dict[str, Any]) -> list[Measured] | None:
    """The results kept under exactly this key; None where there is no readable file."""
    if folder is None:
        return None
    try:
        kept = json.loads(_file(folder, key).read_text("utf-8"))
        if kept["key"] != key:
            return None
        return [Measured.of(value) for value in kept["results"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(folder: Path | None, key: dict[str, Any], results: Sequence[Measured]) -> None:
    """Writes the file whole or not at all."""
    if folder is None:
        return
    text = json.dumps({"key": key, "results": [result.json() for result in results]}, indent=1)
    target = _file(folder, key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        _log.warning(
            "the measurement of the runtimes cannot be kept, so each start repeats it: %s. "
            "Set CF_CHOICES_DIR to a folder that can be written.",
            error,
        )
