import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import folds, splits
from tasks.arrays import Split

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 12)


@given(st.integers(2, 12), st.integers(0, 2**31 - 1))
def test_every_class_is_spread_evenly(count, seed):
    found = folds.numbers(LABELS, count, seed)

    table = np.array([np.bincount(found[label == LABELS], minlength=count) for label in range(10)])
    assert table.sum() == len(LABELS)
    assert table.max() - table.min() <= 1
    assert np.ptp(table.sum(axis=0)) <= 1


def test_folds_are_shuffled_by_the_seed_alone():
    np.testing.assert_array_equal(folds.numbers(LABELS, 5, 1), folds.numbers(LABELS, 5, 1))
    assert not np.array_equal(folds.numbers(LABELS, 5, 1), folds.numbers(LABELS, 5, 2))


@pytest.fixture
def normalised(tmp_path):
    """Images that are told apart by their first pixel: 0 to 79 to train on, 80 to 119 for validation."""
    images = np.zeros((120, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(120)
    labels = np.resize(np.arange(10, dtype=np.uint8), 120)
    splits.write(tmp_path, "train", Split(images[:80], labels[:80]))
    splits.write(tmp_path, "validation", Split(images[80:], labels[80:]))
    return tmp_path


def test_every_image_is_held_out_once_and_trained_on_otherwise(normalised):
    pairs = [folds.halves(normalised, fold, 5, seed=3) for fold in range(5)]

    assert sorted(image[0, 0] for _, held_out in pairs for image in held_out.images) == list(range(120))
    for fitted, held_out in pairs:
        assert sorted([*fitted.images[:, 0, 0], *held_out.images[:, 0, 0]]) == list(range(120))
        assert len(held_out.labels) == 24
        np.testing.assert_array_equal(fitted.labels, fitted.images[:, 0, 0] % 10)
