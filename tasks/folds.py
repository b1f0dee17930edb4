"""Stratified folds of the training images, the same for every recipe: all but the test images take part."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks import splits
from tasks.arrays import CLASSES, Labels, Split


def numbers(labels: Labels, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each image: shuffled by the seed, every class spread evenly.

    Args:
        labels: (n,) uint8, 0 … 9.
        folds: ≥ 2.
        seed: of a generator of this call's own.

    Returns:
        (n,) int64, 0 … folds - 1. Folds differ by at most one image, as a whole and of each class.
    """
    generator = np.random.default_rng(seed)
    by_class = [generator.permutation(np.flatnonzero(labels == label)) for label in range(len(CLASSES))]
    found = np.empty(len(labels), np.int64)
    found[np.concatenate(by_class)] = np.arange(len(labels)) % folds
    return found


def halves(normalised: Path, fold: int, folds: int, seed: int) -> tuple[Split, Split]:
    """What is trained on when a fold is held out, and the fold; test images are in neither."""
    parts = [splits.read(normalised, name) for name in ("train", "validation")]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    held_out = numbers(labels, folds, seed) == fold
    return Split(images[~held_out], labels[~held_out]), Split(images[held_out], labels[held_out])
