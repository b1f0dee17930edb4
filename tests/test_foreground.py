import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from seamline import foreground

OUTLINE = (
    *((0.38, 0.15), (0.62, 0.15), (0.88, 0.32), (0.80, 0.45), (0.70, 0.38)),
    *((0.70, 0.85), (0.30, 0.85), (0.30, 0.38), (0.20, 0.45), (0.12, 0.32)),
)  # a T-shirt: shares of width and height


def shirt(size=(240, 320), colour=(40, 60, 120), ground=(200, 180, 150), beside=None, grain=14, light=0.15, down=0.0):
    """A T-shirt on a grainy ground, the light coming from one corner; and where it is, (height, width)."""
    width, height = size
    shape = Image.new("1", size)
    ImageDraw.Draw(shape).polygon([(x * width, (y + down) * height) for x, y in OUTLINE], fill=1)
    mask = np.asarray(shape)
    below = np.zeros((height, width, 3)) + ground
    below[:, width // 2 :] = beside or ground
    noise = np.random.default_rng(1).normal(0, grain, (height, width, 1))
    seen = np.where(mask[..., None], colour + 0.3 * noise, below + noise)
    slope = np.linspace(-1, 1, width)[None, :, None] + np.linspace(-1, 1, height)[:, None, None]
    return Image.fromarray((seen * (1 + light * slope)).clip(0, 255).astype(np.uint8)), mask


def reached_by_steps(seed, allowed):
    """As `flooded`: a step to the four neighbours at a time."""
    reached = seed & allowed
    while True:
        padded = np.pad(reached, 1)
        around = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        wider = reached | (around & allowed)
        if np.array_equal(wider, reached):
            return reached
        reached = wider


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="dark on light"),
        pytest.param({"colour": (230, 225, 220), "ground": (120, 90, 60)}, id="light on dark"),
        pytest.param({"colour": (200, 30, 40), "ground": (90, 140, 80)}, id="colour against colour"),
        pytest.param({"beside": (120, 90, 60)}, id="two-tone ground"),
        pytest.param({"colour": (200, 30, 40), "ground": (235, 235, 235), "beside": (60, 60, 70)}, id="light and dark"),
        pytest.param({"down": 0.16}, id="touching the bottom"),
        pytest.param({"grain": 30, "light": 0.3}, id="coarse grain, one-sided light"),
        pytest.param({"size": (480, 360)}, id="lying"),
    ],
)
def test_garment_is_found(changes):
    picture, mask = shirt(**changes)

    found = foreground.garment(picture)

    size = found.shape[::-1]
    wanted = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0.5
    assert max(size) == foreground.SIDE
    assert (found & wanted).sum() / (found | wanted).sum() >= 0.9


def test_garment_that_the_picture_cuts_off_reaches_its_edge():
    picture, _ = shirt(down=0.16)

    found = foreground.garment(picture)

    assert found[-1].sum() > 0.3 * found.shape[1]
    assert not found[:, [0, -1]].any()


def test_smaller_thing_apart_from_the_garment_is_left_out():
    picture, _ = shirt()
    before = foreground.garment(picture)
    picture.paste((40, 60, 120), (16, 280, 36, 300))  # as large as a button

    found = foreground.garment(picture)

    assert not found[55:61, 3:8].any()
    assert (found != before).mean() < 0.01


def test_hole_in_a_garment_is_garment():
    mask = np.zeros((20, 20), bool)
    mask[4:16, 4:16] = True
    mask[8:12, 8:12] = False

    found = foreground._kept(mask)

    assert found[4:16, 4:16].all()
    assert found.sum() == 12 * 12


def test_two_parts_that_are_as_large_stay_both():
    mask = np.zeros((20, 30), bool)
    mask[4:16, 4:12] = mask[4:16, 18:26] = True

    np.testing.assert_array_equal(foreground._kept(mask), mask)


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (3, 300), (4, 512), (512, 20), (5, 5)], ids=str)
def test_picture_that_is_nearly_a_line_is_no_fault(size):
    levels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = foreground.garment(Image.fromarray(levels))

    assert found.dtype == bool
    assert max(found.shape) == foreground.SIDE


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_one_colour_is_no_fault_either(colour):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = foreground.garment(Image.new("RGB", (300, 200), colour))

    assert found.shape == (43, 64)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        pytest.param((255, 255, 255), (100.0, 0.0, 0.0), id="white"),
        pytest.param((0, 0, 0), (-16.0, 0.0, 0.0), id="black, where CIELAB would be linear"),
        pytest.param((119, 119, 119), (50.03, 0.0, 0.0), id="middle grey"),
        pytest.param((255, 0, 0), (53.24, 80.09, 67.20), id="red"),
        pytest.param((0, 255, 0), (87.73, -86.18, 83.18), id="green"),
        pytest.param((0, 0, 255), (32.30, 79.19, -107.86), id="blue"),
    ],
)
def test_lab_known_answer(rgb, expected):
    """http://www.brucelindbloom.com has a calculator."""
    found = foreground.lab(np.array([[rgb]], np.uint8))

    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0, 0], expected, atol=0.1)


def test_mixture_of_two_colours_known_answer():
    colours = np.array([[10, 0, 0], [90, 5, 5], [50, 50, 50]], float)

    found = foreground.mixture(colours, np.array([3, 1, 0], float), 2)

    np.testing.assert_allclose(found.means, colours[:2], atol=1e-4)
    np.testing.assert_allclose(found.precisions, np.stack([np.eye(3) / foreground.SPREAD] * 2), atol=1e-3)
    np.testing.assert_allclose(np.exp(found.logs) * foreground.SPREAD**1.5, [0.75, 0.25], rtol=1e-3)


def test_likelihood_is_highest_at_the_mean_and_falls_as_a_gaussian():
    mixture = foreground.mixture(np.array([[50, 0, 0]], float), np.ones(1), 1)

    at, beside = foreground.likelihood(np.array([[50, 0, 0], [50, 6, 0]], float), mixture)

    assert at - beside == pytest.approx(6**2 / foreground.SPREAD / 2, rel=1e-4)


masks = arrays.array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape))
)


@given(masks)
def test_flooded_is_what_single_steps_reach(both):
    seed, allowed = both

    np.testing.assert_array_equal(foreground.flooded(seed, allowed), reached_by_steps(seed, allowed))


def test_flooded_follows_a_spiral_to_its_end():
    rows = ("#######", "......#", "#####.#", "#...#.#", "#.###.#", "#.....#", "#######")
    spiral = np.array([[*row] for row in rows]) == "#"
    seed = np.zeros_like(spiral)
    seed[0, 0] = True

    np.testing.assert_array_equal(foreground.flooded(seed, spiral), spiral)
