"""Experiments as flows: against a real server, on processes of this machine and on a real Dask cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from uuid import UUID

import optuna
import pytest

from flows import trials
from tasks import recipes, studies
from tasks.errors import ParameterError
from tests.conftest import write_stripes
from tests.pipeline import FOLDERS, all_ended, children, end, free_port, new

pytest_plugins = ["tests.pipeline"]
pytestmark = pytest.mark.slow

KEPT = ("dense_256", "dense_take_1", "two_conv")  # recipes that the tests train, on a few hundred pictures


@pytest.fixture
def project(tmp_path, machine):
    """A project with three recipes and a tiny data/normalised."""
    project = new(tmp_path / "project", machine, FOLDERS)
    for path in (project.root / "recipes").glob("*.yaml"):
        if path.stem not in KEPT:
            path.unlink()
    write_stripes(project.root / "data/normalised")
    return project


def results(project, folder="comparison-quick"):
    return {
        path.parent.parent.name: json.loads(path.read_text())
        for path in (project.root / "data/experiments" / folder).glob("*/seed-*/result.json")
    }


def compare(project, server, *arguments):
    return project.run(sys.executable, "-m", "flows.comparison", *arguments, PREFECT_API_URL=server)


def flow_run(done):
    return re.search(r"/runs/flow-run/([0-9a-f-]{36})", done.stdout + done.stderr)[1]


def test_comparison_trains_every_recipe_and_shows_a_table(project, server, client):
    done = compare(project, server, "--quick")

    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(results(project)) == sorted(KEPT)
    assert "3 of 3 trials done, about 0 min left" in done.stdout + done.stderr
    page = (project.root / "data/experiments/comparison-quick/index.html").read_text()
    assert all(name in page and name in done.stdout for name in KEPT)
    assert client.read_flow_run(UUID(flow_run(done))).state.is_completed()


def test_comparison_again_trains_nothing(project, server):
    compare(project, server, "--quick")
    before = {path: path.stat().st_mtime_ns for path in project.root.glob("data/experiments/*/*/seed-*/result.json")}

    done = compare(project, server, "--quick")

    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert len(before) == len(KEPT)


def test_recipe_that_fails_leaves_the_others_and_is_named(project, server, client):
    path = project.root / "recipes/two_conv.yaml"
    path.write_text(path.read_text().replace("batch: 64", "batch: 100000"))

    done = compare(project, server, "--quick")

    state = client.read_flow_run(UUID(flow_run(done))).state
    assert done.returncode == 1
    assert sorted(results(project)) == ["dense_256", "dense_take_1"]
    assert "NoneType: None" not in done.stdout + done.stderr
    assert re.fullmatch(r"two_conv: trial: .*batch is 100000, and there are 320 training images.*", state.message)
    assert "batch is 100000" in (project.root / "data/experiments/comparison-quick/index.html").read_text()


def test_broken_recipe_stops_before_anything_is_trained(project, server):
    path = project.root / "recipes/two_conv.yaml"
    path.write_text(path.read_text().replace("epochs:", "epoch:"))

    done = compare(project, server, "--quick")

    assert done.returncode == 1
    assert "epoch is not a parameter (did you mean epochs?)" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert results(project) == {}


def validate(project, server, *arguments):
    return project.run(sys.executable, "-m", "flows.cross_validation", *arguments, PREFECT_API_URL=server)


def test_cross_validation_holds_out_every_fold_once(project, server, client):
    done = validate(project, server, "dense_256", "--quick")

    page = (project.root / "data/experiments/cross-validation-quick/index.html").read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 trials done" in done.stdout + done.stderr
    assert re.search(r"dense_256 │ +5 │ +[\d.]+% │", done.stdout)
    assert "dense_256: accuracy by epoch of 5 folds" in page
    assert client.read_flow_run(UUID(flow_run(done))).state.is_completed()


def test_cross_validation_of_an_unknown_recipe_suggests_the_nearest(project, server):
    done = validate(project, server, "dense_265")

    assert done.returncode == 1
    assert "did you mean dense_256?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_cluster_that_is_not_there_is_named(project, server):
    address = f"tcp://127.0.0.1:{free_port()}"
    project.change({"experiments.runner": address})

    done = compare(project, server, "--quick")

    assert done.returncode == 1
    assert f"comparison: params.yaml: experiments.runner is '{address}', and nobody answers there" in done.stdout
    assert results(project) == {}


def test_task_runner_of_this_machine_runs_as_many_at_once_as_params_say(numbers):
    runner = trials.task_runner(numbers.experiments.model_copy(update={"at_once": 3}))

    assert runner._max_workers == 3


def test_task_runner_without_a_cluster_is_refused(numbers):
    with pytest.raises(ParameterError, match="nobody answers there"):
        trials.task_runner(numbers.experiments.model_copy(update={"runner": f"tcp://127.0.0.1:{free_port()}"}))


@pytest.fixture
def cluster(project):
    """A real Dask scheduler on this machine alone, with two workers: (address, workers)."""
    port = free_port()
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    environment = {"PYTHONPATH": str(project.root)}
    scheduler = project.start(
        *dask, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-jupyter", **environment
    )
    address = f"tcp://127.0.0.1:{port}"
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    workers = [
        project.start(*worker, "--no-dashboard", "--host", "127.0.0.1", "--name", name, **environment)
        for name in ("first", "second")
    ]
    project.change({"experiments.runner": address, "experiments.at_once": 2})
    yield address, workers
    for process in (*workers, scheduler):
        end(process)
        process.stdout.close()


def test_cluster_gives_the_figures_of_this_machine_though_a_worker_is_killed(project, server, cluster):
    for path in (project.root / "recipes").glob("*.yaml"):
        path.write_text(re.sub(r"epochs: \d+", "epochs: 40", path.read_text()))
    process = project.start(sys.executable, "-m", "flows.comparison", PREFECT_API_URL=server)
    begun = project.root / "data/experiments/comparison"
    until = time.monotonic() + 120
    while not list(begun.glob("*/*/checkpoints/epoch*")) and time.monotonic() < until:
        time.sleep(0.2)
    cluster[1][0].kill()  # the worker alone: what it started goes on, and must not be done twice

    said = process.communicate(timeout=240)[0]

    assert process.returncode == 0, said
    found = results(project, "comparison")
    assert sorted(found) == sorted(KEPT)
    assert "3 of 3 trials done" in said
    project.change({"experiments.runner": "local"})
    subprocess.run(["rm", "-r", str(begun)], check=True)
    assert compare(project, server).returncode == 0
    here = results(project, "comparison")
    assert {name: result["test"] for name, result in found.items()} == {
        name: result["test"] for name, result in here.items()
    }
    assert list((begun / "dense_256/seed-7/checkpoints").iterdir()) == []


SEARCH = "search:\n  rate: [0.01, 0.001]\n  size.filters.0: {low: 4, high: 12, step: 4}\n"


@pytest.fixture
def tunable(project):
    """A recipe with a search, six epochs of seconds."""
    path = project.root / "recipes/two_conv.yaml"
    path.write_text(re.sub(r"epochs: \d+", "epochs: 6", path.read_text()) + SEARCH)
    return project


def tune(project, server, *arguments):
    return project.run(sys.executable, "-m", "flows.tuning", *arguments, PREFECT_API_URL=server)


def told(project, folder="tuning"):
    """Trial → how it ended, what was tried and what came out, as Optuna has it."""
    storage = studies.storage(project.root / f"data/experiments/{folder}/two_conv")
    study = optuna.load_study(study_name=None, storage=storage)  # the only one
    return {trial.number: (trial.state.name, trial.params, trial.value) for trial in study.get_trials()}


def test_tuning_tries_tells_shows_and_writes_the_winner(tunable, server, client):
    done = tune(tunable, server, "two_conv", "--trials", "3", "--quick", "--write", "mine")

    found = told(tunable, "tuning-quick")
    best = max(found.values(), key=lambda one: one[2])
    page = (tunable.root / "data/experiments/tuning-quick/two_conv/index.html").read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [state for state, _, _ in found.values()] == ["COMPLETE"] * 3
    assert "3 of 3 trials begun, 3 trained to the end, best " in done.stdout + done.stderr
    assert page.count("<svg") >= 2
    assert recipes.load(tunable.root / "recipes/mine.yaml").rate == best[1]["rate"]
    assert client.read_flow_run(UUID(flow_run(done))).state.is_completed()

    again = tune(tunable, server, "two_conv", "--trials", "3", "--quick", "--write", "mine")

    assert again.returncode == 1
    assert "recipes/mine.yaml is there, and is not overwritten" in again.stdout.replace("\n", "")
    assert told(tunable, "tuning-quick") == found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param(
            "rate: [0.01", "rats: [0.01", r"rats is not a number of this recipe \(did you mean rate\?\)", id="unknown"
        ),
        pytest.param(SEARCH, "", "The recipe has no search", id="none"),
    ],
)
def test_tuning_refuses_before_anything_is_trained(tunable, server, before, after, said):
    path = tunable.root / "recipes/two_conv.yaml"
    path.write_text(path.read_text().replace(before, after))

    done = tune(tunable, server, "two_conv")

    assert done.returncode == 1
    assert re.search(rf"^tuning: recipes/two_conv.yaml: .*{said}", done.stdout, re.MULTILINE), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tunable.root.glob("data/experiments/tuning/*/*/trial-*"))


def test_storage_that_does_not_answer_is_one_line(tunable, server):
    nobody = f"postgresql+psycopg://kiosk:secret@127.0.0.1:{free_port()}/studies"

    done = tunable.run(
        sys.executable, "-m", "flows.tuning", "two_conv", PREFECT_API_URL=server, SEAMLINE_STUDIES=nobody
    )

    assert done.returncode == 1
    assert re.search(r"^tuning: Optuna's storage does not answer \(", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stdout + done.stderr


def test_killed_tuning_loses_no_finished_trial_and_ends_the_interrupted_one(tunable, server):
    process = tunable.start(sys.executable, "-m", "flows.tuning", "two_conv", "--trials", "3", PREFECT_API_URL=server)
    folder = tunable.root / "data/experiments/tuning/two_conv"
    until = time.monotonic() + 120
    while not list(folder.glob("*/trial-0001/checkpoints/epoch*")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGSTOP)
    second = tune(tunable, server, "two_conv", "--trials", "3")
    end(process)
    process.stdout.close()
    (first,) = folder.glob("*/trial-0000/result.json")
    before, kept = told(tunable), first.stat().st_mtime_ns

    done = tune(tunable, server, "two_conv", "--trials", "3")

    after = told(tunable)
    assert [state for state, _, _ in before.values()] == ["COMPLETE", "RUNNING"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after epoch" in done.stdout + done.stderr
    assert [state for state, _, _ in after.values()] == ["COMPLETE"] * 3
    assert after[0] == before[0]
    assert after[1][1] == before[1][1]
    assert first.stat().st_mtime_ns == kept
    assert second.returncode == 1
    assert "is in use by another run" in second.stdout.replace("\n", " ")


@pytest.mark.parametrize("flow", ["comparison", "cross_validation", "tuning"])
def test_experiment_that_is_ended_takes_its_trial_and_its_server_with_it(tunable, flow):
    path = tunable.root / "recipes/two_conv.yaml"
    path.write_text(re.sub(r"epochs: \d+", "epochs: 5000", path.read_text()))
    for other in ("dense_256", "dense_take_1"):
        (tunable.root / f"recipes/{other}.yaml").unlink()
    tunable.change({"train.recipe": "two_conv", "experiments.most_epochs": 5000})
    recipe = ["two_conv"] if flow == "tuning" else []
    process = tunable.start(sys.executable, "-m", f"flows.{flow}", *recipe)
    said = [next(line for line in process.stdout if "epoch 2/5000" in line)]
    started = children(process.pid)

    process.terminate()
    said.append(process.communicate(timeout=60)[0])

    assert process.returncode == 143, said
    assert len(started) == 2, "Prefect's server and the trial"
    assert all_ended(started)
    assert "Traceback" not in "".join(said)


def test_tuning_on_a_cluster_gives_the_figures_of_this_machine_though_a_worker_is_killed(tunable, server, cluster):
    folder = tunable.root / "data/experiments/tuning/two_conv"
    process = tunable.start(sys.executable, "-m", "flows.tuning", "two_conv", "--trials", "4", PREFECT_API_URL=server)
    until = time.monotonic() + 120
    while not list(folder.glob("*/*/checkpoints/epoch*")) and time.monotonic() < until:
        time.sleep(0.05)
    cluster[1][0].kill()

    said = process.communicate(timeout=240)[0]

    assert process.returncode == 0, said
    found = told(tunable)
    assert [state for state, _, _ in found.values()] == ["COMPLETE"] * 4
    subprocess.run(["rm", "-r", str(folder)], check=True)
    tunable.change({"experiments.runner": "local"})
    assert tune(tunable, server, "two_conv", "--trials", "4").returncode == 0
    assert told(tunable) == found
