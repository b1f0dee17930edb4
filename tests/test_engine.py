import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from tasks import engine
from tasks.arrays import Split


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)


def shifted_and_flipped(image, shift):
    """Every picture that augmenting may make of one, by numpy."""
    padded = np.pad(image, shift)
    span = range(2 * shift + 1)
    for source in (padded, padded[:, ::-1]):
        yield from (source[y : y + 28, x : x + 28] for y in span for x in span)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_augmenting_gives_a_shifted_or_flipped_picture_of_the_same_image(images, shift):
    images_at = engine.augmenter(images, shift, seed=3)
    indices = [0, 5, 2, 2]

    for step in range(5):
        for index, found in zip(indices, images_at(tf.constant(indices), tf.constant(step)).numpy(), strict=True):
            assert any(np.array_equal(found, one) for one in shifted_and_flipped(images[index], shift))


def test_augmenting_without_shift_still_flips_half(images):
    images_at = engine.augmenter(images, 0, seed=3)
    flipped = [
        np.array_equal(found, images[0][:, ::-1])
        for step in range(50)
        for found in images_at(tf.constant([0] * 8), tf.constant(step)).numpy()
    ]

    assert 0.4 < np.mean(flipped) < 0.6


def test_a_step_can_be_repeated_and_steps_differ(images):
    images_at = engine.augmenter(images, 2, seed=3)
    indices = tf.constant([0, 1, 2, 3])

    first, again, other = (images_at(indices, tf.constant(step)).numpy() for step in (7, 7, 8))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def trained(split, numbers):
    keras.utils.set_random_seed(numbers.seed)
    model = models.build(numbers.model, mean=0.3, deviation=0.3)
    words = list(engine.fit(model, split, numbers))
    return words, [np.asarray(variable) for variable in model.trainable_variables]


@pytest.fixture(scope="module")
def stripes():
    """Ten classes that differ by where a bright stripe stands: 640 images."""
    generator = np.random.default_rng(5)
    labels = np.tile(np.arange(10, dtype=np.uint8), 64)
    images = generator.integers(0, 60, (640, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 4 + 2 * label] = 230
    return Split(images, labels)


@pytest.mark.slow
def test_training_learns_reports_and_repeats(stripes, numbers):
    few = numbers.train.model_copy(update={"epochs": 4, "batch": 32})

    words, weights = trained(stripes, few)
    _, again = trained(stripes, few)

    assert [word.step for word in words] == [20, 40, 60, 80]  # 640 / 32 steps fit into one call
    assert [word.epoch for word in words] == [1, 2, 3, 4]
    assert words[-1].loss < words[0].loss / 2
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.slow
def test_an_absurd_rate_gives_a_loss_that_is_no_number(stripes, numbers):
    absurd = numbers.train.model_copy(update={"epochs": 3, "batch": 64, "adam_rate": 1e30})

    words, _ = trained(stripes, absurd)

    assert not np.isfinite(words[-1].loss)
