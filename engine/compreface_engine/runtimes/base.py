"""What a runtime provides: a function that opens a network as a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray


class Session(Protocol):
    """One loaded network; `run` is thread-safe and releases the GIL."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The named outputs (all, in the graph's order, by default)."""
        ...


@dataclass(frozen=True, slots=True)
class Concurrency:
    """`runs` in parallel, each on `threads` threads; `gpu_idx` >= 0 is a GPU's number.

    `batching`: while that many runs are under way, the rows of waiting requests are merged.
    """

    runs: int = 1
    threads: int = 1
    gpu_idx: int = -1
    batching: bool = False


class OpenSession(Protocol):
    """The function `open_session` that the module of each runtime has."""

    def __call__(
        self,
        files: Sequence[Path],
        *,
        outputs: Sequence[str],
        precision: str,
        concurrency: Concurrency,
    ) -> Session:
        """A session over a network.

        `files`: one ONNX file, or the files of a model in the runtime's own format. `outputs`: the
        names of the outputs, for a format without them. `precision`: one of the row's.
        Raises ConfigurationError where the network cannot be loaded.
        """
        ...
