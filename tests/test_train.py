import csv
import json

import keras
import numpy as np
import pytest
import yaml

from models.layers import StandardisedConv
from tasks import calibration, fitting, splits, train, trained
from tasks.arrays import Split
from tasks.errors import ParameterError, TrainingError
from tasks.recipes import Teacher


@pytest.fixture
def run(numbers, recipe, normalised):
    """(changed numbers of the recipe) → the folder that the stage wrote to."""
    folder = normalised.parent

    def run_stage(**changes):
        size = {"width": 4, "blocks": 1}
        few = recipe.model_copy(update={"size": size, "epochs": 2, "batch": 32, **changes})
        (folder / "few.yaml").write_text(yaml.safe_dump(few.model_dump()))
        written = (folder / "model", folder / "history.csv", folder / "train.md")
        train.run(numbers.train, folder / "few.yaml", normalised, folder / "checkpoints", *written)
        return folder

    return run_stage


@pytest.mark.slow
def test_train_writes_model_history_and_summary(run):
    folder = run()

    description = json.loads((folder / "model/model.json").read_text())
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    model, loaded = trained.load(folder / "model")

    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"]
    assert description["recipe"] == "few"
    assert description["parameters"]["train"]["epochs"] == 2
    assert loaded == description
    assert model.count_params() == description["parameters_trained"]
    assert 0.1 <= description["temperature"] <= 10
    assert "| 2 |" in (folder / "train.md").read_text()
    assert sorted(path.name for path in (folder / "model").iterdir()) == ["model.json", "model.weights.h5"]
    assert list((folder / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_model_computes_in_the_precision_that_is_set_up(precision):
    fitting.set_up(precision, seed=7)
    try:
        model = trained.build("residual", {"width": 4, "blocks": 1}, mean=0.3, deviation=0.3)
        convolved = next(layer for layer in model.layers if isinstance(layer, StandardisedConv)).output.dtype
    finally:
        keras.config.set_dtype_policy("float32")

    assert convolved == precision
    assert model.output.dtype == "float32"


@pytest.mark.slow
def test_trained_model_is_calibrated_and_knows_the_share_it_accepts(run, numbers, normalised):
    validation = splits.read(normalised, "validation")

    model, description = trained.load(run() / "model")

    assert calibration.temperature(trained.logits(model, validation.images), validation.labels) == pytest.approx(
        1, abs=1e-3
    )
    surest = trained.probabilities(model, validation.images).max(axis=1)
    assert (surest >= description["unknown_below"] - 1e-6).mean() == pytest.approx(numbers.train.accepted, abs=0.01)


@pytest.mark.slow
def test_training_again_gives_the_same_weights(run):
    first = json.loads((run() / "model/model.json").read_text())["weights"]

    assert json.loads((run() / "model/model.json").read_text())["weights"] == first


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [1, 2])
def test_killed_training_goes_on_and_ends_as_if_it_had_not_been(run, monkeypatch, killed_after, capsys):
    expected = json.loads((run(epochs=3) / "model/model.json").read_text())["weights"]
    measure = fitting.measure
    measured = []

    def interrupted(*arguments):
        measured.append(1)
        if len(measured) > killed_after:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(fitting, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(epochs=3)
    monkeypatch.setattr(fitting, "measure", measure)
    folder = run(epochs=3)

    assert json.loads((folder / "model/model.json").read_text())["weights"] == expected
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]


@pytest.mark.slow
def test_equal_weights_are_equal_files(run, tmp_path):
    folder = run()
    model, description = trained.load(folder / "model")

    weights = trained.save(model, tmp_path / "again", {})

    assert weights == description["weights"]
    assert (tmp_path / "again/model.weights.h5").read_bytes() == (folder / "model/model.weights.h5").read_bytes()


def test_a_loss_that_is_no_number_stops_training_and_writes_nothing(run, normalised):
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch \d\. Lower the recipe's rate"):
        run(adam_rate=1e30)

    assert not (normalised.parent / "model").exists()


@pytest.mark.slow
def test_recipe_with_a_teacher_trains_it_first_and_learns_from_it(run, recipe, caplog):
    alone = json.loads((run() / "model/model.json").read_text())
    few = recipe.model_copy(update={"size": {"width": 6, "blocks": 1}, "epochs": 1, "batch": 32})

    with caplog.at_level("INFO"):
        folder = run(teacher=Teacher(share=0.5, temperature=2.0, recipe=few))

    taught = json.loads((folder / "model/model.json").read_text())
    assert "train: the teacher first" in caplog.text
    assert taught["weights"] != alone["weights"]
    assert taught["parameters"]["train"]["teacher"]["recipe"]["size"] == {"width": 6, "blocks": 1}
    assert list((folder / "checkpoints/teacher").glob("*.npy"))


def test_a_batch_larger_than_the_data_is_refused(run):
    with pytest.raises(ParameterError, match=r"The recipe's batch is 321, and there are 320 training images"):
        run(batch=321)


def test_an_unknown_model_is_refused_with_the_nearest(run):
    with pytest.raises(ParameterError, match=r"no model 'residul' \(did you mean residual\?\)"):
        run(model="residul")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"size": {"width": 4, "depth": 1}}, id="an unknown number"),
        pytest.param({"size": {"width": 4}}, id="a missing number"),
        pytest.param({"model": "convolutional", "size": {"filters": [8], "pool_after": [], "units": 0, "kernel": 40}}, id="too large"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_build_is_refused(run, changes):
    with pytest.raises(ParameterError, match=r"^The model \w+ does not build with"):
        run(**changes)


def test_measure_knows_accuracy_and_cross_entropy():
    class Constant:
        def predict_on_batch(self, images):
            return np.log(np.tile([0.5, 0.25] + [0.25 / 8] * 8, (len(images), 1)))

    split = Split(np.zeros((4, 28, 28), np.uint8), np.array([0, 0, 0, 1], np.uint8))

    measured = fitting.measure(Constant(), split)

    assert measured["accuracy"] == 0.75
    assert measured["loss"] == pytest.approx(-(3 * np.log(0.5) + np.log(0.25)) / 4, abs=1e-5)
