"""Swift: two residual blocks behind one convolution each, 117k parameters, made for two CPU cores.

Half the resolution comes early: all but the first convolution work at 14 × 14 or 7 × 7. No batch normalisation, which
is the brake on a CPU (models/layers.py); without it the residual branches start small and the gain of √2 makes up for
what ReLU takes.
"""

import keras
from keras import layers, ops

from models.layers import StandardisedConv

RELU_GAIN = 1.4  # ≈ √2
BRANCH_GAIN = 0.3  # a residual branch starts as a small correction


def build(scale: float, offset: float) -> keras.Model:
    """Pixels, uint8 (n, 28, 28), times scale plus offset → logits, float32 (n, 10)."""
    image = keras.Input((28, 28), dtype="uint8", name="image")
    pixels = ops.cast(ops.expand_dims(image, -1), keras.config.dtype_policy().compute_dtype)
    x = layers.Rescaling(scale, offset)(pixels)
    x = layers.ReLU()(StandardisedConv(16, gain=RELU_GAIN)(x))
    x = stage(layers.MaxPooling2D()(x), 32)  # 14 × 14
    x = stage(layers.MaxPooling2D()(x), 64)  # 7 × 7
    x = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(10, dtype="float32", name="head")(x)
    return keras.Model(image, logits, name="swift")


def stage(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """A convolution to `filters` channels and one pre-activated residual block on them; (n, h, w, filters)."""
    x = StandardisedConv(filters, gain=RELU_GAIN)(x)
    y = StandardisedConv(filters, gain=RELU_GAIN)(layers.ReLU()(x))
    y = StandardisedConv(filters, gain=BRANCH_GAIN)(layers.ReLU()(y))
    return layers.ReLU()(layers.Add()([x, y]))
