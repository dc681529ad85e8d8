"""Opens each network with the runtime that is right for it, and remembers which that was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.parallel import no_idle_workers
from compreface_engine.plugins.prepared import PreparedModel
from compreface_engine.plugins.probe import real_faces
from compreface_engine.runtimes.alone import WideWhenAlone
from compreface_engine.runtimes.base import Session
from compreface_engine.runtimes.batcher import Batcher, Ran
from compreface_engine.runtimes.choice import Choice, Wish, choose, reference_choice
from compreface_engine.runtimes.onnxruntime import OnnxSession
from compreface_engine.runtimes.ways import (
    REFERENCE,
    Version,
    Way,
    demand,
    open_file,
    version_of,
)

_Opening: TypeAlias = Callable[[], tuple[Session, Choice]]

# The runtimes that run a model's own files, and the format they need.
_FRAMEWORKS: Final = {"tensorflow": "tensorflow-graph", "mxnet": "mxnet"}
_MEASURED_FROM: Final = 16 * 1024 * 1024  # bytes; an analyzer below costs next to nothing anyway
_ROWS_ON_CPU: Final = 6
_SMALL: Final = 16 * 1024 * 1024  # bytes: a second session is about as large as the file
ROWS_ON_GPU: Final = 32
"""The most faces of one run there."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """`count` runs side by side, each on `threads` threads; `gpu_idx` >= 0 is a GPU's number.

    `batching`: runs of several requests are put together while all lanes are busy.
    """

    count: int = 1
    threads: int = 1
    gpu_idx: int = -1
    batching: bool = False


class Opener:
    """One session a file, whoever asks for it."""

    def __init__(
        self,
        wish: Wish,
        lanes: Lanes,
        version_of: Version = version_of,
        idle: Callable[[], int] = no_idle_workers,
    ) -> None:
        """`idle` says how many cores compute nothing now.

        Raises ConfigurationError where the runtime that is asked for is not installed.
        """
        self._version = "" if wish.runtime == "auto" else demand(wish.runtime, version_of)
        if lanes.gpu_idx >= 0 and wish.runtime == "openvino":
            raise ConfigurationError(
                f"CF_RUNTIME=openvino runs on the CPU, but GPU_IDX={lanes.gpu_idx} asks for a GPU. "
                "Set CF_RUNTIME=onnxruntime, or GPU_IDX=-1."
            )
        if wish.precision == "bf16" and (
            wish.runtime not in ("auto", "openvino") or lanes.gpu_idx >= 0
        ):
            raise ConfigurationError(
                "CF_PRECISION=bf16 is for a CPU and the runtimes `auto` and `openvino`. "
                "Unset CF_PRECISION."
            )
        self._wish = wish
        self._lanes = lanes
        self._idle = idle
        self._opened: dict[Path, tuple[Session, Choice]] = {}
        self._asked: list[Path] = []
        self._unsettled: dict[Path, WideWhenAlone] = {}
        self.ran: Ran | None = None
        """Told of each run of a network that several requests share."""

    def file(self, path: Path) -> Session:
        """An ONNX file of the package. Raises ConfigurationError where it cannot be loaded."""
        return self._once(path, lambda: self._onnx(path, batched=self._lanes.gpu_idx >= 0))

    def model(self, model: PreparedModel) -> Session:
        """A prepared model. Raises ConfigurationError where it cannot be loaded."""
        return self._once(model.path, lambda: self._by_wish(model), model.sha256)

    def asked(self) -> Path | None:
        """The file of the first network that was asked for since the last call."""
        path = self._asked[0] if self._asked else None
        self._asked.clear()
        return path

    def choice(self, path: Path) -> Choice:
        """How the network of `path`, which was asked for, runs."""
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
        self._asked.append(path)
        return self._opened[path][0]

    def _by_wish(self, model: PreparedModel) -> tuple[Session, Choice]:
        wish, lanes = self._wish, self._lanes
        # Answers of a detector are no rows that can be told apart.
        batched = model.role != "detector" and model.batch is None
        needed = _FRAMEWORKS.get(wish.runtime)
        if needed and model.source and model.source.format == needed:
            return self._batched(self._framework(model), batched), self._framework_choice()
        if lanes.gpu_idx < 0 and wish.runtime in ("auto", "openvino") and _worth_measuring(model):
            choice = choose(
                model.path, lambda: _probe(model), wish, threads=lanes.threads, lanes=lanes.count
            )
            session = open_file(choice.way, model.path, threads=lanes.threads, lanes=lanes.count)
            if choice.way == REFERENCE:
                session = self._wide_when_alone(session, model.path)
            return self._batched(session, batched), choice
        return self._onnx(model.path, batched=batched)

    def _onnx(self, path: Path, *, batched: bool) -> tuple[Session, Choice]:
        # The wheels of TensorFlow and MXNet come with ONNX Runtime for the CPU.
        gpu_idx = -1 if self._wish.runtime in _FRAMEWORKS else self._lanes.gpu_idx
        session: Session = OnnxSession(path, threads=self._lanes.threads, gpu_idx=gpu_idx)
        if gpu_idx < 0:
            session = self._wide_when_alone(session, path)
        choice = reference_choice(f"cuda:{gpu_idx}" if gpu_idx >= 0 else "cpu")
        return self._batched(session, batched), choice

    def _wide_when_alone(self, narrow: Session, path: Path) -> Session:
        """`narrow`, or where the network is small enough to have two: it and one for all cores."""
        cores = self._lanes.count
        if cores < 2 or self._lanes.threads > 1 or self._lanes.batching:
            return narrow
        if path.stat().st_size > _SMALL:
            return narrow
        session = WideWhenAlone(narrow, OnnxSession(path, threads=cores), cores, self._idle)
        self._unsettled[path] = session
        return session

    def _batched(self, session: Session, batched: bool) -> Session:
        if not (batched and self._lanes.batching):
            return session
        if self._lanes.gpu_idx >= 0:
            return Batcher(session, lanes=1, rows=ROWS_ON_GPU, ran=self._tell)
        return Batcher(session, lanes=self._lanes.count, rows=_ROWS_ON_CPU, ran=self._tell)

    def _tell(self, seconds: float, rows: int) -> None:
        if self.ran is not None:
            self.ran(seconds, rows)

    def _framework(self, model: PreparedModel) -> Session:
        files = _checked_files(model, self._wish.runtime)
        lanes = self._lanes
        if self._wish.runtime == "tensorflow":
            from compreface_engine.runtimes.tensorflow import TensorFlowSession

            return TensorFlowSession(
                files[0],
                outputs=model.outputs,
                threads=lanes.threads,
                lanes=lanes.count,
                gpu_idx=lanes.gpu_idx,
            )
        from compreface_engine.runtimes.mxnet import MxnetSession

        symbol, params = sorted(files, key=lambda file: file.suffix != ".json")
        return MxnetSession(
            symbol,
            params,
            outputs=model.outputs,
            threads=lanes.threads * lanes.count,
            gpu_idx=lanes.gpu_idx,
        )

    def _framework_choice(self) -> Choice:
        gpu = self._lanes.gpu_idx
        runtime = self._wish.runtime
        return Choice(Way(runtime, "fp32"), self._version, "cpu" if gpu < 0 else f"cuda:{gpu}")


def _worth_measuring(model: PreparedModel) -> bool:
    """A network of one size that costs enough. OpenVINO takes twice as long for a new size."""
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


def _checked_files(model: PreparedModel, runtime: str) -> Sequence[Path]:
    """The model's kept source files. Raises ConfigurationError where they are absent or damaged."""
    files = model.source.files if model.source else ()
    expected = 2 if runtime == "mxnet" else 1
    again = "Prepare the model again with `--keep-source`, or set CF_RUNTIME=onnxruntime."
    if len(files) != expected or not model.outputs:
        raise ConfigurationError(
            f"CF_RUNTIME={runtime} runs a model's own files, but {model.path.parent} holds only "
            f"the converted network. {again}"
        )
    for path, sha256 in files:
        try:
            found = _sha256(path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error}. {again}") from error
        if found != sha256:
            raise ConfigurationError(
                f"{path} is damaged: its SHA-256 is {found}, not {sha256}. {again}"
            )
    return [path for path, _ in files]
