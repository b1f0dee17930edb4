"""How good a classifier is: pure functions of labels and probabilities."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.arrays import CLASSES, Labels, Probabilities

Z_95 = 1.959964  # standard normal quantile of 97.5 %


class Interval(NamedTuple):
    low: float  # share, 0 … 1
    high: float


class ClassMetrics(NamedTuple):
    precision: float  # shares, 0 … 1; 0 where there is nothing to divide by
    recall: float
    f1: float


class ConfusedPair(NamedTuple):
    actual: str
    predicted: str
    images: int


def wilson(successes: int, trials: int, z: float = Z_95) -> Interval:
    """Wilson's score interval of a share; it stays within 0 … 1 and holds for few trials.

    https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval

    Args:
        successes: 0 … trials.
        trials: ≥ 1.
        z: quantile of the standard normal distribution; 1.96 gives 95 %.

    Raises:
        ValueError: there are no trials, or more successes than trials.

    >>> wilson(900, 1000)
    Interval(low=0.8798..., high=0.9170...)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"Expected 0 ≤ successes ≤ trials, trials ≥ 1. Received {successes} of {trials}.")
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return Interval(max(0.0, float((centre - margin) / scale)), min(1.0, float((centre + margin) / scale)))


def confusion(labels: Labels, predicted: Labels) -> NDArray[np.int64]:
    """How often each class (row) was taken for each class (column): int64 (10, 10)."""
    size = len(CLASSES)
    return np.bincount(labels.astype(np.int64) * size + predicted, minlength=size * size).reshape(size, size)


def per_class(matrix: NDArray[np.int64]) -> dict[str, ClassMetrics]:
    """Precision, recall and F1 of each class, from a confusion matrix with the actual classes as rows."""
    right = np.diag(matrix).astype(float)
    precision = right / np.maximum(matrix.sum(axis=0), 1)
    recall = right / np.maximum(matrix.sum(axis=1), 1)
    f1 = 2 * right / np.maximum(matrix.sum(axis=0) + matrix.sum(axis=1), 1)
    values = np.stack([precision, recall, f1], axis=1).tolist()
    return {name: ClassMetrics(*row) for name, row in zip(CLASSES, values, strict=True)}


def calibration_error(labels: Labels, probabilities: Probabilities, bins: int) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, weighted by how many images a bin has.

    https://arxiv.org/abs/1706.04599, equation 3, with bins of equal width over 0 … 1.

    Args:
        labels: (n,) uint8, n ≥ 1.
        probabilities: (n, 10) float32.
        bins: ≥ 1.

    Returns:
        0 (calibrated) … 1.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, right, bins) - np.bincount(place, confidence, bins)
    return float(np.abs(gaps).sum() / len(labels))


def most_confused(matrix: NDArray[np.int64], pairs: int) -> list[ConfusedPair]:
    """The confusions that happened most often, most frequent first."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:pairs]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        ConfusedPair(CLASSES[r], CLASSES[c], int(wrong[r, c]))
        for r, c in zip(rows, columns, strict=True)
        if wrong[r, c]
    ]
