import numpy as np
import pytest
import tensorflow as tf

from tasks.arrays import Split
from tasks.augment import augmenter


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)


@pytest.fixture
def drawn(images, recipe):
    """(indices, step, changed numbers of the recipe) → pictures."""

    def draw(indices, step, **changes):
        plain = {"shift": 0, "flip": False, "erase": 0.0}
        images_at = augmenter(
            Split(images, np.arange(len(images), dtype=np.uint8)), recipe.model_copy(update=plain | changes), seed=3
        )
        return images_at(tf.constant(indices), tf.constant(step))[0].numpy()

    return draw


def shifted_and_flipped(image, shift):
    """Every picture that shifting and flipping may make of one, by numpy."""
    padded = np.pad(image, shift)
    span = range(2 * shift + 1)
    for source in (padded, padded[:, ::-1]):
        yield from (source[y : y + 28, x : x + 28] for y in span for x in span)


def test_images_are_as_they_are_if_the_recipe_changes_nothing(images, drawn):
    np.testing.assert_array_equal(drawn([3, 0, 3], 5), images[[3, 0, 3]])


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_shifting_and_flipping_gives_a_picture_of_the_same_image(images, drawn, shift):
    indices = [0, 5, 2, 2]

    for step in range(5):
        for index, found in zip(indices, drawn(indices, step, shift=shift, flip=True), strict=True):
            assert any(np.array_equal(found, one) for one in shifted_and_flipped(images[index], shift))


def test_it_says_which_are_mirrored(images, recipe):
    images_at = augmenter(
        Split(images, np.arange(len(images), dtype=np.uint8)),
        recipe.model_copy(update={"shift": 0, "flip": True, "erase": 0.0}),
        seed=3,
    )

    for step in range(10):
        found, mirrored = (value.numpy() for value in images_at(tf.constant(range(6)), tf.constant(step)))
        for image, one, turned in zip(images, found, mirrored, strict=True):
            np.testing.assert_array_equal(one, image[:, ::-1] if turned else image)


def test_flipping_flips_half(images, drawn):
    found = np.concatenate([drawn([0] * 8, step, flip=True) for step in range(50)])

    assert 0.4 < np.mean([np.array_equal(one, images[0][:, ::-1]) for one in found]) < 0.6


def test_shifting_reaches_every_place(images, drawn):
    found = {one.tobytes() for step in range(60) for one in drawn([0] * 8, step, shift=1)}

    assert found == {one.tobytes() for one in list(shifted_and_flipped(images[0], 1))[:9]}


def test_erasing_puts_noise_into_one_rectangle_of_that_share(images, drawn):
    changed = np.concatenate([drawn(range(6), step, erase=0.3) != images for step in range(200)])
    touched = changed.any(axis=(1, 2))

    assert 0.25 < touched.mean() < 0.35
    for one in changed[touched]:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        rectangle = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert rectangle.mean() > 0.9, "noise everywhere in it (one pixel in 256 happens to be as it was)"
        assert rectangle.size <= 0.45 * 28 * 28


def test_a_step_can_be_repeated_and_steps_differ(drawn):
    changes = {"shift": 2, "flip": True, "erase": 0.5}

    first, again, other = (drawn([0, 1, 2, 3], step, **changes) for step in (7, 7, 8))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
