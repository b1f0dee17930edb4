import csv
import json

import numpy as np
import pytest

from tasks import splits, train, trained
from tasks.arrays import Split
from tasks.errors import ParameterError, TrainingError
from tasks.files import write_json


@pytest.fixture
def normalised(tmp_path):
    """A tiny normalised folder: 320 training images, 100 for validation."""
    generator = np.random.default_rng(2)
    for name, count in (("train", 320), ("validation", 100)):
        labels = np.resize(np.arange(10, dtype=np.uint8), count)
        images = generator.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * label : 4 + 2 * label] = 230
        splits.write(tmp_path / "normalised", name, Split(images, labels))
    stats = {"mean": 0.2, "deviation": 0.2, "data": {"test": "t"}, "parameters": {"seed": 7}}
    write_json(tmp_path / "normalised" / splits.STATS, stats)
    return tmp_path / "normalised"


def run(numbers, normalised, **changes):
    folder = normalised.parent
    few = numbers.train.model_copy(update={"epochs": 2, "batch": 32, **changes})
    train.run(few, normalised, folder / "model", folder / "history.csv", folder / "train.md")
    return folder


@pytest.mark.slow
def test_train_writes_model_history_and_summary(numbers, normalised):
    folder = run(numbers, normalised)

    description = json.loads((folder / "model/model.json").read_text())
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    model, loaded = trained.load(folder / "model")

    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["epoch", "loss", "validation_loss", "validation_accuracy"]
    assert description["parameters"]["train"]["epochs"] == 2
    assert loaded == description
    assert model.count_params() == description["parameters_trained"]
    assert "| 2 |" in (folder / "train.md").read_text()
    assert sorted(path.name for path in (folder / "model").iterdir()) == ["model.json", "model.weights.h5"]


@pytest.mark.slow
def test_equal_weights_are_equal_files(numbers, normalised, tmp_path):
    folder = run(numbers, normalised)
    model, description = trained.load(folder / "model")

    weights = trained.save(model, tmp_path / "again", {})

    assert weights == description["weights"]
    assert (tmp_path / "again/model.weights.h5").read_bytes() == (folder / "model/model.weights.h5").read_bytes()


def test_a_loss_that_is_no_number_stops_training_and_writes_nothing(numbers, normalised):
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch \d\. Lower train\.muon_rate"):
        run(numbers, normalised, adam_rate=1e30)

    assert not (normalised.parent / "model").exists()


def test_a_batch_larger_than_the_data_is_refused(numbers, normalised):
    with pytest.raises(ParameterError, match=r"train\.batch is 321, and there are 320 training images"):
        run(numbers, normalised, batch=321)


def test_an_unknown_model_is_refused_with_the_known_ones(numbers, normalised):
    with pytest.raises(ParameterError, match=r"train\.model is 'swoft', known: swift"):
        run(numbers, normalised, model="swoft")


def test_measure_knows_accuracy_and_cross_entropy():
    class Constant:
        def predict_on_batch(self, images):
            return np.log(np.tile([0.5, 0.25] + [0.25 / 8] * 8, (len(images), 1)))

    split = Split(np.zeros((4, 28, 28), np.uint8), np.array([0, 0, 0, 1], np.uint8))

    measured = train.measure(Constant(), split)

    assert measured["validation_accuracy"] == 0.75
    assert measured["validation_loss"] == pytest.approx(-(3 * np.log(0.5) + np.log(0.25)) / 4, abs=1e-5)
