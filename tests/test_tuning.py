import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from tasks import experiment, recipes, tuning, tuning_page
from tasks.errors import ParameterError
from tasks.experiment import RESULT, Study
from tasks.files import write_json
from tests.conftest import ROOT
from tests.pipeline import free_port

RECIPES = ROOT / "recipes"


@pytest.fixture(scope="module")
def tuned():
    return recipes.load(RECIPES / "tuned_two_conv.yaml")


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.delenv(tuning.STORAGE, raising=False)
    return tuning.open_study(tuning.storage(tmp_path), "tuning/tuned_two_conv", 7)


def finish(study, recipe, accuracy, epochs=3):
    """A trial that ended with this accuracy, which it approached from below."""
    trial = tuning.ask(study, recipe, 7)
    watch = tuning.watcher(Study(folder=folder_of(study), name=study.study_name, number=trial.number), 7)
    for epoch in range(1, epochs + 1):
        watch({"epoch": epoch, "validation_accuracy": accuracy - 0.01 * (epochs - epoch)})
    study.tell(trial.number, accuracy)
    return trial


def folder_of(study):
    return str(Path(study._storage._backend.url.removeprefix("sqlite:///")).parent)


def with_search(recipe, **search):
    return recipes.Recipe.model_validate(
        recipe.model_dump() | {"search": {k.replace("__", "."): v for k, v in search.items()}}
    )


def test_search_of_the_published_table_is_in_its_recipe(tuned):
    assert tuning.distributions(tuned) == {
        "size.filters.0": IntDistribution(32, 128, step=16),
        "size.filters.1": IntDistribution(32, 64, step=16),
        "size.kernel": CategoricalDistribution([3, 5]),
        "size.units": IntDistribution(32, 128, step=16),
        "rate": CategoricalDistribution([0.01, 0.001, 0.0001]),
    }


def test_range_of_rates_is_drawn_on_a_logarithmic_scale(tuned):
    recipe = with_search(tuned, rate={"low": 1e-4, "high": 1e-2, "log": True})

    assert tuning.distributions(recipe) == {"rate": FloatDistribution(1e-4, 1e-2, log=True)}


@pytest.mark.parametrize(
    ("search", "said"),
    [
        pytest.param({"size__filtres__0": [32]}, r"size\.filtres\.0 is not a number of this recipe \(did you mean size\.filters\.0\?\)", id="misspelt"),
        pytest.param({"size__filters__7": [32]}, r"size\.filters\.7 is not a number of this recipe", id="no such layer"),
        pytest.param({"zzz": [32]}, r"zzz is not a number of this recipe \(known: model, ", id="nothing near"),
        pytest.param({"rate__of": [32]}, r"rate\.of is not a number of this recipe", id="a number has no parts"),
        pytest.param({"batch": [32, 0]}, r"search: batch cannot have such a value", id="a value that cannot be"),
        pytest.param({"optimiser": ["adam", "newton"]}, r"search: optimiser cannot have such a value", id="a word that cannot be"),
        pytest.param({}, r"The recipe has no search", id="no search"),
    ],
)  # fmt: skip
def test_search_that_does_not_fit_the_recipe_is_refused(tuned, search, said):
    with pytest.raises(ParameterError, match=said):
        tuning.distributions(with_search(tuned, **search))


@pytest.mark.parametrize(
    "space", [{"low": 2, "high": 1}, {"low": 0.0, "high": 1.0, "log": True}, {"low": 1, "heigh": 2}]
)
def test_range_that_is_none_is_refused(tuned, tmp_path, space):
    path = tmp_path / "recipe.yaml"
    write_json(path, tuned.model_dump() | {"search": {"batch": space}})  # JSON is YAML

    with pytest.raises(ParameterError, match="search"):
        recipes.load(path)


def test_search_changes_no_training(tuned):
    assert recipes.described(with_search(tuned)) == recipes.described(tuned)


def test_changed_recipe_has_the_numbers_and_no_search(tuned):
    recipe = tuning.changed(tuned, {"size.filters.1": 64, "rate": 0.01})

    assert (recipe.size["filters"], recipe.rate, recipe.search) == ([32, 64], 0.01, {})
    assert tuned.size["filters"] == [32, 32], "the recipe itself stays"


def test_draws_depend_on_seed_and_number_alone(tuned, tmp_path):
    drawn = []
    for name in ("one", "other"):
        study = tuning.open_study(tuning.storage(tmp_path / ".."), f"{tmp_path.name}{name}", 7)
        drawn.append([tuning.ask(study, tuned, 7).params for _ in range(4)])

    assert drawn[0] == drawn[1]
    assert len({str(params) for params in drawn[0]}) > 1


def test_trial_is_laid_out_with_its_numbers_and_without_the_test_images(study, tuned, numbers, tmp_path):
    trial = tuning.ask(study, tuned, 7)

    folder = tuning.lay_out(numbers.experiments, tuned, tmp_path / "normalised", tmp_path, study, trial)

    laid_out = experiment.Trial.model_validate(experiment.read_json(folder / experiment.TRIAL))
    assert folder.name == "trial-0000"
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
def test_study_is_told_how_a_trial_ended(study, tuned, tmp_path, result, state, value):
    trial = tuning.ask(study, tuned, 7)
    if result:
        write_json(tmp_path / RESULT, result)

    tuning.tell(study, trial.number, tmp_path)

    (told,) = study.get_trials()
    assert (told.state, told.value) == (state, value)
    assert tuning.unfinished(study) == []


