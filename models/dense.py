"""Fully connected layers on the pixels: what every tutorial begins with."""

import keras
from keras import layers
from keras.initializers import GlorotUniform

from models.layers import scaled, seeds


def build(scale: float, offset: float, units: list[int], dropout: float = 0.0, seed: int = 0) -> keras.Model:
    """Pixels, uint8 (n, 28, 28), times scale plus offset → logits, float32 (n, 10).

    Args:
        scale: of the pixels.
        offset: likewise.
        units: of each hidden layer, ReLU.
        dropout: share of each hidden layer's outputs that are dropped in training.
        seed: of the weights and of the dropout.
    """
    drawn = seeds(seed)
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = layers.Flatten()(scaled(image, scale, offset))
    for count in units:
        x = layers.Dense(count, activation="relu", kernel_initializer=GlorotUniform(next(drawn)))(x)
        x = layers.Dropout(dropout, seed=next(drawn))(x) if dropout else x
    head = layers.Dense(10, dtype="float32", name="head", kernel_initializer=GlorotUniform(next(drawn)))
    return keras.Model(image, head(x), name="dense")
