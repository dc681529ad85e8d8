"""Measures backends on a network, in a child process so that their memory is freed."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.backends import REFERENCE, Backend, open_network
from compreface_engine.runtimes.base import Concurrency, Session

_TIMEOUT_S: Final = 90.0
_TIMING_S: Final = 1.0  # for each size of batch
_ROUNDS: Final = range(3, 12)  # the fewest and the most
_BATCH: Final = 6  # faces: the usual batch of a calculator


@dataclass(frozen=True, slots=True)
class Measured:
    """One backend on this host: milliseconds a face (alone, in a batch), lowest cosine to fp32.

    `error` says why it could not run; the numbers are then 0.
    """

    backend: Backend
    ms_alone: float = 0.0
    ms_batched: float = 0.0
    min_cosine: float = 0.0
    error: str = ""

    @property
    def ms(self) -> float:
        """Milliseconds a face, as often alone as in a batch."""
        return (self.ms_alone + self.ms_batched) / 2

    def json(self) -> dict[str, Any]:
        return {
            "runtime": self.backend.runtime,
            "precision": self.backend.precision,
            "ms_alone": self.ms_alone,
            "ms_batched": self.ms_batched,
            "min_cosine": self.min_cosine,
            "error": self.error,
        }

    @classmethod
    def of(cls, value: dict[str, Any]) -> Measured:
        """From its JSON. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            Backend(str(value["runtime"]), str(value["precision"])),
            float(value["ms_alone"]),
            float(value["ms_batched"]),
            float(value["min_cosine"]),
            str(value["error"]),
        )


def measure_apart(
    path: Path, probe: NDArray[np.float32], backends: Sequence[Backend], threads: int
) -> list[Measured]:
    """`measure` in a child process. Raises ConfigurationError where it fails or takes too long."""
    arguments = json.dumps([str(path), threads, [[b.runtime, b.precision] for b in backends]])
    pixels = io.BytesIO()
    np.save(pixels, probe)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "compreface_engine.runtimes.measure", arguments]
    try:
        done = subprocess.run(
            command, input=pixels.getvalue(), capture_output=True, cwd=root, timeout=_TIMEOUT_S
        )
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise ConfigurationError(f"it ended with {done.returncode}: {' '.join(lines[-1:])}")
        return [Measured.of(value) for value in json.loads(done.stdout)]
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"it took longer than {_TIMEOUT_S:g} s") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"it gave no result: {error!r}") from error


def measure(
    path: Path, probe: NDArray[np.float32], backends: Iterable[Backend], threads: int
) -> list[Measured]:
    """Times the backends in turn and compares all outputs, row by row, with the reference's.

    `probe` holds the rows to compare, as the network takes them; the first few are timed.
    """
    concurrency = Concurrency(threads=threads)
    reference = open_network(REFERENCE, path, concurrency)
    expected = _answers(reference, probe)
    sessions: dict[Backend, Session] = {}
    cosines: dict[Backend, float] = {}
    failed: list[Measured] = []
    for backend in backends:
        try:
            if backend == REFERENCE:
                sessions[backend], cosines[backend] = reference, 1.0
                continue
            session = open_network(backend, path, concurrency)
            cosines[backend] = least_cosine(expected, _answers(session, probe))
            sessions[backend] = session
        except Exception as error:  # whatever a runtime raises: the backend is then not taken
            message = " ".join(str(error).split())[:300] or repr(error)
            failed.append(Measured(backend, error=message))
    alone = _fastest(sessions, probe[:1])
    batch = probe[:_BATCH]
    batched = _fastest(sessions, batch)
    return [
        Measured(
            backend,
            round(alone[backend] * 1e3, 4),
            round(batched[backend] * 1e3 / len(batch), 4),
            math.floor(cosines[backend] * 1e9) / 1e9,  # never up: it is a promise
        )
        for backend in sessions
    ] + failed


def _fastest(sessions: dict[Backend, Session], rows: NDArray[np.float32]) -> dict[Backend, float]:
    """Seconds of the fastest run of each, since disturbances only make a run longer."""
    best = dict.fromkeys(sessions, float("inf"))
    until = time.perf_counter() + _TIMING_S
    for done in range(_ROUNDS.stop):
        for backend, session in sessions.items():
            feeds = {session.inputs[0]: rows}
            if not done:
                session.run(feeds)  # the first run of a shape allocates
            started = time.perf_counter()
            session.run(feeds)
            best[backend] = min(best[backend], time.perf_counter() - started)
        if done + 1 >= _ROUNDS.start and time.perf_counter() > until:
            break
    return best


def _answers(session: Session, probe: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    runs = [
        session.run({session.inputs[0]: probe[start : start + _BATCH]})
        for start in range(0, len(probe), _BATCH)
    ]
    return [
        np.concatenate([np.asarray(value, np.float64).reshape(len(value), -1) for value in values])
        for values in zip(*runs, strict=True)
    ]


def least_cosine(
    expected: Sequence[NDArray[np.float64]], measured: Sequence[NDArray[np.float64]]
) -> float:
    """The lowest cosine of two corresponding rows over all outputs; NaN counts as -1."""
    least = 1.0
    for rows, others in zip(expected, measured, strict=True):
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
        cosines = (rows * others).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
        least = min(least, float(np.nan_to_num(cosines, nan=-1.0).min()))
    return least


def main(arguments: str) -> None:
    """The child: the probe on stdin, the results as JSON on stdout."""
    path, threads, backends = json.loads(arguments)
    probe = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    results = measure(Path(path), probe, [Backend(*backend) for backend in backends], threads)
    print(json.dumps([result.json() for result in results]))


if __name__ == "__main__":
    main(sys.argv[1])
