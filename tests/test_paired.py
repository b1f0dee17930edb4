"""Two models on the same images, by counts of which answers are known."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks import paired
from tasks.paired import Pairs


def test_doctests_hold():
    assert doctest.testmod(paired, optionflags=doctest.ELLIPSIS) == (0, 2)


def test_pairs_counts_what_only_one_has_right():
    ours = np.array([True, True, False, False, True])
    theirs = np.array([True, False, True, False, False])

    assert paired.pairs(ours, theirs) == Pairs(won=2, lost=1, images=5)
    assert paired.pairs(ours, theirs).difference == 0.2


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([True], [True, False]), ([], []), ([[True]], [[True]])],
    ids=["other numbers", "none", "a table"],
)
def test_pairs_refuses_what_cannot_be_compared(ours, theirs):
    with pytest.raises(ValueError, match="Expected as many answers of both"):
        paired.pairs(np.array(ours, bool), np.array(theirs, bool))


@given(won=st.integers(0, 400), lost=st.integers(0, 400))
def test_mcnemar_agrees_with_scipy(won, lost):
    expected = binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0

    assert paired.mcnemar(Pairs(won, lost, 1000)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_thousands_of_pairs_does_not_overflow():
    assert paired.mcnemar(Pairs(5000, 5000, 10_000)) == 1.0
    assert 0 <= paired.mcnemar(Pairs(2000, 8000, 10_000)) < 1e-300


@pytest.mark.parametrize(("won", "lost", "images"), [(0, 0, 1), (1, 0, 1), (0, 1, 1), (5, 5, 10), (0, 1000, 1000)])
def test_interval_stays_within_bounds_and_round_the_difference(won, lost, images):
    low, high = paired.interval(Pairs(won, lost, images), 0.95)

    assert -1 <= low < high <= 1
    assert low - 0.5 / images <= (won - lost) / (images + 2) <= high + 0.5 / images


@pytest.mark.parametrize(("images", "wins", "losses"), [(200, 0.10, 0.05), (2000, 0.02, 0.02), (10_000, 0.01, 0.03)])
def test_interval_covers_the_truth_as_often_as_it_says(images, wins, losses):
    generator = np.random.default_rng(1)
    drawn = generator.multinomial(images, [wins, losses, 1 - wins - losses], size=4000)

    bounds = [paired.interval(Pairs(int(won), int(lost), images), 0.95) for won, lost, _ in drawn]

    assert 0.94 <= np.mean([low <= wins - losses <= high for low, high in bounds]) <= 0.97


@given(share=st.floats(0.05, 0.3), margin=st.floats(0.005, 0.015))
def test_enough_images_show_equal_models_to_be_within_the_margin(share, margin):
    few = Pairs(round(share * 5000), round(share * 5000), 10_000)
    images = paired.enough(few, margin, 0.95)
    each = round((few.won + few.lost) / few.images * images / 2)

    assert paired.interval(Pairs(each, each, images), 0.95).low >= -margin * 1.1
    assert paired.interval(Pairs(each // 2, each // 2, images // 2), 0.95).low < -margin
