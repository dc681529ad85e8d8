"""Opens each network with the runtime that the request and the host allow, and records which."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.parallel import no_idle_workers
from compreface_engine.models.prepared import PreparedModel
from compreface_engine.models.probe import real_faces
from compreface_engine.runtimes.alone import WideWhenAlone
from compreface_engine.runtimes.backends import BACKENDS, REFERENCE, Backend, open_network
from compreface_engine.runtimes.base import Concurrency, Session
from compreface_engine.runtimes.batcher import Batcher, OnRun
from compreface_engine.runtimes.choice import Choice, RuntimeRequest, choose, reference_choice
from compreface_engine.runtimes.table import (
    AUTO,
    RUNTIMES,
    Runtime,
    Version,
    open_session,
    require,
    version_of,
)

_Opening: TypeAlias = Callable[[], tuple[Session, Choice]]

_MEASURED_FROM: Final = 16 * 1024 * 1024  # bytes; an analyzer below costs next to nothing anyway
_ROWS_ON_CPU: Final = 6
_SMALL: Final = 16 * 1024 * 1024  # bytes: a second session is about as large as the file
ROWS_ON_GPU: Final = 32
"""The most faces of one run on a GPU."""


class SessionFactory:
    """Opens networks; one session a file, whichever plugins use it."""

    def __init__(
        self,
        request: RuntimeRequest,
        concurrency: Concurrency,
        version_of: Version = version_of,
        idle_workers: Callable[[], int] = no_idle_workers,
    ) -> None:
        """`idle_workers` gives the number of workers that compute nothing now.

        Raises ConfigurationError where the runtime is not installed, or does not compute on the
        device or in the precision that is asked for.
        """
        self._version = "" if request.runtime == AUTO else require(request.runtime, version_of)
        self._runtime = RUNTIMES.get(request.runtime)
        on_gpu = concurrency.gpu_idx >= 0
        if on_gpu and self._runtime is not None and not self._runtime.gpu:
            raise ConfigurationError(
                f"CF_RUNTIME={request.runtime} runs on the CPU, but "
                f"GPU_IDX={concurrency.gpu_idx} asks for a GPU. "
                f"Set CF_RUNTIME={REFERENCE.runtime}, or GPU_IDX=-1."
            )
        if request.precision == "bf16":
            able = [AUTO, *(b.runtime for b in BACKENDS if b.precision == "bf16")]
            if on_gpu or request.runtime not in able:
                raise ConfigurationError(
                    "CF_PRECISION=bf16 is for a CPU and the runtimes "
                    f"{' and '.join(f'`{name}`' for name in able)}. Unset CF_PRECISION."
                )
        self._request = request
        self._concurrency = concurrency
        self._idle_workers = idle_workers
        self._opened: dict[Path, tuple[Session, Choice]] = {}
        self._requested: list[Path] = []
        self._unsettled: dict[Path, WideWhenAlone] = {}
        self.on_run: OnRun | None = None
        """Called after each run of a network that several requests share."""

    def file(self, path: Path) -> Session:
        """An ONNX file of the package. Raises ConfigurationError where it cannot be loaded."""
        return self._once(path, lambda: self._reference(path, self._concurrency.gpu_idx >= 0))

    def model(self, model: PreparedModel) -> Session:
        """A prepared model. Raises ConfigurationError where it cannot be loaded."""
        return self._once(model.path, lambda: self._as_requested(model), model.sha256)

    def requested(self) -> Path | None:
        """The file of the first network that was requested since the last call."""
        path = self._requested[0] if self._requested else None
        self._requested.clear()
        return path

    def choice(self, path: Path) -> Choice:
        """How the network of `path`, which was requested before, runs."""
        return self._opened[path][1]

    def settle(self) -> None:
        """Decides which networks get all cores when nothing else runs, once all have run."""
        for path, session in self._unsettled.items():
            session.settle()
            opened, choice = self._opened[path]
            self._opened[path] = opened, replace(choice, threads_alone=session.threads)
        self._unsettled.clear()

    def _once(self, path: Path, opening: _Opening, sha256: str = "") -> Session:
        if path not in self._opened:
            session, choice = opening()
            self._opened[path] = session, replace(choice, sha256=sha256 or _sha256(path))
        self._requested.append(path)
        return self._opened[path][0]

    def _as_requested(self, model: PreparedModel) -> tuple[Session, Choice]:
        runtime, concurrency = self._runtime, self._concurrency
        # The rows of a batch must be separable again, which a detector's outputs are not.
        batched = model.role != "detector" and model.batch is None
        if runtime is not None and runtime.format and model.source:
            if model.source.format == runtime.format:
                return self._batched(self._own_files(model, runtime), batched), self._own_choice()
        elif concurrency.gpu_idx < 0 and self._has_alternatives() and _worth_measuring(model):
            choice = choose(
                model.path, lambda: _probe(model), self._request, concurrency=concurrency
            )
            session = open_network(choice.backend, model.path, concurrency)
            if choice.backend == REFERENCE:
                session = self._wide_when_alone(session, model.path)
            return self._batched(session, batched), choice
        return self._reference(model.path, batched)

    def _has_alternatives(self) -> bool:
        """Whether a converted network may run in another backend than the reference."""
        if self._runtime is None:
            return True
        return bool(self._runtime.precisions) and self._request.runtime != REFERENCE.runtime

    def _reference(self, path: Path, batched: bool) -> tuple[Session, Choice]:
        # The packages of a runtime for models' own files come with the reference for the CPU.
        own_files = self._runtime is not None and self._runtime.format is not None
        gpu_idx = -1 if own_files else self._concurrency.gpu_idx
        session = open_network(REFERENCE, path, replace(self._concurrency, gpu_idx=gpu_idx))
        if gpu_idx < 0:
            session = self._wide_when_alone(session, path)
        choice = reference_choice(f"cuda:{gpu_idx}" if gpu_idx >= 0 else "cpu")
        return self._batched(session, batched), choice

    def _wide_when_alone(self, narrow: Session, path: Path) -> Session:
        """`narrow`, or where the network is small enough to have two: it and one for all cores."""
        cores = self._concurrency.runs
        if cores < 2 or self._concurrency.threads > 1 or self._concurrency.batching:
            return narrow
        if path.stat().st_size > _SMALL:
            return narrow
        wide = open_network(REFERENCE, path, Concurrency(threads=cores))
        session = WideWhenAlone(narrow, wide, cores, self._idle_workers)
        self._unsettled[path] = session
        return session

    def _batched(self, session: Session, batched: bool) -> Session:
        if not (batched and self._concurrency.batching):
            return session
        if self._concurrency.gpu_idx >= 0:
            return Batcher(session, runs=1, rows=ROWS_ON_GPU, on_run=self._report)
        runs = self._concurrency.runs
        return Batcher(session, runs=runs, rows=_ROWS_ON_CPU, on_run=self._report)

    def _report(self, seconds: float, rows: int) -> None:
        if self.on_run is not None:
            self.on_run(seconds, rows)

    def _own_files(self, model: PreparedModel, runtime: Runtime) -> Session:
        name = self._request.runtime
        files = _checked_files(model, name, runtime.files)
        return open_session(name, files, outputs=model.outputs, concurrency=self._concurrency)

    def _own_choice(self) -> Choice:
        gpu_idx = self._concurrency.gpu_idx
        device = "cpu" if gpu_idx < 0 else f"cuda:{gpu_idx}"
        return Choice(Backend(self._request.runtime, "fp32"), self._version, device)


def _worth_measuring(model: PreparedModel) -> bool:
    """Whether it is large and of one input size: for each new size some runtimes compile anew."""
    if model.batch is not None:
        return False
    if model.role == "analyzer":
        return model.path.stat().st_size >= _MEASURED_FROM
    return model.role == "calculator"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _probe(model: PreparedModel) -> NDArray[np.float32]:
    return model.inputs.tensor(real_faces(model.inputs.size))


def _checked_files(model: PreparedModel, runtime: str, count: int) -> Sequence[Path]:
    """The model's `count` source files, their hashes checked. Raises ConfigurationError."""
    files = model.source.files if model.source else ()
    again = f"Prepare the model again with `--keep-source`, or set CF_RUNTIME={REFERENCE.runtime}."
    if len(files) != count or not model.outputs:
        raise ConfigurationError(
            f"CF_RUNTIME={runtime} runs a model's own files, but {model.path.parent} holds only "
            f"the converted network. {again}"
        )
    for path, sha256 in files:
        try:
            actual = _sha256(path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error}. {again}") from error
        if actual != sha256:
            raise ConfigurationError(
                f"{path} is damaged: its SHA-256 is {actual}, not {sha256}. {again}"
            )
    return [path for path, _ in files]
