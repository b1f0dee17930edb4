"""Experiments as flows: against a real server, on processes of this machine and on a real Dask cluster."""

import json
import re
import subprocess
import sys
import time
from uuid import UUID

import pytest

from flows import trials
from tasks.errors import ParameterError
from tests.conftest import write_stripes
from tests.pipeline import FOLDERS, end, free_port, new

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
        path.parent.name: json.loads(path.read_text())
        for path in (project.root / "data/experiments" / folder).glob("*/result.json")
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
    before = {path: path.stat().st_mtime_ns for path in project.root.glob("data/experiments/*/*/result.json")}

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
    while not list(begun.glob("*/checkpoints/epoch*")) and time.monotonic() < until:
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
    assert list((begun / "dense_256/checkpoints").iterdir()) == []
