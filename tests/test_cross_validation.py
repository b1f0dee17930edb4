import numpy as np
import pytest

from tasks import cross_validation, recipes
from tasks.errors import ParameterError
from tasks.experiment import HISTORY, RESULT, Trial
from tasks.files import read_json, write_json
from tests.conftest import ROOT

RECIPES = ROOT / "recipes"


@pytest.fixture
def folders(tmp_path, numbers):
    names = ["swift", "baseline"]
    return cross_validation.lay_out(numbers.experiments, names, RECIPES, tmp_path / "normalised", tmp_path / "folds")


def finish(folder, accuracy):
    write_json(folder / RESULT, {"held_out": {"loss": 0.3, "accuracy": accuracy}})
    (folder / HISTORY).write_text(
        "epoch,loss,accuracy,validation_loss,validation_accuracy\n1,0.9,0.7,0.4,0.85\n2,0.8,0.8,0.3,0.9\n"
    )


def test_every_recipe_has_the_same_folds_and_no_test_images(folders):
    trials = {name: [Trial(**read_json(path / "trial.json")) for path in paths] for name, paths in folders.items()}

    assert [[trial.fold for trial in found] for found in trials.values()] == [list(range(5))] * 2
    assert {(trial.folds, trial.seed, trial.test) for found in trials.values() for trial in found} == {(5, 7, False)}
    assert [trial.recipe for trial in trials["swift"]] == [recipes.load(RECIPES / "swift.yaml")] * 5


def test_page_shows_mean_deviation_box_and_curves(folders, tmp_path):
    accuracies = [0.90, 0.91, 0.92, 0.93, 0.94]
    for paths in folders.values():
        for path, accuracy in zip(paths, accuracies, strict=True):
            finish(path, accuracy)

    table = cross_validation.show(folders, tmp_path / "index.html", {})

    expected = [f"{np.mean(accuracies):.2%}", f"{np.std(accuracies, ddof=1):.2%}", "90.00%", "94.00%"]
    assert table.rows == [["swift", "5", *expected], ["baseline", "5", *expected]]
    page = (tmp_path / "index.html").read_text()
    assert page.count("<svg") == 5, "a box plot, and two kinds of curves of each recipe"
    assert "swift: accuracy by epoch of 5 folds" in page
    assert "swift: loss by epoch of 5 folds" in page


def test_partial_results_are_shown(folders, tmp_path):
    finish(folders["swift"][0], 0.9)

    table = cross_validation.show(folders, tmp_path / "index.html", {"baseline, fold-1": "out of memory"})

    assert table.rows == [["swift", "1", "90.00%", "", "90.00%", "90.00%"]]
    assert "out of memory" in (tmp_path / "index.html").read_text()


def test_recipe_that_is_not_there_is_refused(tmp_path, numbers):
    with pytest.raises(ParameterError, match=r"swoft\.yaml \(did you mean swift\?\)"):
        cross_validation.lay_out(numbers.experiments, ["swoft"], RECIPES, tmp_path, tmp_path)
