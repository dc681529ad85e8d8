"""ONNX Runtime: one session a model, shared by all threads, on the CPU or one NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.memory import return_freed_memory

_LARGE = 6 << 20  # bytes of input: above 640 x 640 pixels or a batch of faces
_QUIET = 3  # errors only: no user can act on warnings about graph clean-ups


def open_session(
    files: Sequence[Path], *, outputs: Sequence[str], precision: str, concurrency: Concurrency
) -> OnnxSession:
    """See `OpenSession`; all runs share the session."""
    return OnnxSession(files[0], threads=concurrency.threads, gpu_idx=concurrency.gpu_idx)


class OnnxSession:
    """A network in ONNX Runtime; see `Session`."""

    def __init__(self, path: Path, *, threads: int, gpu_idx: int = -1) -> None:
        """Loads `path`; `gpu_idx` >= 0 is a CUDA device. Raises ConfigurationError on failure."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        # Two pools that spin on the same cores halve each other's speed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Patterns are kept per input shape, and detection sees as many shapes as pictures.
        options.enable_mem_pattern = False
        _share_one_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        providers = _providers(gpu_idx)  # outside `try`: its errors are not about the model
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # the runtime raises a type of its own for each cause
            raise ConfigurationError(
                f"{path.name} cannot be loaded by ONNX Runtime: {error}. "
                "Prepare the model again, or choose another build."
            ) from error
        if gpu_idx >= 0 and "CUDAExecutionProvider" not in self._session.get_providers():
            raise ConfigurationError(
                f"ONNX Runtime could not start on GPU {gpu_idx} and fell back to the CPU. "
                "Check the NVIDIA driver, or set GPU_IDX=-1."
            )
        return_freed_memory()
        self.inputs: tuple[str, ...] = tuple(i.name for i in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The named outputs (all, in the graph's order, by default)."""
        large = sum(feed.nbytes for feed in feeds.values()) > _LARGE
        return list(self._session.run(outputs, dict(feeds), _shrinking() if large else None))


@cache
def _shrinking() -> Any:
    """Options of a run after which the arena returns its unused memory."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


@cache
def _share_one_arena() -> None:
    """One arena for all sessions of the process, which grows by the size that is requested.

    An arena per session would double with every growth and keep memory that others could use.
    """
    info = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    settings = {"arena_extend_strategy": 1, "initial_chunk_size_bytes": 1 << 20, "max_mem": 0}
    ort.create_and_register_allocator(info, ort.OrtArenaCfg(settings))


def _providers(gpu_idx: int) -> list[str | tuple[str, dict[str, Any]]]:
    if gpu_idx < 0:
        return ["CPUExecutionProvider"]
    available = ort.get_available_providers()
    if "CUDAExecutionProvider" not in available:
        raise ConfigurationError(
            f"GPU_IDX={gpu_idx} asks for a GPU, but this ONNX Runtime has no CUDA provider "
            f"(it has {', '.join(available)}). Install the engine with its `gpu` extra, "
            "or set GPU_IDX=-1."
        )
    # CUDA and cuDNN come as wheels of their own; the provider finds them only once they are loaded.
    ort.preload_dlls()
    cuda = {"device_id": gpu_idx, "cudnn_conv_algo_search": "HEURISTIC"}
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
