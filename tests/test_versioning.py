"""Data and models by version: DVC holds them, and brings them back without training."""

import getpass
import json

import pytest

from tests.pipeline import cloned
from tests.remote import ssh_server

pytest_plugins = ["tests.pipeline"]
pytestmark = pytest.mark.slow

CLEAN = "Data and pipelines are up to date.\n"
AFTER_THE_GATE = {"gate", "export", "report"}
READ_LATENCY = {"quantise", "bundle"}  # they read export's figures, whose latency may come out the same by chance


def what_ran(project, before):
    return {stage for stage, when in project.ran().items() if before.get(stage) != when}


def test_after_a_run_nothing_is_left_to_do(finished):
    before = finished.ran()

    assert finished.dvc("status") == CLEAN
    finished.dvc("repro")
    assert what_ran(finished, before) == set()


def test_a_limit_of_the_gate_runs_the_gate_and_what_follows(finished):
    before = finished.ran()
    finished.change({"gate.min_accuracy": 0.2})

    finished.dvc("repro")

    assert what_ran(finished, before) - READ_LATENCY == AFTER_THE_GATE
    assert json.loads((finished.root / "data/reports/verdict.json").read_text())["limits"]["min_accuracy"] == 0.2


def test_metrics_plots_and_experiments_show_the_right_things(finished):
    accuracy = json.loads((finished.root / "data/reports/metrics.json").read_text())["accuracy"]
    before = finished.ran()

    shown = json.loads(finished.dvc("metrics", "show", "--json"))
    finished.dvc("plots", "show", "--out", "plots")
    finished.dvc("exp", "run", "--name", "lower", "-S", "gate.min_accuracy=0.25")
    listed = finished.dvc("exp", "show", "--csv")

    assert shown[""]["data"]["data/reports/metrics.json"]["data"]["accuracy"] == accuracy
    page = (finished.root / "plots/index.html").read_text()
    assert all(title in page for title in ("Learning curves", "Validation accuracy", "Confusion matrix (test)"))
    assert what_ran(finished, before) - READ_LATENCY == AFTER_THE_GATE
    assert "lower" in listed


def test_metrics_diff_shows_what_a_run_changed(finished):
    path = finished.root / "data/reports/metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({**metrics, "accuracy": 0.5}))

    difference = json.loads(finished.dvc("metrics", "diff", "--json"))

    assert difference["data/reports/metrics.json"]["accuracy"]["old"] == metrics["accuracy"]
    assert difference["data/reports/metrics.json"]["accuracy"]["new"] == 0.5


def test_push_and_pull_bring_everything_back_without_training(finished, tmp_path):
    finished.dvc("remote", "add", "--default", "shelf", str(tmp_path / "shelf"))
    finished.commit("a remote")
    expected = finished.outputs()

    finished.dvc("push")
    clone = cloned(finished, tmp_path / "clone")
    clone.dvc("pull")

    assert clone.outputs() == expected
    assert clone.dvc("status") == CLEAN
    clone.dvc("repro")
    assert clone.ran() == {}


@pytest.fixture
def sshd(tmp_path):
    with ssh_server(tmp_path) as served:
        yield served


def test_push_and_pull_through_a_real_ssh_server(finished, tmp_path, sshd):
    port, key = sshd
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/shelf"
    finished.dvc("remote", "add", "--default", "shelf", address)
    finished.commit("a remote")
    finished.dvc("remote", "modify", "--local", "shelf", "keyfile", str(key))
    expected = finished.outputs()

    finished.dvc("push")
    clone = cloned(finished, tmp_path / "clone")
    clone.dvc("remote", "modify", "--local", "shelf", "keyfile", str(key))
    clone.dvc("pull")

    assert clone.outputs() == expected
    assert clone.dvc("status") == CLEAN
