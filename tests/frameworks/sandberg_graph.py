"""Builds a small frozen graph in the form of David Sandberg's published ones. Needs TensorFlow.

Switch and Merge hang on `phase_train`, batch norms stand fused and as arithmetic, a dropout and an
input queue are part of the file; weights are seeded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

v1: Any = tf.compat.v1
SIZE = 35
_WHITELIST = ("Net", "embeddings", "image_batch", "label_batch", "phase_train", "batch_size")


class _Net:
    """Layers as tf.contrib.slim made them; variables come from one seeded source."""

    def __init__(self, training: Any) -> None:
        self.training = training
        self.rng = np.random.default_rng(20180402)
        self.updates: list[Any] = []

    def variable(self, name: str, shape: list[int], *, low: float, high: float) -> Any:
        value = self.rng.uniform(low, high, shape).astype(np.float32)
        return v1.get_variable(name, initializer=value, use_resource=False)

    def conv(
        self, x: Any, out: int, size: int, *, stride: int = 1, padding: str = "SAME", **kind: Any
    ) -> Any:
        fan = size * size * int(x.shape[3])
        weights = self.variable(
            "weights", [size, size, int(x.shape[3]), out], low=-1.7 / fan**0.5, high=1.7 / fan**0.5
        )
        y = v1.nn.conv2d(x, weights, strides=[1, stride, stride, 1], padding=padding)
        if kind.get("bias"):
            return v1.nn.bias_add(y, self.variable("biases", [out], low=-0.5, high=0.5))
        return v1.nn.relu(self.norm(y, fused=kind.get("fused", True)))

    def norm(self, x: Any, *, fused: bool) -> Any:
        with v1.variable_scope("BatchNorm"):
            size = [int(x.shape[-1])]
            beta = self.variable("beta", size, low=-0.3, high=0.3)
            mean = self.variable("moving_mean", size, low=-0.3, high=0.3)
            var = self.variable("moving_variance", size, low=0.3, high=1.5)
            return (self._fused if fused else self._plain)(x, beta, mean, var)

    def _fused(self, x: Any, beta: Any, mean: Any, var: Any) -> Any:
        rank = len(x.shape)
        y = tf.reshape(x, [-1, 1, 1, int(x.shape[1])]) if rank == 2 else x
        gamma = v1.constant(np.ones(int(x.shape[-1]), np.float32))

        def train() -> Any:
            return v1.nn.fused_batch_norm(y, gamma, beta, epsilon=0.001, is_training=True)

        def infer() -> Any:
            return v1.nn.fused_batch_norm(
                y, gamma, beta, mean=mean, variance=var, epsilon=0.001, is_training=False
            )

        out, batch_mean, _ = v1.cond(self.training, train, infer)
        decay = v1.cond(self.training, lambda: tf.constant(0.995), lambda: tf.constant(1.0))
        self.updates.append(v1.assign_sub(mean, (mean - batch_mean) * (1 - decay)))
        return tf.reshape(out, tf.shape(x)) if rank == 2 else out

    def _plain(self, x: Any, beta: Any, mean: Any, var: Any) -> Any:
        axes = list(range(len(x.shape) - 1))
        batch_mean, batch_var = v1.nn.moments(x, axes)

        def train() -> Any:
            steps = [v1.assign_sub(mean, (mean - batch_mean) * 0.005)]
            with tf.control_dependencies(steps):
                return tf.identity(batch_mean), tf.identity(batch_var)

        used_mean, used_var = v1.cond(self.training, train, lambda: (mean, var))
        return v1.nn.batch_normalization(x, used_mean, used_var, beta, None, 0.001)

    def block(self, x: Any, scale: float) -> Any:
        with v1.variable_scope("Branch_0"):
            first = self.conv(x, 6, 1)
        with v1.variable_scope("Branch_1"), v1.variable_scope("Conv2d_0a"):
            second = self.conv(x, 5, 1, fused=False)
        with v1.variable_scope("Branch_1"), v1.variable_scope("Conv2d_0b"):
            second = self.conv(second, 7, 3)
        mixed = tf.concat([first, second], 3)
        with v1.variable_scope("Conv2d_1x1"):
            up = self.conv(mixed, int(x.shape[3]), 1, bias=True)
        return v1.nn.relu(x + scale * up)


def _queue() -> Any:
    paths = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="images")
    queue = v1.FIFOQueue(16, [tf.float32, tf.int32], shapes=[(SIZE, SIZE, 3), ()])
    queue.enqueue_many([paths, v1.placeholder(tf.int32, [None], name="labels")])
    images, labels = queue.dequeue_up_to(v1.placeholder(tf.int32, name="batch_size"))
    tf.identity(labels, "label_batch")
    images.set_shape((None, SIZE, SIZE, 3))
    return tf.identity(tf.identity(images, "image_batch"), "input")


def _network(x: Any, training: Any) -> None:
    net = _Net(training)
    with v1.variable_scope("Net"):
        with v1.variable_scope("Conv2d_1a"):
            x = net.conv(x, 8, 3, stride=2, padding="VALID")
        with v1.variable_scope("Conv2d_2a"):
            x = net.conv(x, 12, 3, fused=False)
        x = v1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")
        with v1.variable_scope("Block_1"):
            x = net.block(x, 0.17)
        with v1.variable_scope("Conv2d_3a"):
            x = net.conv(x, 16, 3, stride=2)
        x = v1.nn.avg_pool(x, [1, 4, 4, 1], [1, 1, 1, 1], "VALID")
        x = tf.reshape(x, tf.stack([tf.shape(x)[0], -1]))
        x = v1.cond(training, lambda: v1.nn.dropout(x, rate=0.2), lambda: tf.identity(x))
        x.set_shape((None, 16))
        with v1.variable_scope("Bottleneck"):
            weights = net.variable("weights", [16, 24], low=-0.5, high=0.5)
            x = net.norm(tf.matmul(x, weights), fused=True)
    v1.nn.l2_normalize(x, 1, 1e-10, name="embeddings")


def frozen_graph() -> bytes:
    """The serialised GraphDef, the same bytes every time for one version of TensorFlow."""
    v1.disable_control_flow_v2()
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        training = v1.placeholder(tf.bool, name="phase_train")
        _network(_queue(), training)
        session.run(v1.global_variables_initializer())
        definition = graph.as_graph_def()
        for node in definition.node:  # what Sandberg's freezing script does
            if node.op == "RefSwitch":
                node.op = "Switch"
            elif node.op == "AssignSub":
                node.op = "Sub"
                if "use_locking" in node.attr:
                    del node.attr["use_locking"]
        keep = [n.name for n in definition.node if n.name.startswith(_WHITELIST)]
        frozen = v1.graph_util.convert_variables_to_constants(
            session, definition, ["embeddings", "label_batch"], variable_names_whitelist=keep
        )
    data: bytes = frozen.SerializeToString(deterministic=True)
    return data
