"""Our fastest net at an answer: its first convolution has a stride, which int8 kernels like better than pooling.

A convolution of one channel is dear in int8, and one of 28 × 28 places four times as dear as one of 14 × 14
(docs/experiments.md). Like models/residual.py otherwise, with residual blocks at 7 × 7 alone.
"""

import keras
from keras import layers
from keras.initializers import GlorotUniform

from models.layers import StandardisedConv, scaled, seeds
from models.residual import RELU_GAIN, stage

STEM_SIDE = 5  # pixels of the first convolution's kernels


def build(
    scale: float, offset: float, stem: int, middle: int, width: int, blocks: int, dropout: float = 0.0, seed: int = 0
) -> keras.Model:
    """Pixels, uint8 (n, 28, 28), times scale plus offset → logits, float32 (n, 10).

    Args:
        scale: of the pixels.
        offset: likewise.
        stem: channels of the first convolution, which leaves 14 × 14 places.
        middle: channels of the second one, which is followed by pooling.
        width: channels at 7 × 7.
        blocks: residual blocks there.
        dropout: share of the last features that are dropped in training.
        seed: of the weights and of the dropout.
    """
    drawn = seeds(seed)
    image = keras.Input((28, 28), dtype="uint8", name="image")
    first = StandardisedConv(stem, size=STEM_SIDE, stride=2, gain=RELU_GAIN, seed=next(drawn))
    x = layers.ReLU()(first(scaled(image, scale, offset)))
    x = stage(x, middle, 0, drawn)  # 14 × 14
    x = stage(layers.MaxPooling2D()(x), width, blocks, drawn)  # 7 × 7
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout, seed=next(drawn))(x) if dropout else x
    head = layers.Dense(10, dtype="float32", name="head", kernel_initializer=GlorotUniform(next(drawn)))
    return keras.Model(image, head(x), name="strided")
