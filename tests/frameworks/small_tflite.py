"""Builds small TensorFlow Lite files and a frozen graph of one network. Needs TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

SIZE = 24


def small_tflite(*, halves: bool = False) -> bytes:
    """The network as a TFLite file; `halves`: its weights in float16, as TensorFlow writes them."""
    net, function = _network(tf.constant, 1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], net)
    if halves:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    data: bytes = converter.convert()
    return data


def small_frozen_graph() -> bytes:
    """The network frozen as TensorFlow 2 does it: its input is `x`, its output `Identity`."""
    from tensorflow.python.framework import convert_to_constants

    _, function = _network(tf.Variable, None)
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    data: bytes = frozen.graph.as_graph_def().SerializeToString()
    return data


def _network(hold: Any, batch: int | None) -> tuple[Any, Any]:
    """Convolutions, fused activations, PReLU, pooling, concatenation and dense layers.

    The module and its function; `hold` makes what holds a weight, `batch` None takes any.
    """
    rng = np.random.default_rng(1024)

    def weight(*shape: int) -> Any:
        fan = int(np.prod(shape[:-1]))
        return hold(rng.uniform(-1.7, 1.7, shape).astype(np.float32) / fan**0.5)

    kernels = [weight(3, 3, 3, 8), weight(3, 3, 8, 1), weight(1, 1, 8, 6), weight(5, 5, 8, 4)]
    slopes = weight(10)
    dense, last = weight(3 * 3 * 10, 20), weight(20, 7)
    biases = [weight(8), weight(6), weight(4), weight(20)]

    class Net(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([batch, SIZE, SIZE, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            x = tf.nn.relu6(tf.nn.conv2d(x, kernels[0], 2, "SAME") + biases[0])
            x = tf.nn.relu(tf.nn.depthwise_conv2d(x, kernels[1], [1, 1, 1, 1], "SAME"))
            left = tf.nn.conv2d(x, kernels[2], 1, "VALID") + biases[1]
            right = tf.nn.conv2d(x, kernels[3], 1, "SAME") + biases[2]
            x = tf.concat([left, right], 3)
            x = tf.nn.relu(x) + tf.reshape(slopes, (1, 1, 10)) * tf.minimum(x, 0.0)
            x = tf.nn.max_pool2d(x, 3, 2, "SAME")
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
            x = tf.reshape(x, [1, -1] if batch else [-1, 90])
            x = tf.tanh(tf.matmul(x, dense) + biases[3])
            return tf.nn.softmax(tf.matmul(x, last))

    net = Net()
    net.weights = [*kernels, dense, last, *biases]  # else nobody holds the variables
    return net, net.__call__.get_concrete_function()
