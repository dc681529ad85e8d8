"""MTCNN's three networks in TensorFlow; runs in the TensorFlow environment only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from bench.plain_mtcnn import Array


class Networks:
    """P-, R- and O-Net as traced functions; weights by the names of `mtcnn.npz`."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._w = {name: tf.constant(value) for name, value in weights.items()}
        any_size = tf.TensorSpec([1, None, None, 3], tf.float32)
        self._traced_pnet = tf.function(self._pnet, input_signature=[any_size])
        self._traced_rnet = tf.function(
            self._rnet, input_signature=[tf.TensorSpec([None, 24, 24, 3], tf.float32)]
        )
        self._traced_onet = tf.function(
            self._onet, input_signature=[tf.TensorSpec([None, 48, 48, 3], tf.float32)]
        )

    def pnet(self, x: Array) -> list[Array]:
        return [part.numpy() for part in self._traced_pnet(x)]

    def rnet(self, x: Array) -> list[Array]:
        return [part.numpy() for part in self._traced_rnet(x)]

    def onet(self, x: Array) -> list[Array]:
        return [part.numpy() for part in self._traced_onet(x)]

    def _conv(self, x: Any, name: str) -> Any:
        kernel, bias = self._w[f"{name}.kernel"], self._w[f"{name}.bias"]
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias)

    def _dense(self, x: Any, name: str) -> Any:
        return tf.linalg.matmul(x, self._w[f"{name}.kernel"]) + self._w[f"{name}.bias"]

    def _prelu(self, x: Any, name: str) -> Any:
        return tf.nn.relu(x) - self._w[f"{name}.alpha"] * tf.nn.relu(-x)

    def _pnet(self, x: Any) -> tuple[Any, Any]:
        x = self._prelu(self._conv(x, "pnet.conv1"), "pnet.prelu1")
        x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        x = self._prelu(self._conv(x, "pnet.conv2"), "pnet.prelu2")
        x = self._prelu(self._conv(x, "pnet.conv3"), "pnet.prelu3")
        return self._conv(x, "pnet.conv4_box"), tf.nn.softmax(self._conv(x, "pnet.conv4_prob"))

    def _rnet(self, x: Any) -> tuple[Any, Any]:
        x = self._prelu(self._conv(x, "rnet.conv1"), "rnet.prelu1")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        x = self._prelu(self._conv(x, "rnet.conv2"), "rnet.prelu2")
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = self._prelu(self._conv(x, "rnet.conv3"), "rnet.prelu3")
        x = self._prelu(self._dense(tf.reshape(x, [-1, 576]), "rnet.dense4"), "rnet.prelu4")
        return self._dense(x, "rnet.dense5_box"), tf.nn.softmax(self._dense(x, "rnet.dense5_prob"))

    def _onet(self, x: Any) -> tuple[Any, Any, Any]:
        x = self._prelu(self._conv(x, "onet.conv1"), "onet.prelu1")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        x = self._prelu(self._conv(x, "onet.conv2"), "onet.prelu2")
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = self._prelu(self._conv(x, "onet.conv3"), "onet.prelu3")
        x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        x = self._prelu(self._conv(x, "onet.conv4"), "onet.prelu4")
        x = self._prelu(self._dense(tf.reshape(x, [-1, 1152]), "onet.dense5"), "onet.prelu5")
        return (
            self._dense(x, "onet.dense6_box"),
            self._dense(x, "onet.dense6_landmarks"),
            tf.nn.softmax(self._dense(x, "onet.dense6_prob")),
        )
