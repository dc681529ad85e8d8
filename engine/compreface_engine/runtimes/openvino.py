"""OpenVINO: one compiled network a model on the CPU, in float32 or bfloat16."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.memory import return_freed_memory

# The library imports its converter, which reports the import to its vendor (seen in 2026.4). It
# works without the converter where that cannot be imported.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

_HINTS: Final = {"fp32": "f32", "bf16": "bf16"}


def open_session(
    files: Sequence[Path], *, outputs: Sequence[str], precision: str, concurrency: Concurrency
) -> OpenVinoSession:
    """See `OpenSession`."""
    return OpenVinoSession(
        files[0], threads=concurrency.threads, runs=concurrency.runs, precision=precision
    )


class OpenVinoSession:
    """A network in OpenVINO; see `Session`. Inputs and outputs are float32 at any precision.

    For inputs of few shapes: kernels are kept per shape, and a new shape costs twice the run.
    """

    def __init__(self, path: Path, *, threads: int, runs: int = 1, precision: str = "fp32") -> None:
        """Loads `path` for `runs` in parallel, each on `threads` threads.

        `precision` is `fp32` or `bf16`. Raises ConfigurationError if it cannot be loaded.
        """
        settings = {
            # A stream computes one run at a time; with fewer streams than runs they take turns.
            "NUM_STREAMS": runs,
            "INFERENCE_NUM_THREADS": runs * threads,
            # By default it computes in bf16 wherever the CPU can.
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            # `runs` counts logical cores; by default OpenVINO would leave out every second one.
            "ENABLE_HYPER_THREADING": True,
            # The detector and the decoder use the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._network = openvino.Core().compile_model(str(path), "CPU", settings)
        except Exception as error:  # the library raises RuntimeError for every cause, and others
            raise ConfigurationError(
                f"{path.name} cannot be loaded by OpenVINO: {' '.join(str(error).split())}. "
                "Prepare the model again, or set CF_RUNTIME=onnxruntime."
            ) from error
        # Without bfloat16 in the CPU it silently computes in float32.
        actual = self._network.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if actual != _HINTS[precision]:
            raise ConfigurationError(
                f"OpenVINO computes {path.name} in {actual} on this CPU, not in {precision}. "
                "Set CF_PRECISION=auto."
            )
        return_freed_memory()
        self.inputs: tuple[str, ...] = tuple(port.get_any_name() for port in self._network.inputs)
        self.outputs: tuple[str, ...] = tuple(port.get_any_name() for port in self._network.outputs)
        # Last in, first out: there are as many as ever ran in parallel.
        self._requests: list[openvino.InferRequest] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The named outputs (all, in the graph's order, by default)."""
        try:
            request = self._requests.pop()
        except IndexError:
            request = self._network.create_infer_request()
        try:
            values = request.infer(dict(feeds), share_inputs=True)
            return [values[name] for name in outputs or self.outputs]
        finally:
            self._requests.append(request)
