"""Layers that the nets share, and one that Keras does not have."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops


def seeds(seed: int) -> Iterator[int]:
    """A seed for each initialiser and each dropout of a net.

    Without one of their own Keras takes theirs from the module `random`, which any thread of the process may be drawing
    from, so that the same seed would not always give the same weights.
    """
    return map(int, np.random.SeedSequence(seed).generate_state(1000))


def scaled(image: keras.KerasTensor, scale: float, offset: float) -> keras.KerasTensor:
    """Pixels, uint8 (n, 28, 28) → what the net computes with: (n, 28, 28, 1), times scale plus offset."""
    pixels = ops.cast(ops.expand_dims(image, -1), keras.config.dtype_policy().compute_dtype)
    return layers.Rescaling(scale, offset)(pixels)


@keras.saving.register_keras_serializable("seamline")
class StandardisedConv(keras.layers.Layer):
    """A convolution whose kernels are standardised (mean 0, variance 1 / fan-in), times a learnt gain per filter.

    In place of batch normalisation, which is slow on a CPU and needs large batches: https://arxiv.org/abs/1903.10520,
    with the gain of https://arxiv.org/abs/2101.08692. "same" padding.

    Input: (n, height, width, channels). Output: (n, ⌈height / stride⌉, ⌈width / stride⌉, filters).
    """

    def __init__(
        self, filters: int, size: int = 3, stride: int = 1, gain: float = 1.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.size, self.stride, self.initial_gain, self.seed = filters, size, stride, gain, seed

    def build(self, input_shape: tuple[int, ...]) -> None:
        shape = (self.size * self.size * input_shape[-1], self.filters)  # a matrix: Keras's Muon takes nothing else
        drawn = keras.initializers.LecunNormal(self.seed)
        self.kernel = self.add_weight(shape=shape, initializer=drawn, name="kernel")
        initial = keras.initializers.Constant(self.initial_gain)
        self.gain = self.add_weight(shape=(self.filters,), initializer=initial, name="gain")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        shape = (self.size, self.size, -1, self.filters)
        kernel = ops.cast(ops.reshape(self.standardised_kernel(), shape), inputs.dtype)
        outputs = ops.conv(inputs, kernel, strides=self.stride, padding="same")
        return outputs + ops.cast(self.bias, inputs.dtype)

    def standardised_kernel(self) -> Any:
        """What the kernel amounts to: float32 (size × size × channels, filters)."""
        kernel = ops.cast(self.kernel, "float32")
        centred = kernel - ops.mean(kernel, axis=0, keepdims=True)
        power = ops.sum(ops.square(centred), axis=0, keepdims=True)  # fan-in × variance
        return centred * ops.rsqrt(power + 1e-4) * ops.cast(self.gain, "float32")

    def get_config(self) -> dict[str, Any]:
        own = {"filters": self.filters, "size": self.size, "stride": self.stride, "gain": self.initial_gain}
        return {**super().get_config(), **own, "seed": self.seed}
