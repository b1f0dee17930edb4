"""The zoo: one file per architecture, each with `build(scale, offset, …)`; what follows is its size, set by a recipe.

Every model takes raw pixels, uint8 (n, 28, 28), scales them in its first layer and gives logits, float32 (n, 10).
Keras layers and `keras.ops` alone, so that a recipe also trains on Keras's other backends.
"""

from collections.abc import Callable

import keras

from models import convolutional, dense, residual, strided

MODELS: dict[str, Callable[..., keras.Model]] = {
    "convolutional": convolutional.build,
    "dense": dense.build,
    "residual": residual.build,
    "strided": strided.build,
}


def build(name: str, mean: float, deviation: float, seed: int = 0, **size: float | list[int]) -> keras.Model:
    """A model with fresh weights.

    Args:
        name: of the architecture, a key of `MODELS`.
        mean: of the training pixels, scaled to 0 … 1.
        deviation: likewise, > 0.
        seed: of the weights and of the dropout.
        size: the numbers that this architecture takes.

    Raises:
        KeyError: there is no such architecture.
        TypeError: it does not take these numbers, or needs others.
        ValueError: it cannot be built with them.
    """
    return MODELS[name](1 / 255 / deviation, -mean / deviation, seed=seed, **size)
