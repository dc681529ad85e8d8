"""Seeded Keras networks for SavedModels. Needs TensorFlow; `keras` is Keras 3 or `tf_keras`."""

from __future__ import annotations

from typing import Any

from tests.frameworks import seeded

SMALL_SIDE, MASK_SIDE = 20, 100


def small(keras: Any) -> Any:
    """Each kind of layer that Keras' Inception, MobileNet and ResNet are made of, once."""
    layers = keras.layers
    given = keras.Input((SMALL_SIDE, SMALL_SIDE, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(given)
    x = layers.Activation("relu")(layers.BatchNormalization(scale=False)(x))
    left = layers.Conv2D(6, (1, 3), padding="same")(x)
    left = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-5)(left))
    right = layers.AveragePooling2D(3, 1, padding="same")(x)
    right = layers.DepthwiseConv2D(3, padding="same")(right)
    right = layers.Add()([right, x])
    x = layers.MaxPooling2D(3, 3)(layers.Concatenate()([left, right]))
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    x = layers.Dense(10, activation="tanh")(x)
    return _seeded(keras.Model(given, layers.Dense(3, activation="softmax")(x)))


def mask(keras: Any) -> Any:
    """Inception v3 with three scores of a 100 x 100 crop, the form of upstream's mask model."""
    base = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(MASK_SIDE, MASK_SIDE, 3)
    )
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    x = keras.layers.Dropout(0.3)(x)
    return _seeded(keras.Model(base.input, keras.layers.Dense(3, activation="softmax")(x)))


def _seeded(model: Any) -> Any:
    for place, weight in enumerate(model.weights):
        last = weight.name.split(":")[0].rsplit("/", 1)[-1]
        weight.assign(seeded.values(f"{place}/{last}", weight.shape))
    return model
