import pytest
from optuna.trial import TrialState

from tasks import experiment, recipes, studies, tuning, tuning_page
from tasks.errors import ParameterError
from tasks.experiment import RESULT, Study
from tasks.files import write_json
from tasks.recipes import Recipe
from tasks.tuning import Tuning
from tests.conftest import ROOT


@pytest.fixture
def what(tmp_path, numbers, normalised, monkeypatch):
    """A tuning of the recipe that has the published search."""
    monkeypatch.delenv(studies.STORAGE, raising=False)
    recipe = recipes.load(ROOT / "recipes/tuned_two_conv.yaml")
    return Tuning("tuned_two_conv", recipe, numbers.experiments, normalised, tmp_path / "tuning")


def finish(what, study, accuracy, *, pruned=False):
    """A trial that ended with this accuracy, which it approached from below."""
    trial = tuning.ask(what, study)
    watch = studies.watcher(Study(folder=str(what.folder), name=study.study_name, number=trial.number), 7, 3)
    for epoch in (1, 2):
        watch({"epoch": epoch, "validation_accuracy": accuracy - 0.01 * (3 - epoch)})
    study.tell(trial.number, None if pruned else accuracy, TrialState.PRUNED if pruned else None)
    return trial


def test_draws_depend_on_seed_and_number_alone(what, tmp_path):
    other = what._replace(folder=tmp_path / "other")

    drawn = [[tuning.ask(one, study).params for _ in range(4)] for one in (what, other) for study in [one.open()]]

    assert drawn[0] == drawn[1]
    assert len({str(params) for params in drawn[0]}) > 1


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        pytest.param({"source": "another"}, True, id="where it comes from"),
        pytest.param({"epochs": 3}, False, id="the training"),
        pytest.param({"search": {"rate": [0.1, 0.2]}}, False, id="the search"),
    ],
)
def test_study_is_another_one_if_what_its_trials_depend_on_has_changed(what, changes, same):
    finish(what, what.open(), 0.9)
    changed = what._replace(recipe=Recipe.model_validate(what.recipe.model_dump() | changes))

    assert (len(changed.open().get_trials()) == 1) == same


def test_trial_is_laid_out_with_its_numbers_and_without_the_test_images(what):
    study = what.open()
    trial = tuning.ask(what, study)

    folder = tuning.lay_out(what, study, trial)

    laid_out = experiment.Trial.model_validate(experiment.read_json(folder / experiment.TRIAL))
    assert folder == what.folder / what.key / "trial-0000"
    assert laid_out.recipe.rate == trial.params["rate"]
    assert laid_out.recipe.size["filters"] == [trial.params["size.filters.0"], trial.params["size.filters.1"]]
    assert (laid_out.test, laid_out.fold, laid_out.study.number) == (False, None, 0)


@pytest.mark.parametrize(
    ("result", "state", "value"),
    [
        pytest.param({"held_out": {"accuracy": 0.91}}, TrialState.COMPLETE, 0.91, id="trained"),
        pytest.param({"pruned_after": 3}, TrialState.PRUNED, None, id="ended early"),
        pytest.param(None, TrialState.FAIL, None, id="failed"),
    ],
)
def test_study_is_told_how_a_trial_ended(what, tmp_path, result, state, value):
    study = what.open()
    trial = tuning.ask(what, study)
    if result:
        write_json(tmp_path / RESULT, result)

    tuning.tell(study, trial.number, tmp_path)

    (told,) = study.get_trials()
    assert (told.state, told.value) == (state, value)


def test_interrupted_trials_come_before_new_ones(what):
    two = what._replace(settings=what.settings.model_copy(update={"at_once": 2}))
    study = two.open()
    interrupted = tuning.ask(two, study)

    assert [trial.number for trial in tuning.next_trials(two, study, 5)] == [interrupted.number, 1]
    assert [trial.number for trial in tuning.next_trials(two, study, 2)] == [0, 1]
    for number in (0, 1):
        study.tell(number, 0.9)
    assert tuning.next_trials(two, study, 2) == []


def test_trial_that_was_killed_while_it_was_drawn_is_given_up(what):
    study = what.open()
    study.ask()  # it has no number yet

    assert [trial.number for trial in tuning.next_trials(what, study, 5)] == [1]
    assert study.get_trials()[0].state is TrialState.FAIL


def test_winner_becomes_a_recipe(what, tmp_path):
    study = what.open()
    _, best, _ = (finish(what, study, accuracy) for accuracy in (0.90, 0.92, 0.91))

    tuning.write_winner(what, study, tmp_path / "mine.yaml")

    winner = recipes.load(tmp_path / "mine.yaml")
    assert winner.rate == best.params["rate"]
    assert winner.size["units"] == best.params["size.units"]
    assert "the best of 3 trials, 92.00% validation" in winner.source
    assert (winner.published.test, winner.search) == (None, {})
    with pytest.raises(ParameterError, match=r"mine\.yaml is there, and is not overwritten"):
        tuning.write_winner(what, study, tmp_path / "mine.yaml")


def test_no_winner_without_a_finished_trial(what, tmp_path):
    study = what.open()
    finish(what, study, 0.9, pruned=True)

    with pytest.raises(ParameterError, match="No trial of tuned_two_conv was finished"):
        tuning.write_winner(what, study, tmp_path / "mine.yaml")


def test_page_ranks_trials_and_shows_what_decides(what, tmp_path):
    study = what.open()
    finish(what, study, 0.94, pruned=True)
    for accuracy in (0.90, 0.93, 0.91, 0.92):
        finish(what, study, accuracy)

    table = tuning_page.show(what, study, tmp_path / "index.html", {"trial 9": "<b>full</b>"})

    page = (tmp_path / "index.html").read_text()
    assert [row[1] for row in table.rows] == ["93.00%", "92.00%", "91.00%", "90.00%", "ended early"]
    assert page.count("<svg") == 3
    assert "4 of 5 trials" in page
    assert "best 93.00%" in page
    assert "<b>full" not in page


def test_page_of_no_trial_is_still_a_page(what, tmp_path):
    tuning_page.show(what, what.open(), tmp_path / "index.html", {})

    assert "0 of 0 trials" in (tmp_path / "index.html").read_text()
