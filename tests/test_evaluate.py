import csv
import io
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import evaluate, metrics, splits, trained
from tasks.arrays import CLASSES, Split


def sure_of(classes):
    """Probabilities of a model that gives 0.91 to each of these classes, and 0.01 to each other."""
    probabilities = np.full((len(classes), 10), 0.01, np.float32)
    probabilities[np.arange(len(classes)), classes] = 0.91
    return probabilities


@pytest.fixture(scope="module")
def params(numbers):
    return numbers.evaluate


def test_measure_known_answer(params):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 2)
    said = labels.copy()
    said[12:14] = 0  # both shirts taken for T-shirts
    said[4] = 6  # a pullover for a shirt

    measured = evaluate.measure(labels, sure_of(said), params)

    assert measured["accuracy"] == 0.85
    assert (measured["accuracy_low"], measured["accuracy_high"]) == metrics.wilson(17, 20)
    assert measured["images"] == 20
    assert (measured["worst_class"], measured["worst_recall"]) == ("Shirt", 0.0)
    assert measured["calibration_error"] == pytest.approx(0.91 - 0.85)
    assert list(measured["classes"]) == list(CLASSES)
    assert measured["classes"]["Pullover"] == pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3})
    assert measured["classes"]["T-shirt/top"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3})
    assert measured["confused"] == [
        {"actual": "Shirt", "predicted": "T-shirt/top", "images": 2},
        {"actual": "Pullover", "predicted": "Shirt", "images": 1},
    ]


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50))
def test_measure_is_consistent_and_json(params, pairs):
    labels, said = np.array(pairs, np.uint8).T

    measured = evaluate.measure(labels, sure_of(said), params)

    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert measured["accuracy"] == sum(label == other for label, other in pairs) / len(pairs)
    assert measured["worst_recall"] == min(values["recall"] for values in measured["classes"].values())
    assert measured["classes"][measured["worst_class"]]["recall"] == measured["worst_recall"]
    assert measured["accuracy_low"] <= measured["accuracy"] + 1e-12
    assert measured["accuracy_high"] >= measured["accuracy"] - 1e-12
    assert len(measured["confused"]) <= params.confused_pairs


def test_measure_finds_no_fault_in_a_model_without_one(params):
    labels = np.arange(10, dtype=np.uint8)

    measured = evaluate.measure(labels, np.eye(10, dtype=np.float32), params)

    assert (measured["accuracy"], measured["worst_recall"], measured["calibration_error"]) == (1.0, 1.0, 0.0)
    assert measured["confused"] == []


def test_measure_refuses_an_empty_test_set(params):
    with pytest.raises(ValueError, match=r"trials ≥ 1\. Received 0 of 0"):
        evaluate.measure(np.zeros(0, np.uint8), np.zeros((0, 10), np.float32), params)


def test_predictions_csv_known_answer():
    labels = np.array([9, 0], np.uint8)

    assert evaluate.predictions_csv(labels, sure_of([9, 6])) == (
        "image,actual,predicted,probability\n0,Ankle boot,Ankle boot,0.9100\n1,T-shirt/top,Shirt,0.9100\n"
    )


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_predictions_csv_gives_back_every_answer(pairs):
    labels, said = np.array(pairs, np.uint8).T

    rows = list(csv.DictReader(io.StringIO(evaluate.predictions_csv(labels, sure_of(said)))))

    assert [int(row["image"]) for row in rows] == list(range(len(pairs)))
    assert [(CLASSES.index(row["actual"]), CLASSES.index(row["predicted"])) for row in rows] == pairs


def test_predictions_csv_refuses_probabilities_of_other_images():
    with pytest.raises(ValueError, match="shorter"):
        evaluate.predictions_csv(np.zeros(3, np.uint8), sure_of([1, 2]))


class SureOfPlain:
    """A model that is sure of a picture of one level, and of nothing else."""

    def predict_on_batch(self, images):
        plain = np.ptp(images, axis=(1, 2)) == 0
        return np.where(plain[:, None], 10.0, 0.0) * np.eye(10)[0]


def test_unknown_known_answer(garments):
    images = garments(2, 1).images
    probabilities = sure_of(range(10)).repeat(2, axis=0)
    probabilities[:5] = 0.1

    found = evaluate.unknown(SureOfPlain(), images, probabilities, 0.5, seed=7)

    strange = {"noise": 1.0, "blank": 0.0, "inverted": 1.0, "digits": 1.0, "cuttings": 1.0}
    assert found == {"below": 0.5, "garments": 0.25, "strangers": strange}


@pytest.mark.slow
def test_stage_writes_what_a_model_does_not_know(numbers, garments, tmp_path):
    test = garments(4, 2)
    splits.write(tmp_path / "normalised", "test", Split(*test))
    keras.utils.set_random_seed(3)
    about = {"model": "residual", "size": {"width": 4, "blocks": 1}, "pixels": {"mean": 0.286, "deviation": 0.353}}
    model = trained.build(about["model"], about["size"], **about["pixels"])
    limit = float(np.median(trained.probabilities(model, test.images).max(axis=1)))
    weights = trained.save(model, tmp_path / "model", about | {"data": {"test": "t"}, "unknown_below": limit})
    names = ("metrics.json", "probabilities.npy", "predictions.csv", "evaluate.md")

    evaluate.run(numbers.evaluate, tmp_path / "normalised", tmp_path / "model", *(tmp_path / name for name in names))

    measured = json.loads((tmp_path / "metrics.json").read_text())
    assert (measured["weights"], measured["test_data"], measured["images"]) == (weights, "t", 40)
    assert measured["unknown"]["below"] == limit
    assert measured["unknown"]["garments"] == pytest.approx(0.5, abs=0.05)
    assert list(measured["unknown"]["strangers"]) == ["noise", "blank", "inverted", "digits", "cuttings"]
    assert f"Unknown, below {limit:.1%}: {measured['unknown']['garments']:.1%} of the test images; " in (
        tmp_path / "evaluate.md"
    ).read_text(encoding="utf-8")
    assert np.load(tmp_path / "probabilities.npy").shape == (40, 10)
