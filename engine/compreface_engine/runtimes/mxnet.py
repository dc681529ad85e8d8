"""MXNet: runs a model's own symbol and parameters, with the interface of its converted network."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.host import this_cpu
from compreface_engine.runtimes.memory import return_freed_memory

_EXECUTORS: Final = 8  # one per input shape; each holds the memory of its layers
# Read once, when the library is loaded. Waiting threads that spin cost six times the processor time
# as soon as two runs share the cores.
_VARIABLES: Final = {"OMP_WAIT_POLICY": "PASSIVE", "MXNET_SUBGRAPH_VERBOSE": "0"}


def open_session(
    files: Sequence[Path], *, outputs: Sequence[str], precision: str, concurrency: Concurrency
) -> MxnetSession:
    """See `OpenSession`: the symbol (`.json`) and its parameters, in any order."""
    symbol, params = sorted(files, key=lambda file: file.suffix != ".json")
    return MxnetSession(
        symbol,
        params,
        outputs=outputs,
        threads=concurrency.threads * concurrency.runs,
        gpu_idx=concurrency.gpu_idx,
    )


class MxnetSession:
    """A symbol bound to its parameters; see `Session`. Runs are serialised."""

    inputs: tuple[str, ...] = ("input",)

    def __init__(
        self, symbol: Path, params: Path, *, outputs: Sequence[str], threads: int, gpu_idx: int = -1
    ) -> None:
        """Loads the two files; `outputs` are the symbol's heads without `_output`.

        `threads` counts for the whole process and is fixed by its first model. Raises
        ConfigurationError if the files cannot be loaded.
        """
        self._lock = threading.Lock()  # an executor is not thread-safe
        self._executors: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        mx = _library(threads)
        try:
            self._device = mx.cpu() if gpu_idx < 0 else mx.gpu(gpu_idx)
            graph = mx.sym.load(str(symbol))
            known = graph.get_internals()
            self._symbol = mx.sym.Group([known[f"{name}_output"] for name in outputs])
            stored = {
                name.partition(":")[2]: value.as_in_context(self._device)
                for name, value in mx.nd.load(str(params)).items()
            }
        except Exception as error:  # MXNet's own errors, ValueError and AttributeError among others
            raise ConfigurationError(
                f"{symbol.name} cannot be loaded by MXNet: {' '.join(str(error).split())[:400]}. "
                "Prepare the model again, or set CF_RUNTIME=onnxruntime."
            ) from error
        arguments = self._symbol.list_arguments()
        free = [name for name in arguments if name not in stored]
        if len(free) != 1:
            raise ConfigurationError(
                f"{symbol.name} has {len(free)} inputs without values ({', '.join(free[:5])}), not "
                "one: its parameters do not belong to it."
            )
        self._input = free[0]
        self._arguments = {name: stored[name] for name in arguments if name in stored}
        self._states = {name: stored[name] for name in self._symbol.list_auxiliary_states()}
        self._mx = mx
        return_freed_memory()
        self.outputs: tuple[str, ...] = tuple(outputs)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The named outputs (all, in the manifest's order, by default)."""
        pictures = np.ascontiguousarray(feeds["input"], np.float32)
        with self._lock:
            executor = self._bound(pictures.shape)
            executor.arg_dict[self._input][:] = pictures
            answers = executor.forward(is_train=False)
            values = dict(zip(self.outputs, answers, strict=True))
            return [values[name].asnumpy() for name in outputs or self.outputs]

    def _bound(self, shape: tuple[int, ...]) -> Any:
        """The executor for inputs of `shape`; a new one replaces the least recently used."""
        executor = self._executors.pop(shape, None)
        if executor is None:
            if len(self._executors) >= _EXECUTORS:
                self._executors.popitem(last=False)
            pictures = self._mx.nd.empty(shape, self._device)
            executor = self._symbol.bind(
                self._device,
                {**self._arguments, self._input: pictures},
                grad_req="null",
                aux_states=self._states,
            )
        self._executors[shape] = executor
        return executor


def _library(threads: int) -> Any:
    """MXNet, loaded with its number of threads."""
    variables = {**_VARIABLES, "OMP_NUM_THREADS": str(threads)}
    if "avx512f" in this_cpu().flags:
        # With fused subgraphs MobileFaceNet's second run fails there: "We can't generate TBlob for
        # MKLDNN data" (1.9.1).
        variables["MXNET_SUBGRAPH_BACKEND"] = "NONE"
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    try:
        import mxnet
    except AttributeError as error:  # it uses types that NumPy 1.24 removed
        raise ConfigurationError(
            f"MXNet does not run with the NumPy {np.__version__} installed here: {error}. "
            "Install the engine with its `mxnet` extra, which brings NumPy 1.23.5."
        ) from error
    return mxnet
