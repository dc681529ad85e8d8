"""The backends that run a converted network: a runtime and a precision each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compreface_engine.runtimes.base import Concurrency, Session
from compreface_engine.runtimes.host import Cpu
from compreface_engine.runtimes.table import RUNTIMES, Version, open_session, version_of


@dataclass(frozen=True, slots=True)
class Backend:
    """A runtime and the precision it computes products in."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


REFERENCE: Final = Backend("onnxruntime", "fp32")
"""What accuracy is measured against, and what runs wherever nothing else is asked for."""

BACKENDS: Final = tuple(
    Backend(name, precision) for name, row in RUNTIMES.items() for precision in row.precisions
)


def available(cpu: Cpu, version_of: Version = version_of) -> list[Backend]:
    """The backends that are installed and that `cpu` can compute, the reference first."""
    return [
        backend
        for backend in BACKENDS
        if version_of(backend.runtime) is not None
        and (backend.precision != "bf16" or cpu.multiplies_bfloat16)
    ]


def open_network(backend: Backend, path: Path, concurrency: Concurrency) -> Session:
    """The ONNX file `path` in that backend. Raises ConfigurationError where it cannot be loaded."""
    return open_session(
        backend.runtime, [path], precision=backend.precision, concurrency=concurrency
    )
