import numpy as np
import pytest
import tensorflow as tf

from tasks import augment
from tasks.arrays import Split
from tasks.augment import augmenter
from tests.test_photographed import never


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
        return images_at(tf.constant(indices)[None], tf.constant(step))[0][0].numpy()

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
        found, mirrored = (value[0].numpy() for value in images_at(tf.range(6)[None], tf.constant(step)))
        for image, one, turned in zip(images, found, mirrored, strict=True):
            np.testing.assert_array_equal(one, image[:, ::-1] if turned else image)


def test_each_image_is_flipped_in_every_other_epoch_and_half_of_them_in_the_first(garments, recipe):
    split = garments(6, 1)
    changes = {"shift": 0, "flip": True, "erase": 0.0, "batch": 20}  # so that three steps are an epoch
    images_at = augmenter(split, recipe.model_copy(update=changes), seed=3)

    def mirrored(step):
        return images_at(tf.range(60)[None], tf.constant(step))[1][0].numpy()

    first, second, third = mirrored(2), mirrored(3), mirrored(6)
    np.testing.assert_array_equal(first, mirrored(0))
    np.testing.assert_array_equal(second, 1 - first)
    np.testing.assert_array_equal(third, first)
    assert 0.3 < first.mean() < 0.7


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


@pytest.fixture
def changed(garments, recipe):
    """(changed numbers of the recipe, step) → 40 garments of a batch of 40 as they were, and as they are drawn."""
    split = garments(4, 1)

    def draw(step=0, **changes):
        plain = {"shift": 0, "flip": False, "erase": 0.0, "batch": 40}
        images_at = augmenter(split, recipe.model_copy(update=plain | changes), seed=3)
        return split.images, images_at(tf.range(40)[None], tf.constant(step))[0][0].numpy()

    return draw


@pytest.mark.parametrize(
    ("share", "batch", "expected"), [(0.0, 128, 0), (0.05, 128, 6), (0.5, 40, 20), (1.0, 7, 7)], ids=str
)
def test_strangers_are_a_share_of_the_batch(recipe, share, batch, expected):
    assert augment.strangers(recipe.model_copy(update={"strangers": share, "batch": batch})) == expected


@pytest.mark.parametrize(
    ("changes", "first", "last"),
    [
        pytest.param({"strangers": 0.25}, 0, 10, id="strangers"),
        pytest.param({"photographed": 0.5}, 0, 20, id="photographed"),
        pytest.param({"strangers": 0.25, "photographed": 0.5}, 0, 30, id="both"),
        pytest.param({"strangers": 0.25, "photographed": 0.75}, 0, 40, id="all"),
    ],
)
def test_the_first_of_a_batch_are_changed_and_the_others_as_they_are(changed, changes, first, last):
    images, found = changed(**changes)

    assert (found.shape, found.dtype) == (images.shape, np.uint8)
    assert (found[first:last] != images[first:last]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(found[last:], images[last:])


def test_several_batches_at_once_are_each_changed_at_their_beginning(garments, recipe):
    split = garments(8, 1)
    changes = {"shift": 0, "flip": False, "erase": 0.0, "batch": 20, "strangers": 0.25, "photographed": 0.25}
    images_at = augmenter(split, recipe.model_copy(update=changes), seed=3)
    batches = tf.reshape(tf.range(80), (4, 20))

    found, mirrored = (value.numpy() for value in images_at(batches, tf.constant(0)))

    assert (found.shape, mirrored.shape) == ((4, 20, 28, 28), (4, 20))
    asked = split.images.reshape(4, 20, 28, 28)
    assert (found[:, :10] != asked[:, :10]).any(axis=(2, 3)).all()
    np.testing.assert_array_equal(found[:, 10:], asked[:, 10:])


def test_strangers_are_of_ten_kinds_as_often(changed):
    kinds = []
    for step in range(25):
        images, found = changed(step, strangers=1.0)
        turned = np.roll(images, (14, 14), (1, 2))
        for image, quarters, one in zip(images, turned, found, strict=True):
            like = {"negative": 255 - image, "quarters": quarters, "plain": np.full((28, 28), one[0, 0])}
            kinds.append(next((name for name, other in like.items() if np.array_equal(one, other)), "another"))

    counts = {name: kinds.count(name) / len(kinds) for name in set(kinds)}
    assert counts == pytest.approx({"negative": 0.1, "quarters": 0.1, "plain": 0.1, "another": 0.7}, abs=0.05)


def test_changed_steps_can_be_repeated_and_differ(changed):
    changes = {"strangers": 0.25, "photographed": 0.5, "flip": True, "shift": 2, "erase": 0.3}

    first, again, other = (changed(step, **changes)[1] for step in (7, 7, 8))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2)).all()


def test_photographed_images_are_drawn_from_the_garment_and_not_from_what_was_erased(changed):
    _, whole = changed(photographed=0.5)
    _, erased = changed(photographed=0.5, erase=1.0)

    np.testing.assert_array_equal(erased[:20], whole[:20])
    assert (erased[20:] != whole[20:]).any(axis=(1, 2)).all()


def test_mirrored_garment_is_photographed_as_the_mirror_image(recipe):
    """Wherever it lies: its box is mirrored, too."""
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 4:24, 2:9] = 200
    image[0, 4:9, 2:5] = 90
    split = Split(image, np.zeros(1, np.uint8))
    change = augment._changer(split, recipe.model_copy(update={"photographed": 1.0, "batch": 1}))

    plain, mirrored = (
        change(tf.constant(image[None]), tf.constant([[0]]), tf.constant([[turned]]), never)[0].numpy()
        for turned in (0, 1)
    )

    assert plain.any()
    assert not np.array_equal(plain, plain[:, :, ::-1])
    assert np.abs(mirrored[:, :, ::-1].astype(int) - plain).max() <= 1
