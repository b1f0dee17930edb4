"""The bound from which on pictures are alike: how it is measured, and that everything goes by the same one."""

import re

import numpy as np
import pytest

from benchmarks import alike
from seamline.similar import ALIKE
from tests.conftest import ROOT


def rows(*degrees):
    """Directions in a plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_pairs_are_counted_from_each_cosine_on():
    every, same = alike.pairs(rows(0, 60, 180), np.array([0, 0, 1], np.uint8))  # cosines 0.5, −1 and −0.5

    assert (every[0], every[50], every[51], every[150], every[151]) == (3, 2, 1, 1, 0)
    assert (same[0], same[150], same[151]) == (1, 1, 0)


def test_bound_is_the_least_cosine_from_which_on_enough_pairs_are_of_one_kind():
    every, same = alike.pairs(rows(0, 60, 180), np.array([0, 0, 1], np.uint8))

    assert alike.bound(every, same, share=1.0) == -0.49
    assert alike.bound(every, same, share=0.5) == -0.99


def test_pairs_that_are_never_of_one_kind_have_no_bound():
    every, same = alike.pairs(rows(0, 60), np.array([0, 1], np.uint8))

    with pytest.raises(ValueError, match="There is none"):
        alike.bound(every, same)


def test_shops_show_fewer_with_a_bound_and_only_what_reaches_it():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.uint8), 100)
    embeddings = rows(*(90 * labels + generator.uniform(-40, 40, 200)))  # a quarter turn between the kinds

    without, within = (alike.shown(embeddings, labels, least) for least in (-1, 0.99))

    assert (without.number, without.strange) == (4, 1)
    assert within.number <= 4
    assert within.same >= without.same
    assert within.strange < 0.2


def test_page_and_published_figures_have_the_bound_in_force():
    page = (ROOT / "kiosk/likeness.js").read_text(encoding="utf-8")
    published = (ROOT / "benchmarks/alike.md").read_text(encoding="utf-8")

    assert re.findall(r"^const ALIKE = ([\d.]+);", page, re.MULTILINE) == [str(ALIKE)]
    assert re.findall(r"seamline/reference, validation \| ([\d.]+) \|", published) == [str(ALIKE)]
