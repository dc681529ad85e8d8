"""TensorFlow: a model's own frozen graph; from outside its converted network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.memory import return_freed_memory

# Read once, when the library is loaded: its notes about the CPU are nothing a user can act on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

_CPU = "/CPU:0"
_INPUTS = ("input", "image_batch")  # where FaceNet's published graphs take pictures
_KEEP = ("keep_probability",)  # of a dropout, where a graph leaves it open


class TensorFlowSession:
    """A frozen GraphDef in graph mode; see `Session`. Takes `input` as [N, C, H, W]."""

    inputs: tuple[str, ...] = ("input",)

    def __init__(
        self, path: Path, *, outputs: Sequence[str], threads: int, lanes: int = 1, gpu_idx: int = -1
    ) -> None:
        """Loads `path`, whose nodes `outputs` are the answers, named like that.

        The graph has one input of pictures, [N, H, W, C]; switches for training are off. The
        threads are those of the whole process: `threads` a run, `lanes` runs side by side. Raises
        ConfigurationError if it cannot be loaded.
        """
        _set_up(threads, lanes, gpu_idx)
        try:
            graph = tf.compat.v1.GraphDef()
            graph.ParseFromString(path.read_bytes())
            self._function = _pruned(graph, outputs, _CPU if gpu_idx < 0 else f"/GPU:{gpu_idx}")
        except ConfigurationError:
            raise
        except Exception as error:  # protobuf, the file system and TensorFlow raise their own
            raise ConfigurationError(
                f"{path.name} cannot be loaded by TensorFlow: {' '.join(str(error).split())[:400]}."
                " Prepare the model again, or set CF_RUNTIME=onnxruntime."
            ) from error
        return_freed_memory()
        self.outputs: tuple[str, ...] = tuple(outputs)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The named outputs (all, in the manifest's order, by default)."""
        pictures = np.ascontiguousarray(feeds["input"].transpose(0, 2, 3, 1))
        values = dict(zip(self.outputs, self._function(tf.constant(pictures)), strict=True))
        return [_planes_first(values[name].numpy()) for name in outputs or self.outputs]


def _set_up(threads: int, lanes: int, gpu_idx: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads * lanes)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if gpu_idx < 0:
            tf.config.set_visible_devices([], "GPU")
        else:
            for gpu in tf.config.list_physical_devices("GPU"):
                # It takes the whole card otherwise, and ONNX Runtime runs there too.
                tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return  # an earlier model of this process has set it up


def _pruned(graph: Any, outputs: Sequence[str], device: str) -> Any:
    """The function from pictures to `outputs`."""
    names = {node.name for node in graph.node}
    numbers = [node.name for node in graph.node if _is_placeholder(node, tf.float32)]
    known = [name for name in _INPUTS if name in names]
    pictures = known[:1] or [name for name in numbers if name not in _KEEP]
    if len(pictures) != 1:
        raise ConfigurationError(
            f"the TensorFlow graph has {len(pictures)} inputs of numbers ({', '.join(pictures)}), "
            "not one of pictures. Set CF_RUNTIME=onnxruntime."
        )
    switches = [node.name for node in graph.node if _is_placeholder(node, tf.bool)]

    def imported(image: Any) -> Any:
        with tf.device(device):
            fixed = {f"{name}:0": tf.constant(False) for name in switches}
            fixed |= {f"{name}:0": tf.constant(1.0) for name in numbers if name in _KEEP}
            return tf.graph_util.import_graph_def(
                graph,
                input_map={f"{pictures[0]}:0": image, **fixed},
                return_elements=[f"{name}:0" for name in outputs],
                name="",
            )

    any_pictures = tf.TensorSpec((None, None, None, None), tf.float32)
    function = tf.compat.v1.wrap_function(imported, [any_pictures])
    # Published graphs still hold the queue that training read its pictures from.
    return function.prune(function.inputs, function.outputs)


def _is_placeholder(node: Any, dtype: Any) -> bool:
    if node.op not in ("Placeholder", "PlaceholderWithDefault"):
        return False
    return bool(node.attr["dtype"].type == dtype.as_datatype_enum)


def _planes_first(value: NDArray[Any]) -> NDArray[Any]:
    """Maps as the converted network gives them, [N, C, H, W]; rows as they are."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