def test_interrupted_trials_come_before_new_ones(study, tuned, numbers):
    interrupted = tuning.ask(study, tuned, 7)
    settings = numbers.experiments.model_copy(update={"at_once": 2})

    assert [trial.number for trial in tuning.next_trials(study, tuned, settings, 5)] == [interrupted.number, 1]
    assert [trial.number for trial in tuning.next_trials(study, tuned, settings, 2)] == [0, 1]
    for number in (0, 1):
        study.tell(number, 0.9)
    assert tuning.next_trials(study, tuned, settings, 2) == []


def test_trial_that_is_worse_than_most_is_ended_early_and_no_other(study, tuned):
    for _ in range(tuning.STARTUP_TRIALS + 1):
        finish(study, tuned, 0.9)
    bad, good = (tuning.ask(study, tuned, 7).number for _ in range(2))
    bad, good = (
        tuning.watcher(Study(folder=folder_of(study), name=study.study_name, number=n), 7) for n in (bad, good)
    )

    bad({"epoch": 1, "validation_accuracy": 0.3})
    good({"epoch": 1, "validation_accuracy": 0.95})
    with pytest.raises(tuning.Pruned) as pruned:
        bad({"epoch": 2, "validation_accuracy": 0.3})
    good({"epoch": 2, "validation_accuracy": 0.95})

    assert pruned.value.epochs == 2


def test_winner_becomes_a_recipe(study, tuned, tmp_path):
    finish(study, tuned, 0.90)
    best = finish(study, tuned, 0.92)
    finish(study, tuned, 0.91)

    tuning.write_winner(study, "tuned_two_conv", tuned, tmp_path / "mine.yaml")

    winner = recipes.load(tmp_path / "mine.yaml")
    assert winner.rate == best.params["rate"]
    assert winner.size["units"] == best.params["size.units"]
    assert "92.00% validation" in winner.source
    assert (winner.published.test, winner.search) == (None, {})
    with pytest.raises(ParameterError, match=r"mine\.yaml is there, and is not overwritten"):
        tuning.write_winner(study, "tuned_two_conv", tuned, tmp_path / "mine.yaml")


def test_no_winner_without_a_finished_trial(study, tuned, tmp_path):
    with pytest.raises(ParameterError, match="No trial of tuned_two_conv was finished"):
        tuning.write_winner(study, "tuned_two_conv", tuned, tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("postgresql+psycopg://kiosk:secret@127.0.0.1:{port}/studies", id="nobody there"),
        pytest.param("postgresql+nothing://kiosk:secret@127.0.0.1/studies", id="no such driver"),
        pytest.param("sqlite:////dev/null/studies.db", id="no such folder"),
        pytest.param("nonsense", id="no address"),
    ],
)
def test_storage_that_does_not_answer_is_one_line_without_the_password(address):
    with pytest.raises(ParameterError, match=r"Optuna's storage .* does not answer") as refusal:
        tuning.open_study(address.format(port=free_port()), "any", 7)

    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_page_ranks_trials_and_shows_what_decides(study, tuned, tmp_path):
    for accuracy in (0.90, 0.93, 0.91, 0.92):
        finish(study, tuned, accuracy)
    study.tell(tuning.ask(study, tuned, 7).number, state=TrialState.PRUNED)

    table = tuning_page.show(study, "tuned_two_conv", tmp_path / "index.html", {"trial 9": "<b>full</b>"})

    page = (tmp_path / "index.html").read_text()
    assert [row[1] for row in table.rows] == ["93.00%", "92.00%", "91.00%", "90.00%", "ended early"]
    assert page.count("<svg") == 3
    assert "4 of 5 trials" in page
    assert "best 93.00%" in page
    assert "<b>full" not in page


def test_page_of_no_trial_is_still_a_page(study, tmp_path):
    tuning_page.show(study, "tuned_two_conv", tmp_path / "index.html", {})

    assert "0 of 0 trials" in (tmp_path / "index.html").read_text()


@pytest.fixture
def postgresql():
    """A real PostgreSQL server on this machine alone, in a folder of its own; the address of its database."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.fail("PostgreSQL is not installed. Debian: apt-get install postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="seamline-")), free_port()
    as_other = []
    if os.getuid() == 0:  # it refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_other = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    made = [binaries[-1] / "initdb", "--auth=trust", "--username=seamline", "--no-sync", "--pgdata", folder / "data"]
    subprocess.run([*as_other, *made], check=True, capture_output=True, cwd="/")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    control = [*as_other, binaries[-1] / "pg_ctl", "--pgdata", folder / "data", "--silent", "--wait"]
    subprocess.run([*control, "--options", options, "--log", folder / "log", "start"], check=True, cwd="/")
    yield f"postgresql+psycopg://seamline@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "--mode=immediate", "stop"], check=True, cwd="/")
    shutil.rmtree(folder)


@pytest.mark.slow
def test_studies_may_stand_in_postgresql(postgresql, tuned, tmp_path, monkeypatch):
    monkeypatch.setenv(tuning.STORAGE, postgresql)
    study = tuning.open_study(tuning.storage(tmp_path), "tuning/tuned_two_conv", 7)
    trial = tuning.ask(study, tuned, 7)
    watch = tuning.watcher(Study(folder=str(tmp_path), name=study.study_name, number=trial.number), 7)

    watch({"epoch": 1, "validation_accuracy": 0.9})
    study.tell(trial.number, 0.9)

    (told,) = tuning.open_study(tuning.storage(tmp_path), "tuning/tuned_two_conv", 7).get_trials()
    assert (told.value, told.intermediate_values) == (0.9, {1: 0.9})
    assert list(tmp_path.iterdir()) == []
