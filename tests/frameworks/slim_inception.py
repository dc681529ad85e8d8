"""TensorFlow-Slim's Inception v3 with a dense layer of labels, as a TF1 graph. Needs TensorFlow.

Written from the network's paper and Slim's variable names, apart from the converter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.frameworks import seeded

v1: Any = tf.compat.v1


def _conv(x: Any, scope: str, depth: int, high: int, wide: int, **how: Any) -> Any:
    with v1.variable_scope(scope):
        weights = _variable("weights", [high, wide, int(x.shape[3]), depth])
        stride, padding = how.get("stride", 1), how.get("padding", "SAME")
        x = v1.nn.conv2d(x, weights, strides=[1, stride, stride, 1], padding=padding)
        with v1.variable_scope("BatchNorm"):
            beta, mean, variance = (
                _variable(name, [depth]) for name in ("beta", "moving_mean", "moving_variance")
            )
        return v1.nn.relu(v1.nn.batch_normalization(x, mean, variance, beta, None, 0.001))


def _variable(name: str, shape: list[int]) -> Any:
    full = f"{v1.get_variable_scope().name}/{name}"
    return v1.get_variable(name, initializer=seeded.values(full, shape), use_resource=False)


def _average(x: Any) -> Any:
    return v1.nn.avg_pool2d(x, 3, 1, "SAME")


def _largest(x: Any) -> Any:
    return v1.nn.max_pool2d(x, 3, 2, "VALID")


def _branch(x: Any, number: int, *layers: tuple[Any, ...], **last: Any) -> Any:
    """Layers in a row; what `last` says holds for the last of them."""
    with v1.variable_scope(f"Branch_{number}"):
        for layer in layers:
            x = _conv(x, *layer, **(last if layer is layers[-1] else {}))
    return x


def _fork(x: Any, number: int, *names: str) -> list[Any]:
    with v1.variable_scope(f"Branch_{number}"):
        return [_conv(x, names[0], 384, 1, 3), _conv(x, names[1], 384, 3, 1)]


def base(x: Any) -> Any:
    """[N, H, W, 3] -> [N, h, w, 2048]."""
    x = _conv(x, "Conv2d_1a_3x3", 32, 3, 3, stride=2, padding="VALID")
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, 3, padding="VALID")
    x = _conv(x, "Conv2d_2b_3x3", 64, 3, 3)
    x = _largest(x)
    x = _conv(x, "Conv2d_3b_1x1", 80, 1, 1, padding="VALID")
    x = _conv(x, "Conv2d_4a_3x3", 192, 3, 3, padding="VALID")
    x = _largest(x)
    for scope, depth, reduce, wide in (
        ("Mixed_5b", 32, "Conv2d_0a_1x1", "Conv2d_0b_5x5"),
        ("Mixed_5c", 64, "Conv2d_0b_1x1", "Conv_1_0c_5x5"),
        ("Mixed_5d", 64, "Conv2d_0a_1x1", "Conv2d_0b_5x5"),
    ):
        with v1.variable_scope(scope):
            first = _branch(x, 0, ("Conv2d_0a_1x1", 64, 1, 1))
            second = _branch(x, 1, (reduce, 48, 1, 1), (wide, 64, 5, 5))
            third = _branch(
                x,
                2,
                ("Conv2d_0a_1x1", 64, 1, 1),
                ("Conv2d_0b_3x3", 96, 3, 3),
                ("Conv2d_0c_3x3", 96, 3, 3),
            )
            fourth = _branch(_average(x), 3, ("Conv2d_0b_1x1", depth, 1, 1))
            x = tf.concat([first, second, third, fourth], 3)
    half = {"stride": 2, "padding": "VALID"}
    with v1.variable_scope("Mixed_6a"):
        layers = [("Conv2d_0a_1x1", 64, 1, 1), ("Conv2d_0b_3x3", 96, 3, 3)]
        second = _branch(x, 1, *layers, ("Conv2d_1a_1x1", 96, 3, 3), **half)
        first = _branch(x, 0, ("Conv2d_1a_1x1", 384, 3, 3), **half)
        x = tf.concat([first, second, _largest(x)], 3)
    for letter, depth in zip("bcde", (128, 160, 160, 192), strict=True):
        with v1.variable_scope(f"Mixed_6{letter}"):
            x = _factorised(x, depth)
    with v1.variable_scope("Mixed_7a"):
        layers = [("Conv2d_0a_1x1", 192, 1, 1), ("Conv2d_0b_1x7", 192, 1, 7)]
        layers += [("Conv2d_0c_7x1", 192, 7, 1), ("Conv2d_1a_3x3", 192, 3, 3)]
        second = _branch(x, 1, *layers, **half)
        first = _branch(x, 0, layers[0], ("Conv2d_1a_3x3", 320, 3, 3), **half)
        x = tf.concat([first, second, _largest(x)], 3)
    for letter, tall in (("b", "Conv2d_0b_3x1"), ("c", "Conv2d_0c_3x1")):
        with v1.variable_scope(f"Mixed_7{letter}"):
            x = _widened(x, tall)
    return x


def _factorised(x: Any, depth: int) -> Any:
    first = _branch(x, 0, ("Conv2d_0a_1x1", 192, 1, 1))
    start = ("Conv2d_0a_1x1", depth, 1, 1)
    second = _branch(x, 1, start, ("Conv2d_0b_1x7", depth, 1, 7), ("Conv2d_0c_7x1", 192, 7, 1))
    third = _branch(
        x,
        2,
        start,
        ("Conv2d_0b_7x1", depth, 7, 1),
        ("Conv2d_0c_1x7", depth, 1, 7),
        ("Conv2d_0d_7x1", depth, 7, 1),
        ("Conv2d_0e_1x7", 192, 1, 7),
    )
    fourth = _branch(_average(x), 3, ("Conv2d_0b_1x1", 192, 1, 1))
    return tf.concat([first, second, third, fourth], 3)


def _widened(x: Any, tall: str) -> Any:
    first = _branch(x, 0, ("Conv2d_0a_1x1", 320, 1, 1))
    second = _branch(x, 1, ("Conv2d_0a_1x1", 384, 1, 1))
    third = _branch(x, 2, ("Conv2d_0a_1x1", 448, 1, 1), ("Conv2d_0b_3x3", 384, 3, 3))
    fourth = _branch(_average(x), 3, ("Conv2d_0b_1x1", 192, 1, 1))
    forks = [_fork(second, 1, "Conv2d_0b_1x3", tall)]
    forks += [_fork(third, 2, "Conv2d_0c_1x3", "Conv2d_0d_3x1")]
    return tf.concat([first, *forks[0], *forks[1], fourth], 3)


def checkpoint(prefix: Path, labels: int, batch: Any) -> Any:
    """Saves a seeded network as training would, and gives its softmax for `batch`."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        pictures = v1.placeholder(tf.float32, [None, *batch.shape[1:]])
        with v1.variable_scope("InceptionV3"):
            net = tf.reduce_mean(base(pictures), [1, 2])
        with v1.variable_scope("output"):
            weights = _variable("weights", [2048, labels])
            logits = tf.matmul(net, weights) + _variable("biases", [labels])
        v1.get_variable("global_step", initializer=14999)
        v1.get_variable("output/weights/Momentum", shape=[2048, labels])
        v1.get_variable("labels", initializer=["young", "old"])
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(save_relative_paths=True)
        saver.save(session, str(prefix), 14999, write_meta_graph=False)
        return session.run(v1.nn.softmax(logits), {pictures: batch})
