import numpy as np
import pytest
import tensorflow as tf

from tasks import augment, photographed
from tasks.arrays import CLASSES

T_SHIRT, PULLOVER, COAT, SANDAL, SHIRT, SNEAKER, BOOT = 0, 2, 4, 5, 6, 7, 9


@pytest.fixture(scope="module")
def coat():
    """A body, and a sleeve hanging on either side of it, on black."""
    image = np.zeros((28, 28), np.uint8)
    image[2:26, 9:19] = 200
    image[3:20, 5:8] = image[3:20, 20:23] = 150
    return image


def by_chance(seed):
    def draw(number, shape, low, high):
        return tf.random.stateless_uniform(shape, [seed, number], low, high)

    return draw


def in_the_middle(chance):
    """Draws without chance: every number is the middle of its range, and what happens to a share happens or not."""

    def draw(number, shape, low, high):
        return tf.fill(shape, float(chance) if (low, high) == (0, 1) else (low + high) / 2)

    return draw


never, always = in_the_middle(1.0), in_the_middle(0.0)


def seen(images, labels, draw):
    labels = np.asarray(labels, np.uint8)
    return photographed.photographed(tf.constant(images), photographed.garments(images, labels), draw).numpy()


def of_each_class(image, draw):
    """The same pixels as if they were of each class."""
    return seen(np.stack([image] * len(CLASSES)), np.arange(len(CLASSES)), draw)


def box_of(image):
    rows, columns = (np.flatnonzero((image > 0).any(axis=axis)) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


def test_garments_known_answer():
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 3:11, 5:25] = photographed.LIGHT + 1
    images[1, 7, 27] = 255
    images[:, 20:, :3] = photographed.LIGHT  # too dark to count

    about = photographed.garments(images, np.array([SNEAKER, COAT], np.uint8))

    assert about.boxes.dtype == np.float32
    assert about.boxes.tolist() == [[6.5, 14.5, 8, 20], [7, 27, 1, 1]]


def test_garments_are_shoes_or_have_sleeves_by_their_class():
    about = photographed.garments(np.zeros((10, 28, 28), np.uint8), np.arange(10, dtype=np.uint8))

    assert np.flatnonzero(about.shoes).tolist() == [SANDAL, SNEAKER, BOOT]
    assert np.flatnonzero(about.sleeved).tolist() == [PULLOVER, COAT, SHIRT]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_photographed_images_are_as_many_and_uint8(garments, count):
    split = garments(4, 1)

    found = seen(split.images[:count], split.labels[:count], by_chance(1))

    assert (found.shape, found.dtype) == ((count, 28, 28), np.uint8)
    assert (found.max(axis=(1, 2)) >= photographed.DARKEST).all(), "something is left of each"


def test_equal_draws_give_equal_images_and_others_others(garments):
    split = garments(4, 1)

    first, again, other = (seen(split.images, split.labels, by_chance(seed)) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2)).all()


def test_draws_have_numbers_of_their_own(coat):
    numbers = []

    def draw(number, shape, low, high):
        numbers.append(number)
        return by_chance(1)(number, shape, low, high)

    of_each_class(coat, draw)

    assert len(set(numbers)) == len(numbers) > 30
    assert min(numbers) >= photographed.FIRST_DRAW > augment.PIECES


def test_bar_in_the_middle_of_all_ranges_known_answer():
    """As high as 93 % of the picture, e^0.1 times as wide as it was, in the grey between 50 and 225."""
    bar = np.zeros((1, 28, 28), np.uint8)
    bar[0, 2:22, 3:13] = 200

    (found,) = seen(bar, [T_SHIRT], never)

    top, bottom, left, right = box_of(found > 70)
    assert (top, bottom) == (1, 26)
    assert right - left + 1 == pytest.approx(10 * np.exp(0.1) * 0.93 * 28 / 20, abs=1)
    assert left + right == 27, "in the middle, wherever it was"
    assert np.ptp(found[4:24, left + 2 : right - 1]) == 0
    assert found[14, 14] == pytest.approx((50 + 225) / 2, abs=8), "its edges are darker than its mean"
    assert not found[:, : left - 2].any()
    assert not found[:, right + 3 :].any()


def test_black_image_stays_black_but_for_mistakes_of_its_outline():
    black = np.zeros((300, 28, 28), np.uint8)
    labels = np.resize(np.arange(10), 300)

    assert not seen(black, labels, never).any()
    lit = seen(black, labels, by_chance(3)).any(axis=(1, 2))
    assert lit.mean() < 0.2


def differing(found):
    """Classes whose picture is not the T-shirt's."""
    return [number for number in range(10) if not np.array_equal(found[number], found[T_SHIRT])]


def test_without_chance_the_class_changes_nothing(coat):
    assert differing(of_each_class(coat, never)) == []


def test_sleeves_are_spread_and_shoes_paired_in_their_classes_alone(coat):
    found = of_each_class(coat, always)

    assert differing(found) == sorted(photographed.SLEEVED + photographed.SHOES)
    for number in (PULLOVER, COAT, SHIRT):
        np.testing.assert_array_equal(found[number], found[COAT])
    for number in (SANDAL, SNEAKER, BOOT):
        np.testing.assert_array_equal(found[number], found[SNEAKER])


def test_spread_sleeves_make_a_garment_wider_for_its_height(coat):
    found = of_each_class(coat, always)

    def proportion(image):
        top, bottom, left, right = box_of(image)
        return (right - left + 1) / (bottom - top + 1)

    assert proportion(found[COAT]) > 1.2 * proportion(found[T_SHIRT])


def test_pair_of_shoes_is_mirrored_in_the_line_between_them(coat):
    found = of_each_class(coat, always)

    np.testing.assert_array_equal(found[SNEAKER], found[SNEAKER][::-1])
    assert not np.array_equal(found[T_SHIRT], found[T_SHIRT][::-1])
    assert found[SNEAKER].any()


def test_negated_garment_is_dark_where_it_was_bright(coat):
    """`always` negates, `never` does not: sleeves are darker than the body in one, brighter in the other."""
    dark, bright = (seen(coat[None], [T_SHIRT], draw)[0].astype(int) for draw in (always, never))
    left = box_of(bright)[2]

    assert bright[10, 14] > bright[10, left + 2] > 0
    assert 0 < dark[10, 14] < dark[10, left + 2]
