"""TensorFlow: runs a model's own frozen graph, with the interface of its converted network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.memory import return_freed_memory

# Read once, when the library is loaded: no user can act on its notes about the CPU.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

_INPUTS: Final = ("input", "image_batch")  # where FaceNet's published graphs take pictures
_KEEP: Final = ("keep_probability",)  # a dropout's, where the graph has it as an input


def open_session(
    files: Sequence[Path], *, outputs: Sequence[str], precision: str, concurrency: Concurrency
) -> TensorFlowSession:
    """See `OpenSession`: one frozen graph."""
    return TensorFlowSession(
        files[0],
        outputs=outputs,
        threads=concurrency.threads,
        runs=concurrency.runs,
        gpu_idx=concurrency.gpu_idx,
    )


class TensorFlowSession:
    """A frozen GraphDef in graph mode; see `Session`. Takes `input` as [N, C, H, W]."""

    inputs: tuple[str, ...] = ("input",)

    def __init__(
        self, path: Path, *, outputs: Sequence[str], threads: int, runs: int = 1, gpu_idx: int = -1
    ) -> None:
        """Loads `path`; `outputs` are the names of nodes.

        The graph has one input of pictures, [N, H, W, C]; switches for training are off. All runs
        share `threads` times `runs` threads. Raises ConfigurationError if it cannot be loaded.
        """
        try:
            definition = tf.compat.v1.GraphDef()
            definition.ParseFromString(path.read_bytes())
            # A session holds the weights once where a function of TensorFlow 2 holds them twice.
            with tf.Graph().as_default() as graph:
                pictures = tf.compat.v1.placeholder(tf.float32, (None, None, None, None))
                values = _imported(definition, pictures, outputs)
                self._session = tf.compat.v1.Session(
                    graph=graph, config=_settings(threads * runs, gpu_idx)
                )
                self._call = self._session.make_callable(values, feed_list=[pictures])
            del definition
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
        values = dict(zip(self.outputs, self._call(pictures), strict=True))
        return [_planes_first(values[name]) for name in outputs or self.outputs]


def _settings(threads: int, gpu_idx: int) -> Any:
    settings = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0} if gpu_idx < 0 else {},
    )
    if gpu_idx >= 0:
        settings.gpu_options.visible_device_list = str(gpu_idx)
        settings.gpu_options.allow_growth = True  # it takes the whole card otherwise
    return settings


def _imported(definition: Any, pictures: Any, outputs: Sequence[str]) -> list[Any]:
    """Imports the graph over `pictures` into the current one; returns its tensors `outputs`."""
    names = {node.name for node in definition.node}
    numbers = [node.name for node in definition.node if _is_placeholder(node, tf.float32)]
    known = [name for name in _INPUTS if name in names]
    free = known[:1] or [name for name in numbers if name not in _KEEP]
    if len(free) != 1:
        raise ConfigurationError(
            f"the TensorFlow graph has {len(free)} inputs of numbers ({', '.join(free)}), not one "
            "of pictures. Set CF_RUNTIME=onnxruntime."
        )
    feeds = {free[0]: pictures}
    feeds |= {name: tf.constant(1.0) for name in numbers if name in _KEEP}
    switches = [node.name for node in definition.node if _is_placeholder(node, tf.bool)]
    feeds |= {name: tf.constant(False) for name in switches}
    tensors = tf.graph_util.import_graph_def(
        definition,
        input_map={f"{name}:0": value for name, value in feeds.items()},
        return_elements=[f"{name}:0" for name in outputs],
        name="",
    )
    return list(tensors)


def _is_placeholder(node: Any, dtype: Any) -> bool:
    if node.op not in ("Placeholder", "PlaceholderWithDefault"):
        return False
    return bool(node.attr["dtype"].type == dtype.as_datatype_enum)


def _planes_first(value: NDArray[Any]) -> NDArray[Any]:
    """Maps transposed to [N, C, H, W], as the converted network gives them; rows unchanged."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
