"""Which runtime and precision a network gets on this host: measured once, then kept in a file."""

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
from compreface_engine.runtimes.host import Cpu, this_cpu
from compreface_engine.runtimes.measure import Measured, measure_apart
from compreface_engine.runtimes.ways import REFERENCE, Version, Way, demand, here, version_of

_log = logging.getLogger("compreface_engine.runtimes")

_SCHEMA: Final = 3
_WORTH_IT: Final = 0.97  # another way must save more than what two runs of one and the same differ


@dataclass(frozen=True, slots=True)
class Wish:
    """What the settings ask for.

    `runtime` is `auto` or a name, `precision` `auto`, `fp32` or `bf16`; `min_cosine` to the float32
    embedding is what another way must keep; `folder` is where measurements are kept, if anywhere.
    """

    runtime: str = REFERENCE.runtime
    precision: str = "auto"
    min_cosine: float = 0.998
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """How a network runs, and what was measured, if anything was."""

    way: Way
    version: str
    device: str = "cpu"
    min_cosine: float | None = None
    tolerance: float | None = None
    measured: tuple[Measured, ...] = ()
    sha256: str | None = None  # of the network's file, if it is known
    threads_alone: int = 1  # of a run while nothing else computes

    def __str__(self) -> str:
        """For the log."""
        text = f"{self.way.runtime} {self.version} {self.way.precision} on {self.device}"
        if self.threads_alone > 1:
            text += f", {self.threads_alone} threads when alone"
        if self.min_cosine is None:
            return text
        times = ", ".join(f"{m.way} {m.error or f'{m.ms:.1f} ms'}" for m in self.measured)
        return f"{text} (cosine {self.min_cosine:.6f}, at least {self.tolerance:g}; {times} a face)"

    def json(self) -> dict[str, Any]:
        """For /status."""
        return {
            "runtime": self.way.runtime,
            "version": self.version,
            "precision": self.way.precision,
            "device": self.device,
            "sha256": self.sha256,
            "threads_alone": self.threads_alone,
            "min_cosine": self.min_cosine,
            "tolerance": self.tolerance,
            "measured": [
                {"runtime": m.way.runtime, "precision": m.way.precision, "ms": round(m.ms, 3)}
                for m in self.measured
                if not m.error
            ],
        }


def reference_choice(device: str = "cpu") -> Choice:
    """The reference, with nothing measured."""
    return Choice(REFERENCE, demand(REFERENCE.runtime), device)


Measure = Callable[[Path, NDArray[np.float32], Sequence[Way], int], list[Measured]]


def choose(
    path: Path,
    probe: Callable[[], NDArray[np.float32]],
    wish: Wish,
    *,
    threads: int,
    lanes: int,
    cpu: Cpu | None = None,
    measure: Measure = measure_apart,
    version_of: Version = version_of,
) -> Choice:
    """The way for the calculator's network `path` on this host.

    `probe` makes rows of its usual input. Raises ConfigurationError where what is asked for is
    not installed, not possible on this CPU, or less accurate than allowed.
    """
    cpu = cpu or this_cpu()
    ways = _wanted(wish, cpu, version_of)
    if len(ways) == 1 and ways[0].precision == "fp32":
        return Choice(ways[0], demand(ways[0].runtime, version_of))
    candidates = [REFERENCE, *(way for way in ways if way != REFERENCE)]
    versions = {way: demand(way.runtime, version_of) for way in candidates}
    key = _key(path, versions, cpu, threads, lanes)
    results = _read(wish.folder, key)
    if results is None:
        try:
            results = measure(path, probe(), candidates, threads)
        except ConfigurationError as error:
            if wish.runtime != "auto" or wish.precision == "bf16":
                raise ConfigurationError(
                    f"{path.parent.name}: {ways[0].runtime} could not be measured: {error}. "
                    "Set CF_RUNTIME=onnxruntime and CF_PRECISION=fp32."
                ) from error
            _log.warning("the runtimes could not be measured, so ONNX Runtime is taken: %s", error)
            return Choice(REFERENCE, versions[REFERENCE])
        _keep(wish.folder, key, results)
    return _best(results, ways, wish, versions)


def _wanted(wish: Wish, cpu: Cpu, version_of: Version) -> list[Way]:
    """The ways that the wish leaves, at least one."""
    if wish.runtime != "auto":
        demand(wish.runtime, version_of)
    if wish.precision == "bf16" and not cpu.multiplies_bfloat16:
        raise ConfigurationError(
            "CF_PRECISION=bf16: this CPU has neither avx512_bf16 nor amx_bf16. "
            "Set CF_PRECISION=auto."
        )
    ways = [
        way
        for way in here(cpu, version_of)
        if wish.runtime in ("auto", way.runtime) and wish.precision in ("auto", way.precision)
    ]
    if not ways:
        raise ConfigurationError(
            f"CF_PRECISION={wish.precision} is nothing that CF_RUNTIME={wish.runtime} computes in "
            "here. It takes the engine's `openvino` extra and CF_RUNTIME=auto or openvino."
        )
    return ways


def _best(
    results: Sequence[Measured], ways: Sequence[Way], wish: Wish, versions: Mapping[Way, str]
) -> Choice:
    exact = [r for r in results if r.way in ways and r.min_cosine >= wish.min_cosine]
    if not exact:
        found = "; ".join(
            f"{r.way}: {r.error or f'cosine {r.min_cosine:.6f}'}" for r in results if r.way in ways
        )
        raise ConfigurationError(
            f"CF_RUNTIME={wish.runtime} with CF_PRECISION={wish.precision} does not reach "
            f"CF_MIN_COSINE={wish.min_cosine:g} on this host ({found}). "
            "Set CF_RUNTIME=onnxruntime and CF_PRECISION=fp32."
        )
    best = min(exact, key=lambda r: r.ms if r.way == REFERENCE else r.ms / _WORTH_IT)
    return Choice(
        best.way,
        versions[best.way],
        min_cosine=best.min_cosine,
        tolerance=wish.min_cosine,
        measured=tuple(results),
    )


def _key(
    path: Path, versions: Mapping[Way, str], cpu: Cpu, threads: int, lanes: int
) -> dict[str, Any]:
    """All that a measurement depends on."""
    with path.open("rb") as file:
        model = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "schema": _SCHEMA,
        "engine": __version__,
        "cpu": cpu.name,
        "flags": hashlib.sha256(" ".join(sorted(cpu.flags)).encode()).hexdigest(),
        "threads": threads,
        "lanes": lanes,
        "model": model,
        "ways": [[way.runtime, way.precision, version] for way, version in versions.items()],
    }


def _file(folder: Path, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:24]}.json"


def _read(folder: Path | None, key: dict[str, Any]) -> list[Measured] | None:
    """What was measured under this very key; None where nothing readable was kept."""
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
