"""Builds a small TensorFlow Lite file with the operators of face networks. Needs TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

SIZE = 24


def small_tflite() -> bytes:
    """Convolutions, fused activations, PReLU, pooling, concatenation and dense layers."""
    rng = np.random.default_rng(1024)

    def weight(*shape: int) -> Any:
        fan = int(np.prod(shape[:-1]))
        return tf.constant(rng.uniform(-1.7, 1.7, shape).astype(np.float32) / fan**0.5)

    kernels = [weight(3, 3, 3, 8), weight(3, 3, 8, 1), weight(1, 1, 8, 6), weight(5, 5, 8, 4)]
    slopes = tf.reshape(weight(10), (1, 1, 10))
    dense, last = weight(3 * 3 * 10, 20), weight(20, 7)
    biases = [weight(8), weight(6), weight(4), weight(20)]

    class Net(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            x = tf.nn.relu6(tf.nn.conv2d(x, kernels[0], 2, "SAME") + biases[0])
            x = tf.nn.relu(tf.nn.depthwise_conv2d(x, kernels[1], [1, 1, 1, 1], "SAME"))
            left = tf.nn.conv2d(x, kernels[2], 1, "VALID") + biases[1]
            right = tf.nn.conv2d(x, kernels[3], 1, "SAME") + biases[2]
            x = tf.concat([left, right], 3)
            x = tf.nn.relu(x) + slopes * tf.minimum(x, 0.0)
            x = tf.nn.max_pool2d(x, 3, 2, "SAME")
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
            x = tf.reshape(x, [1, -1])
            x = tf.tanh(tf.matmul(x, dense) + biases[3])
            return tf.nn.softmax(tf.matmul(x, last))

    net = Net()
    function = net.__call__.get_concrete_function()
    data: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function], net).convert()
    return data
