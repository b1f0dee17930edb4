import re

import pytest

from tasks import comparison, experiment, recipes
from tasks.experiment import HISTORY, RESULT, Trial
from tasks.files import read_json, write_json
from tests.conftest import ROOT

RECIPES = ROOT / "recipes"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def folders(tmp_path, numbers):
    return comparison.lay_out(numbers.experiments, RECIPES, tmp_path / "normalised", tmp_path / "comparison")


def finish(folder, accuracy, seconds=60.0):
    measured = {"loss": 0.3, "accuracy": accuracy}
    sizes = {"parameters": 101770, "multiply_adds": 101632, "onnx_bytes": 408000, "latency_us": 21.5}
    write_json(
        folder / RESULT,
        {"name": folder.name, "seconds": seconds, "train": measured, "held_out": measured, "test": measured, **sizes},
    )
    (folder / HISTORY).write_text("epoch,loss,accuracy,validation_loss,validation_accuracy\n1,0.9,0.7,0.4,0.85\n")


def test_every_recipe_is_a_trial_with_the_same_seed_and_data(folders, numbers):
    trials = {folder.name: Trial(**read_json(folder / "trial.json")) for folder in folders}

    assert sorted(trials) == recipes.names(RECIPES)
    assert {(trial.seed, trial.fold, trial.test) for trial in trials.values()} == {(7, None, True)}
    assert trials["swift"].recipe == recipes.load(RECIPES / "swift.yaml")


def test_training_can_be_cut_short(tmp_path, numbers):
    short = numbers.experiments.model_copy(update={"most_epochs": 2})

    folders = comparison.lay_out(short, RECIPES, tmp_path, tmp_path / "comparison")

    assert {read_json(folder / "trial.json")["recipe"]["epochs"] for folder in folders} == {2}


def test_page_shows_published_and_measured_side_by_side(folders, tmp_path):
    for folder in folders:
        finish(folder, 0.9)

    comparison.show(folders, RECIPES, tmp_path / "index.html", {})

    page, table = (tmp_path / "index.html").read_text(), (tmp_path / "index.md").read_text()
    assert "| dense_take_1 | 88.58% | 87.72% | 90.00% | 90.00% | 101,770 | 101,632 | 60 | 408,000 | 22 |" in table
    assert page.count("<svg") == 4, "against time, against size, and over-fitting without and with dropout"
    assert not re.search(r"<script|src=\"http|@import", page)


def test_partial_results_are_shown_with_what_failed(folders, tmp_path):
    finish(next(folder for folder in folders if folder.name == "swift"), 0.93)

    table = comparison.show(folders, RECIPES, tmp_path / "index.html", {"two_conv": HOSTILE})

    page = (tmp_path / "index.html").read_text()
    assert [row[0] for row in table.rows] == ["swift"]
    assert "<strong>two_conv</strong> &lt;script&gt;" in page
    assert f"1 of {len(folders)} recipes" in page


def test_page_without_any_result_is_still_a_page(folders, tmp_path):
    table = comparison.show(folders, RECIPES, tmp_path / "index.html", {"swift": "the disk is full"})

    assert table.rows == []
    assert "the disk is full" in (tmp_path / "index.html").read_text()


def test_results_come_in_the_order_of_the_folders(folders):
    for folder in reversed(folders):
        finish(folder, 0.9)

    assert [result["name"] for result in experiment.results(folders)] == [folder.name for folder in folders]
