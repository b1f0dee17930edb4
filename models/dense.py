"""Fully connected layers on the pixels: what every tutorial begins with."""

import keras
from keras import layers

from models.layers import scaled


def build(scale: float, offset: float, units: list[int], dropout: float = 0.0) -> keras.Model:
    """Pixels, uint8 (n, 28, 28), times scale plus offset → logits, float32 (n, 10).

    Args:
        scale: of the pixels.
        offset: likewise.
        units: of each hidden layer, ReLU.
        dropout: share of each hidden layer's outputs that are dropped in training.
    """
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = layers.Flatten()(scaled(image, scale, offset))
    for count in units:
        x = layers.Dense(count, activation="relu")(x)
        x = layers.Dropout(dropout)(x) if dropout else x
    return keras.Model(image, layers.Dense(10, dtype="float32", name="head")(x), name="dense")
