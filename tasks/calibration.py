"""Make a model's probabilities mean what they say, and find below which one it had better say "unknown".

Both on validation images. The temperature goes into the weights of the last layer, so that whoever loads the model,
in Keras or in ONNX, gets calibrated probabilities without knowing of it.
"""

import keras
import numpy as np
from numpy.typing import NDArray

from tasks.arrays import Labels, Probabilities

HOTTEST, STEPS = 10.0, 60  # a temperature lies between 1 / HOTTEST and HOTTEST


def temperature(logits: NDArray[np.float32], labels: Labels) -> float:
    """What to divide logits by so that the cross-entropy is least (https://arxiv.org/abs/1706.04599, section 4.2).

    Args:
        logits: (n, 10), n ≥ 1.
        labels: (n,).

    Returns:
        0.1 … 10; 1 if the logits are calibrated as they are.
    """
    low, high = 1 / HOTTEST, HOTTEST  # of the reciprocal, in which the cross-entropy is convex: thirds are cut away
    for _ in range(STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if cross_entropy(logits * left, labels) < cross_entropy(logits * right, labels):
            high = right
        else:
            low = left
    return float(2 / (low + high))


def cross_entropy(logits: NDArray[np.float32], labels: Labels) -> float:
    """Mean over the images, in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean())


def cool(model: keras.Model, by: float) -> None:
    """Divide a model's logits by a temperature, for good: kernel and bias of its last layer, a dense one."""
    head = model.layers[-1]
    for variable in (head.kernel, head.bias):
        variable.assign(np.asarray(variable) / np.float32(by))


def unknown_below(probabilities: Probabilities, accepted: float) -> float:
    """The probability of the likeliest class, (n, 10), that this share of garments reaches."""
    return float(np.quantile(probabilities.max(axis=1), 1 - accepted))
