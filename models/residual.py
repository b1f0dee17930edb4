"""A small residual net for CPU cores: a convolution and residual blocks at half, then at a quarter of the resolution.

All but the first convolution work at 14 × 14 or 7 × 7. No batch normalisation, which is the brake on a CPU
(models/layers.py); without it the residual branches start small and the gain of √2 makes up for what ReLU takes.
"""

from collections.abc import Iterator

import keras
from keras import layers
from keras.initializers import GlorotUniform

from models.layers import StandardisedConv, scaled, seeds

RELU_GAIN = 1.4  # ≈ √2
BRANCH_GAIN = 0.3  # a residual branch starts as a small correction


def build(scale: float, offset: float, width: int, blocks: int, dropout: float = 0.0, seed: int = 0) -> keras.Model:
    """Pixels, uint8 (n, 28, 28), times scale plus offset → logits, float32 (n, 10).

    Args:
        scale: of the pixels.
        offset: likewise.
        width: channels of the first convolution; twice and four times as many follow.
        blocks: residual blocks at each of the two resolutions.
        dropout: share of the last features that are dropped in training.
        seed: of the weights and of the dropout.
    """
    drawn = seeds(seed)
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = layers.ReLU()(StandardisedConv(width, gain=RELU_GAIN, seed=next(drawn))(scaled(image, scale, offset)))
    x = stage(layers.MaxPooling2D()(x), 2 * width, blocks, drawn)  # 14 × 14
    x = stage(layers.MaxPooling2D()(x), 4 * width, blocks, drawn)  # 7 × 7
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout, seed=next(drawn))(x) if dropout else x
    head = layers.Dense(10, dtype="float32", name="head", kernel_initializer=GlorotUniform(next(drawn)))
    return keras.Model(image, head(x), name="residual")


def stage(x: keras.KerasTensor, filters: int, blocks: int, drawn: Iterator[int]) -> keras.KerasTensor:
    """A convolution to `filters` channels and pre-activated residual blocks on them; (n, h, w, filters)."""
    x = StandardisedConv(filters, gain=RELU_GAIN, seed=next(drawn))(x)
    for _ in range(blocks):
        y = StandardisedConv(filters, gain=RELU_GAIN, seed=next(drawn))(layers.ReLU()(x))
        y = StandardisedConv(filters, gain=BRANCH_GAIN, seed=next(drawn))(layers.ReLU()(y))
        x = layers.Add()([x, y])
    return layers.ReLU()(x)
