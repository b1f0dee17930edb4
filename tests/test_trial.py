import json
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest

import seamline
from tasks import experiment, processor, provenance, splits, studies, trained, trial
from tasks.errors import ParameterError
from tasks.experiment import HISTORY, MODEL, RESULT, Trial
from tasks.recipes import Teacher
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def laid_out(tmp_path, recipe, normalised):
    """(changes of the recipe, changes of the trial) → the folder of a trial that takes seconds."""

    def lay_out(recipe_changes=None, **changes):
        few = recipe.model_copy(update={"size": {"width": 4, "blocks": 1}, "epochs": 2, "batch": 32})
        what = {
            "name": "few",
            "recipe": few.model_copy(update=recipe_changes or {}),
            "normalised": str(normalised),
            "fold": None,
            "folds": 5,
            "test": True,
            "seed": 7,
            "precision": "auto",
        }
        return experiment.lay_out(tmp_path / "trial", Trial(**what | changes))

    return lay_out


def test_trial_writes_result_history_and_an_onnx_file_that_says_the_same(laid_out, normalised):
    folder = laid_out({"epochs": 4})

    result = trial.run(folder)

    test = splits.read(normalised, "test")
    answers = seamline.Classifier(folder / MODEL).probabilities(np.asarray(test.images)).argmax(axis=1)
    assert result == json.loads((folder / RESULT).read_text())
    assert result["test"]["accuracy"] == pytest.approx((answers == test.labels).mean(), abs=1e-5)
    assert result["onnx_bytes"] == (folder / MODEL).stat().st_size
    assert f"commit {provenance.commit()[:10] or 'unknown'}, {processor.name()}" in result["trained"]
    assert len((folder / HISTORY).read_text().splitlines()) == 5
    assert not list((folder / "checkpoints").iterdir())


def test_trial_that_is_done_is_not_run_again(laid_out, monkeypatch):
    folder = laid_out()
    first = trial.run(folder)
    monkeypatch.setattr(trial.fitting, "fit", None)  # whoever calls it fails

    assert trial.run(folder) == first


def test_trial_that_has_changed_is_run_again(laid_out):
    first = trial.run(laid_out())

    second = trial.run(laid_out({"epochs": 1}))

    assert second["key"] != first["key"]


def test_trial_that_has_changed_and_fails_leaves_no_result_of_the_former(laid_out):
    folder = laid_out()
    trial.run(folder)

    with pytest.raises(ParameterError):
        trial.run(laid_out({"model": "residul"}))

    assert not (folder / RESULT).exists()


def test_test_images_are_left_alone_unless_asked_for(laid_out, normalised):
    (normalised / "test-images.npy").unlink()

    assert trial.run(laid_out(test=False))["test"] is None


def test_fold_is_trained_on_all_but_itself(laid_out, monkeypatch):
    seen = []
    fit = trial.fitting.fit
    monkeypatch.setattr(trial.fitting, "fit", lambda *what: seen.append(what) or fit(*what))

    trial.run(laid_out(fold=1, test=False))

    fitted, held_out = seen[0][1:3]
    assert (len(fitted.labels), len(held_out.labels)) == (420 * 4 // 5, 420 // 5)


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        pytest.param("dense", {"units": [32, 16]}, 784 * 32 + 32 * 16 + 16 * 10, id="dense"),
        pytest.param(
            "convolutional",
            {"filters": [4], "pool_after": [1], "units": 0},
            26 * 26 * 9 * 4 + 13 * 13 * 4 * 10,
            id="convolution",
        ),
        pytest.param(
            "residual",
            {"width": 2, "blocks": 1},
            784 * 9 * 2 + 196 * 9 * (2 * 4 + 4 * 4 * 2) + 49 * 9 * (4 * 8 + 8 * 8 * 2) + 8 * 10,
            id="residual",
        ),
    ],
)
def test_multiply_adds_are_those_of_one_image(model, size, expected):
    assert trial.multiply_adds(trained.build(model, size, 0.3, 0.3)) == expected


def test_unusable_recipe_is_refused(laid_out):
    with pytest.raises(ParameterError, match="no model 'residul'"):
        trial.run(laid_out({"model": "residul"}))


def test_trial_runs_as_a_command_of_its_own(laid_out):
    folder = laid_out({"model": "residul"})
    command = [sys.executable, "-m", "tasks", "trial", str(folder)]

    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    done = subprocess.run([*command[:-1], str(laid_out())], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (refused.returncode, refused.stderr) == (1, "")
    assert refused.stdout.splitlines()[-1].startswith("trial: There is no model 'residul' (did you mean residual?)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / RESULT).is_file()


def test_second_process_waits_for_the_first_and_finds_its_result(laid_out):
    folder = laid_out({"epochs": 3})
    command = [sys.executable, "-m", "tasks", "trial", str(folder)]

    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("epoch 3/3") for text in said) == 1, "trained once"


def weights_of(file):
    return sorted(onnx.numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(file).graph.initializer)


def test_training_killed_twice_ends_with_the_weights_of_the_uninterrupted_one(laid_out):
    command = [sys.executable, "-m", "tasks", "trial"]
    folder, seen = laid_out({"epochs": 80}), []
    subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, check=True)
    expected = json.loads((folder / RESULT).read_text())
    weights = weights_of(folder / MODEL)
    for path in (folder / RESULT, folder / MODEL, folder / HISTORY):
        path.unlink()
    for epochs in (2, 30):  # whatever it is doing then: a step, a measurement, a checkpoint half written
        process = subprocess.Popen([*command, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while not (seen := sorted(folder.glob("checkpoints/epoch*")))[-1:] or int(seen[-1].name[5:]) < epochs:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=60)
        assert not (folder / RESULT).exists()

    done = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True)

    result = json.loads((folder / RESULT).read_text())
    assert "goes on after epoch" in done.stdout
    assert weights_of(folder / MODEL) == weights, "bit for bit"
    assert {key: result[key] for key in ("train", "held_out", "test")} == {
        key: expected[key] for key in ("train", "held_out", "test")
    }


def test_trial_that_is_ended_early_has_a_result_that_says_so(laid_out, monkeypatch):
    def watcher(study, seed, epochs):
        def watch(row):
            raise studies.Pruned(row["epoch"])

        return watch

    monkeypatch.setattr(trial.studies, "watcher", watcher)
    folder = laid_out()

    result = trial.run(folder)

    assert result["pruned_after"] == 1
    assert json.loads((folder / RESULT).read_text()) == result
    assert not list((folder / "checkpoints").iterdir())
    assert trial.run(folder) == result


def test_trial_learns_from_its_recipes_teacher(laid_out, normalised, recipe):
    few = recipe.model_copy(update={"size": {"width": 4, "blocks": 1}, "epochs": 1, "batch": 32})

    trial.run(laid_out({"teacher": Teacher(share=0.5, temperature=2.0, recipe=few)}))

    assert len(list((normalised.parent / "teachers").glob("*.npy"))) == 1


def test_trial_in_bfloat16_learns_and_exports_float32(laid_out):
    folder = laid_out({"epochs": 6}, precision="bfloat16")

    result = trial.run(folder)

    said = seamline.Classifier(folder / MODEL).probabilities(np.zeros((1, 28, 28), np.uint8))
    assert result["precision"] == "bfloat16"
    assert result["test"]["accuracy"] > 0.4, "ten classes, six epochs of ten steps"
    assert said.dtype == np.float32
