import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import metrics
from tasks.arrays import CLASSES

Z = metrics.Z_95
LABELS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)  # (actual, predicted)
TRIALS = st.integers(1, 100_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
ANSWERS = st.lists(
    st.tuples(st.integers(0, 9), st.lists(st.floats(0, 1, width=32), min_size=10, max_size=10)), min_size=1
)


def answers(*pairs):
    """(class said, confidence) each → probabilities (n, 10), the rest spread evenly."""
    said, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    probabilities = np.repeat((1 - confidence[:, None]) / 9, 10, axis=1)
    probabilities[np.arange(len(said)), said] = confidence
    return probabilities.astype(np.float32)


def test_doctests_hold():
    assert doctest.testmod(metrics, optionflags=doctest.ELLIPSIS) == (0, 1)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3
        pytest.param(81, 263, 0.2553, 0.3662, id="81 of 263"),
        pytest.param(15, 148, 0.0624, 0.1605, id="15 of 148"),
        pytest.param(0, 20, 0.0, 0.1611, id="none of 20"),
        pytest.param(1, 29, 0.0061, 0.1718, id="1 of 29"),
        pytest.param(20, 20, 0.8389, 1.0, id="all of 20"),
    ],
)
def test_wilson_known_answer(successes, trials, low, high):
    assert metrics.wilson(successes, trials) == pytest.approx((low, high), abs=0.00005)


@given(TRIALS)
def test_wilson_ends_lie_z_deviations_from_the_share(case):
    """The formula's definition: each end p solves (share - p)² = z² p (1 - p) / n."""
    successes, trials = case
    share = successes / trials

    for end in metrics.wilson(successes, trials):
        assert (share - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / trials, rel=1e-6, abs=1e-12)


@given(TRIALS)
def test_wilson_stays_within_bounds_around_the_share_and_is_symmetric(case):
    successes, trials = case

    low, high = metrics.wilson(successes, trials)

    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= successes / trials <= high + 1e-12
    assert metrics.wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_narrows_with_more_trials():
    widths = [high - low for low, high in (metrics.wilson(9 * n, 10 * n) for n in (1, 10, 100, 1000))]

    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    ("successes", "trials"),
    [pytest.param(0, 0, id="no trials"), pytest.param(3, 2, id="too many"), pytest.param(-1, 2, id="negative")],
)
def test_wilson_refuses(successes, trials):
    with pytest.raises(ValueError, match=rf"^Expected 0 ≤ successes ≤ trials, .* Received {successes} of {trials}\.$"):
        metrics.wilson(successes, trials)


@given(LABELS)
def test_confusion_agrees_with_counting(pairs):
    actual, predicted = np.array(pairs, np.uint8).T

    matrix = metrics.confusion(actual, predicted)

    assert matrix.tolist() == [[pairs.count((row, column)) for column in range(10)] for row in range(10)]


@given(LABELS)
def test_per_class_agrees_with_counting(pairs):
    found = metrics.per_class(metrics.confusion(*np.array(pairs, np.uint8).T))

    assert list(found) == list(CLASSES)
    for label, name in enumerate(CLASSES):
        right = pairs.count((label, label))
        actual = sum(pair[0] == label for pair in pairs)
        said = sum(pair[1] == label for pair in pairs)
        precision, recall = right / said if said else 0.0, right / actual if actual else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        assert found[name] == pytest.approx((precision, recall, f1))


def test_per_class_is_0_where_there_is_nothing():
    assert set(metrics.per_class(np.zeros((10, 10), np.int64)).values()) == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("labels", "said", "bins", "error"),
    [
        pytest.param([1, 2], [(1, 1.0), (2, 1.0)], 10, 0.0, id="certain and right"),
        pytest.param([1, 2], [(3, 1.0), (4, 1.0)], 10, 1.0, id="certain and wrong"),
        pytest.param([1, 1, 1, 2], [(1, 0.75)] * 4, 10, 0.0, id="three in four right at 0.75"),
        pytest.param([1, 1], [(1, 0.75)] * 2, 10, 0.25, id="too modest"),
        pytest.param([1, 2, 1, 1], [(1, 0.875), (1, 0.875), (1, 0.625), (1, 0.625)], 2, 0.0, id="one bin evens out"),
        pytest.param([1, 2, 1, 1], [(1, 0.875), (1, 0.875), (1, 0.625), (1, 0.625)], 4, 0.375, id="two bins do not"),
        pytest.param([1, 2], [(1, 0.5), (1, 1.0)], 2, 0.25, id="a bin has its lower end, the last both"),
    ],
)
def test_calibration_error_known_answer(labels, said, bins, error):
    found = metrics.calibration_error(np.array(labels, np.uint8), answers(*said), bins)

    assert found == pytest.approx(error, abs=1e-7)


@given(ANSWERS, st.integers(2, 20))
def test_calibration_error_agrees_with_a_loop_over_bins(cases, bins):
    labels = np.array([label for label, _ in cases], np.uint8)
    probabilities = np.array([row for _, row in cases], np.float32)
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels

    error = metrics.calibration_error(labels, probabilities, bins)

    expected = 0.0
    for place in range(bins):
        inside = np.minimum(np.floor(confidence * bins), bins - 1) == place
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert error == pytest.approx(expected, abs=1e-9)
    assert 0 <= error <= 1


def test_most_confused_names_the_most_frequent_first():
    matrix = np.diag(np.full(10, 99))
    matrix[6, 0], matrix[0, 6], matrix[4, 2] = 7, 9, 8

    assert metrics.most_confused(matrix, 2) == [("T-shirt/top", "Shirt", 9), ("Coat", "Pullover", 8)]


def test_most_confused_keeps_the_order_of_classes_among_equals():
    matrix = np.random.default_rng(1).integers(1, 4, (10, 10))
    pairs = [(CLASSES[r], CLASSES[c], int(matrix[r, c])) for r in range(10) for c in range(10) if r != c]

    assert metrics.most_confused(matrix, 90) == sorted(pairs, key=lambda pair: -pair[2])


def test_most_confused_leaves_out_what_did_not_happen():
    matrix = np.diag(np.full(10, 99))
    matrix[9, 7] = 1

    assert metrics.most_confused(matrix, 5) == [("Ankle boot", "Sneaker", 1)]
