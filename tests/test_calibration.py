import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import calibration, trained


@pytest.fixture(scope="module")
def drawn():
    """Logits, and labels drawn with the probabilities that they say: calibrated as they are."""
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (20_000, 10)).astype(np.float32)
    return logits, (logits + generator.gumbel(size=logits.shape)).argmax(axis=1).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return trained.build("residual", {"width": 4, "blocks": 1}, mean=0.286, deviation=0.353)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(4).integers(0, 256, (40, 28, 28), dtype=np.uint8)


def test_temperature_of_calibrated_logits_is_1(drawn):
    assert calibration.temperature(*drawn) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_logits_multiplied_have_a_temperature_multiplied(drawn, factor):
    logits, labels = drawn

    found = calibration.temperature(logits * np.float32(factor), labels)

    assert found == pytest.approx(factor * calibration.temperature(logits, labels), rel=1e-4)


@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([0.9, 0.99, 1.01, 1.1]))
def test_no_temperature_beside_it_has_a_lower_cross_entropy(seed, step):
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(0, 3, (30, 10)).astype(np.float32), generator.integers(0, 10, 30, dtype=np.uint8)

    found = calibration.temperature(logits, labels)

    beside = np.clip(found * step, 1 / calibration.HOTTEST, calibration.HOTTEST)
    at = calibration.cross_entropy(logits / found, labels)
    assert at <= calibration.cross_entropy(logits / beside, labels) + 1e-6


@pytest.mark.parametrize(("right", "expected"), [(True, 1 / 10), (False, 10)], ids=["always right", "always wrong"])
def test_temperature_has_ends(right, expected):
    labels = np.arange(10, dtype=np.uint8)
    logits = np.eye(10, dtype=np.float32) * (1 if right else -1)

    assert calibration.temperature(logits, labels) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_known_answer():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)) + np.float32(1000)

    found = calibration.cross_entropy(logits, np.array([0, 1], np.uint8))

    assert found == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2, rel=1e-3), "whatever is added to all of them"


@given(by=st.floats(0.125, 10, width=32))
def test_cooled_model_says_its_logits_divided(by):
    """On the layer alone, so that a hundred examples take no time."""
    head = keras.layers.Dense(10)
    inputs = keras.layers.Input((6,))
    small = keras.Model(inputs, head(inputs))
    generator = np.random.default_rng(1)
    head.set_weights([generator.normal(size=(6, 10)), generator.normal(size=10)])
    features = generator.normal(size=(5, 6)).astype(np.float32)
    before = np.asarray(small(features))

    calibration.cool(small, by)

    np.testing.assert_allclose(np.asarray(small(features)), before / by, rtol=1e-4, atol=1e-5)


def test_cooled_model_of_the_zoo_gives_the_same_classes_with_calibrated_probabilities(model, images):
    logits = trained.logits(model, images)
    labels = (logits * 3 + np.random.default_rng(2).gumbel(size=logits.shape)).argmax(axis=1).astype(np.uint8)
    heat = calibration.temperature(logits, labels)

    calibration.cool(model, heat)

    cooled = trained.logits(model, images)
    np.testing.assert_allclose(cooled, logits / heat, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(cooled.argmax(axis=1), logits.argmax(axis=1))
    assert calibration.temperature(cooled, labels) == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize("accepted", [0.5, 0.9, 0.95, 1.0])
def test_limit_accepts_the_share(accepted):
    probabilities = np.random.default_rng(1).dirichlet(np.ones(10), 1000).astype(np.float32)

    limit = calibration.unknown_below(probabilities, accepted)

    assert (probabilities.max(axis=1) >= limit).mean() == pytest.approx(accepted, abs=1 / 1000)


def test_limit_known_answer():
    surest = np.linspace(0.2, 1.0, 5)
    probabilities = np.stack([surest, 1 - surest], axis=1).astype(np.float32)  # the likeliest: 0.8, 0.6, 0.6, 0.8, 1

    assert calibration.unknown_below(probabilities, 1.0) == pytest.approx(0.6)
    assert calibration.unknown_below(probabilities, 0.5) == pytest.approx(0.8)
