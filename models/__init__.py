"""The zoo: one file per architecture, each with `build(scale, offset)`.

Every model takes raw pixels, uint8 (n, 28, 28), scales them in its first layer and gives logits, float32 (n, 10).
"""

from collections.abc import Callable

import keras

from models import swift

MODELS: dict[str, Callable[[float, float], keras.Model]] = {"swift": swift.build}


def build(name: str, mean: float, deviation: float) -> keras.Model:
    """A model with fresh weights.

    Args:
        name: of the architecture, a key of `MODELS`.
        mean: of the training pixels, scaled to 0 … 1.
        deviation: likewise, > 0.

    Raises:
        KeyError: there is no such architecture.
    """
    return MODELS[name](1 / 255 / deviation, -mean / deviation)
