"""Plain convolutions and pooling, then at most one hidden layer: the nets of the tutorials and books."""

import keras
from keras import layers
from keras.initializers import GlorotUniform, HeUniform

from models.layers import scaled, seeds


def build(
    scale: float,
    offset: float,
    filters: list[int],
    pool_after: list[int],
    units: int,
    kernel: int = 3,
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Pixels, uint8 (n, 28, 28), times scale plus offset → logits, float32 (n, 10).

    Args:
        scale: of the pixels.
        offset: likewise.
        filters: of each convolution; without padding ("valid"), ReLU.
        pool_after: numbers of the convolutions, from 1, that 2 × 2 max-pooling follows.
        units: of the hidden layer, ReLU; 0 = none.
        kernel: side of the convolutions' kernels.
        dropout: share of the outputs of each pooling that are dropped in training.
        seed: of the weights and of the dropout.
    """
    drawn = seeds(seed)
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = scaled(image, scale, offset)
    for number, count in enumerate(filters, start=1):
        x = layers.Conv2D(count, kernel, activation="relu", kernel_initializer=HeUniform(next(drawn)))(x)
        if number in pool_after:
            x = layers.MaxPooling2D()(x)
            x = layers.Dropout(dropout, seed=next(drawn))(x) if dropout else x
    x = layers.Flatten()(x)
    if units:
        x = layers.Dense(units, activation="relu", kernel_initializer=HeUniform(next(drawn)))(x)
    head = layers.Dense(10, dtype="float32", name="head", kernel_initializer=GlorotUniform(next(drawn)))
    return keras.Model(image, head(x), name="convolutional")
