import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from tasks import studies
from tasks.errors import ParameterError
from tasks.experiment import Study
from tests.pipeline import free_port

pytest_plugins = ["tests.databases"]

RATE = {"rate": FloatDistribution(0.0, 1.0)}


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """(name) → a study in an SQLite file of this test's."""
    monkeypatch.delenv(studies.STORAGE, raising=False)
    return lambda name="any": studies.open_study(studies.storage(tmp_path), name, 7)


def watcher(study, folder, epochs=9):
    """A new trial's number, and what reports its epochs."""
    number = study.ask(RATE).number
    return number, studies.watcher(Study(folder=str(folder), name=study.study_name, number=number), 7, epochs)


def rows(*accuracies):
    return [{"epoch": epoch, "validation_accuracy": value} for epoch, value in enumerate(accuracies, start=1)]


@pytest.fixture
def experienced(opened, tmp_path):
    """A study that has seen enough good trials to end bad ones early."""
    study = opened()
    for _ in range(studies.STARTUP_TRIALS + 1):
        number, watch = watcher(study, tmp_path)
        for row in rows(0.8, 0.85, 0.9):
            watch(row)
        study.tell(number, 0.9)
    return study


def test_study_is_found_again(opened):
    opened().ask(RATE)

    assert len(opened().get_trials()) == 1
    assert len(opened("another").get_trials()) == 0


def test_folder_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.delenv(studies.STORAGE, raising=False)
    folder = tmp_path / "what {is} this 100 %"
    folder.mkdir()

    studies.open_study(studies.storage(folder), "any", 7)

    assert (folder / "studies.db").is_file()


def test_trial_that_is_worse_than_most_is_ended_early_and_no_other(experienced, tmp_path):
    (_, bad), (_, good) = (watcher(experienced, tmp_path) for _ in range(2))

    for watch, accuracy in ((bad, 0.3), (good, 0.95)):
        watch({"epoch": 1, "validation_accuracy": accuracy})
    with pytest.raises(studies.Pruned) as pruned:
        bad({"epoch": 2, "validation_accuracy": 0.3})
    good({"epoch": 2, "validation_accuracy": 0.95})

    assert pruned.value.epochs == studies.FIRST_STOP == 2


def test_trial_is_not_ended_early_after_its_last_epoch(experienced, tmp_path):
    _, bad = watcher(experienced, tmp_path, epochs=2)

    for row in rows(0.3, 0.3):
        bad(row)


def test_training_that_is_no_trial_is_not_watched():
    assert studies.watcher(None, 7, 3) is None


def test_trial_that_the_storage_does_not_know_says_what_to_set(opened, tmp_path):
    study = Study(folder=str(tmp_path), name=opened().study_name, number=0)

    with pytest.raises(
        ParameterError, match="no trial 0 that is running. Set SEAMLINE_STUDIES for workers and flow alike"
    ):
        studies.watcher(study, 7, 3)


def test_unfinished_trials_are_those_whose_end_nobody_told(opened):
    study = opened()
    for state in (TrialState.FAIL, TrialState.PRUNED):
        study.tell(study.ask(RATE).number, state=state)
    study.tell(study.ask(RATE).number, 0.9)
    running = study.ask(RATE).number

    assert [trial.number for trial in studies.unfinished(study)] == [running]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        pytest.param("postgresql+psycopg://kiosk:secret@127.0.0.1:{port}/studies", "does not answer", id="nobody there"),
        pytest.param("postgresql+psycopg://127.0.0.1:{port}/studies?password=secret", "does not answer", id="in the query"),
        pytest.param("postgresql+nothing://kiosk:secret@127.0.0.1/studies", "does not answer", id="no such driver"),
        pytest.param("postgresql+psycopg://kiosk:se@cret:secret@127.0.0.1/studies", "is no database's address", id="@ and :"),
        pytest.param("postgresql+psycopg://kiosk:sec{{ret@127.0.0.1:{port}/studies", "does not answer", id="a brace"),
        pytest.param("sqlite:////dev/null/studies.db", "does not answer", id="no such folder"),
        pytest.param("nonsense", "is no database's address", id="no address"),
    ],
)  # fmt: skip
def test_storage_that_does_not_answer_is_one_line_without_the_password(address, said):
    with pytest.raises(ParameterError, match=said) as refusal:
        studies.open_study(address.format(port=free_port()), "any", 7)

    assert not any(secret in str(refusal.value) for secret in ("secret", "cret:", "sec{ret"))
    assert "\n" not in str(refusal.value)


def test_file_that_is_no_database_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv(studies.STORAGE, raising=False)
    (tmp_path / "studies.db").write_bytes(b"no database" * 100)

    with pytest.raises(ParameterError, match="does not answer .*not a database"):
        studies.open_study(studies.storage(tmp_path), "any", 7)


@pytest.mark.slow
def test_studies_may_stand_in_postgresql(postgresql, tmp_path, monkeypatch):
    monkeypatch.setenv(studies.STORAGE, postgresql)
    study = studies.open_study(studies.storage(tmp_path), "any", 7)
    number, watch = watcher(study, tmp_path)

    watch({"epoch": 1, "validation_accuracy": 0.9})
    study.tell(number, 0.9)

    (told,) = studies.open_study(studies.storage(tmp_path), "any", 7).get_trials()
    assert (told.value, told.intermediate_values) == (0.9, {1: 0.9})
    assert list(tmp_path.iterdir()) == []
