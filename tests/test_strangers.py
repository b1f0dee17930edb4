from pathlib import Path

import numpy as np
import pytest

import seamline
from seamline import bundle as shipped
from tasks import strangers

KINDS = ["noise", "blank", "inverted", "digits", "cuttings"]


@pytest.fixture(scope="module")
def split(garments):
    return garments(3, 1)


@pytest.fixture(scope="module")
def shown(split):
    return strangers.kinds(split.images, 7)


def test_kinds_are_five_of_a_thousand_at_most(shown, split):
    counts = {"noise": 1000, "blank": 256, "inverted": len(split.images), "digits": 1000, "cuttings": len(split.images)}

    assert list(shown) == KINDS
    assert {kind: len(images) for kind, images in shown.items()} == counts
    assert {(images.dtype, images.shape[1:]) for images in shown.values()} == {(np.dtype(np.uint8), (28, 28))}


def test_more_garments_than_a_thousand_are_not_all_used():
    images = np.arange(1200, dtype=np.uint16).view(np.uint8).reshape(1200, 2)
    images = np.pad(images, ((0, 0), (0, 782))).reshape(1200, 28, 28)

    shown = strangers.kinds(images, 7)["inverted"]

    assert len(shown) == 1000
    assert len({image.tobytes() for image in shown}) == 1000, "each of them once"


def test_equal_seeds_give_equal_strangers_and_others_others(shown, split):
    again, other = strangers.kinds(split.images, 7), strangers.kinds(split.images, 8)

    for kind, images in shown.items():
        np.testing.assert_array_equal(again[kind], images)
        assert np.array_equal(other[kind], images) == (kind == "blank")


def test_inverted_are_the_garments_negated_in_another_order(shown, split):
    assert {image.tobytes() for image in 255 - shown["inverted"]} == {image.tobytes() for image in split.images}


def test_blank_ones_have_every_level_once(shown):
    assert (np.ptp(shown["blank"], axis=(1, 2)) == 0).all()
    assert shown["blank"][:, 0, 0].tolist() == list(range(256))


def test_noise_has_every_level_as_often(shown):
    counts = np.bincount(shown["noise"].ravel(), minlength=256) / shown["noise"].size

    np.testing.assert_allclose(counts, 1 / 256, rtol=0.1)


def test_digits_are_bright_on_black_and_ten(shown):
    digits = shown["digits"]
    means = np.stack([digits[number::10].mean(axis=0) for number in range(10)])
    apart = np.abs(means[:, None] - means[None]).mean(axis=(2, 3))

    assert (digits.max(axis=(1, 2)) > 150).all()
    assert (digits[:, 0, 0] == 0).mean() > 0.99
    assert 0.05 < (digits > 127).mean() < 0.4
    assert apart[~np.eye(10, dtype=bool)].min() > 5, "each has another shape"


def test_cuttings_show_a_part_enlarged(split):
    """A garment that rises from left to right does so in its cutting: by twelve of its levels, not by 28."""
    ramp = np.tile(np.arange(28, dtype=np.uint8) * 8, (1, 28, 1))

    (cutting,) = strangers.kinds(ramp, 7)["cuttings"]

    assert np.ptp(cutting, axis=0).max() == 0, "columns of one level"
    assert (np.diff(cutting[0].astype(int)) >= 0).all()
    assert np.ptp(cutting[0]) == 8 * (strangers.CUTTING - 1)


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.0, 0.0), (0.5, 0.0), (0.500001, 0.25), (0.9, 0.75), (1.1, 1.0)], ids=str
)
def test_refused_known_answer(limit, expected):
    probabilities = np.array([[0.5, 0.5], [0.4, 0.6], [0.75, 0.25], [1.0, 0.0]])

    assert strangers.refused(probabilities, limit) == expected


@pytest.mark.parametrize("kind", ["noise", "blank", "inverted"])
def test_noise_blanks_and_negatives_are_unknown_to_the_bundle_in_git(kind):
    reference = Path(seamline.__file__).parent / "reference"
    classifier = seamline.Classifier(reference)
    garments = shipped.golden(shipped.read(reference)).images[:10]

    answers = classifier.classify(strangers.kinds(garments, 7)[kind])

    assert np.mean([answer.name == "unknown" for answer in answers]) >= 0.95
    assert sum(answer.name == "unknown" for answer in classifier.classify(garments)) <= 1
