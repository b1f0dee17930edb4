import re

import pytest

from tasks import comparison, recipes
from tasks.experiment import HISTORY, RESULT, Trial
from tasks.files import read_json, write_json
from tests.conftest import ROOT

RECIPES = ROOT / "recipes"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def folders(tmp_path, numbers):
    names = recipes.names(RECIPES)
    return comparison.lay_out(numbers.experiments, names, RECIPES, tmp_path / "normalised", tmp_path / "comparison")


def finish(folder, accuracy, seconds=60.0):
    measured = {"loss": 0.3, "accuracy": accuracy}
    sizes = {"parameters": 101770, "multiply_adds": 101632, "onnx_bytes": 408000, "latency_us": 21.5}
    write_json(
        folder / RESULT,
        {
            "name": folder.parent.name,
            "seconds": seconds,
            "train": measured,
            "held_out": measured,
            "test": measured,
            **sizes,
        },
    )
    (folder / HISTORY).write_text("epoch,loss,accuracy,validation_loss,validation_accuracy\n1,0.9,0.7,0.4,0.85\n")


def test_every_recipe_is_a_trial_with_the_same_seed_and_data(folders, numbers):
    trials = {name: Trial(**read_json(folder / "trial.json")) for name, [folder] in folders.items()}

    assert list(trials) == recipes.names(RECIPES)
    assert {(trial.seed, trial.fold, trial.test) for trial in trials.values()} == {(7, None, True)}
    assert trials["swift"].recipe == recipes.load(RECIPES / "swift.yaml")


def test_training_can_be_cut_short(tmp_path, numbers):
    short = numbers.experiments.model_copy(update={"most_epochs": 2})

    folders = comparison.lay_out(short, ["swift"], RECIPES, tmp_path, tmp_path / "comparison")

    assert read_json(folders["swift"][0] / "trial.json")["recipe"]["epochs"] == 2


def test_seeds_of_a_recipe_are_one_row_with_their_deviation(tmp_path, numbers):
    folders = comparison.lay_out(numbers.experiments, ["swift"], RECIPES, tmp_path, tmp_path / "comparison", seeds=3)
    for folder, accuracy in zip(folders["swift"], [0.93, 0.94, 0.95], strict=True):
        finish(folder, accuracy, seconds=1000 * accuracy)

    [row] = comparison.show(folders, RECIPES, tmp_path / "index.html", {}).rows

    assert [read_json(folder / "trial.json")["seed"] for folder in folders["swift"]] == [7, 8, 9]
    assert (row[0], row[1], row[5], row[8]) == ("swift", "3", "94.00% ± 1.00", "940")


def test_page_shows_published_and_measured_side_by_side(folders, tmp_path):
    for [folder] in folders.values():
        finish(folder, 0.9)

    comparison.show(folders, RECIPES, tmp_path / "index.html", {})

    page, table = (tmp_path / "index.html").read_text(), (tmp_path / "index.md").read_text()
    assert "| dense_take_1 | 1 | 88.58% | 87.72% | 90.00% | 90.00% | 101,770 | 101,632 | 60 | 408,000 | 22 |" in table
    assert page.count("<svg") == 4, "against time, against size, and over-fitting without and with dropout"
    assert not re.search(r"<script|src=\"http|@import", page)


def test_partial_results_are_shown_with_what_failed(folders, tmp_path):
    finish(folders["swift"][0], 0.93)

    table = comparison.show(folders, RECIPES, tmp_path / "index.html", {"two_conv": HOSTILE})

    page = (tmp_path / "index.html").read_text()
    assert [row[0] for row in table.rows] == ["swift"]
    assert "<strong>two_conv</strong> &lt;script&gt;" in page
    assert f"1 of {len(folders)} recipes" in page


def test_page_without_any_result_is_still_a_page(folders, tmp_path):
    table = comparison.show(folders, RECIPES, tmp_path / "index.html", {"swift": "the disk is full"})

    assert table.rows == []
    assert "the disk is full" in (tmp_path / "index.html").read_text()
