"""The experiments as deployments, done by the worker of a real `make schedule`, on a few hundred pictures."""

import re

import pytest

from tests.conftest import write_stripes
from tests.nightly import ended
from tests.pipeline import FOLDERS, new
from tests.scheduled import connected, environment

pytest_plugins = ["tests.pipeline", "tests.scheduled"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

KEPT = ("dense_256", "two_conv")
SEARCH = "search:\n  rate: [0.01, 0.001]\n"
WITHIN_S = 300
PAGE, FOLDS = "data/experiments/of-a-test/index.html", "data/experiments/folds-of-a-test/index.html"


@pytest.fixture(scope="module")
def project(machine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    project = new(folder / "project", environment(machine, folder), FOLDERS)
    for path in (project.root / "recipes").glob("*.yaml"):
        if path.stem not in KEPT:
            path.unlink()
    searched = project.root / "recipes/two_conv.yaml"
    searched.write_text(re.sub(r"epochs: \d+", "epochs: 2", searched.read_text()) + SEARCH)
    write_stripes(project.root / "data/normalised")
    return project


@pytest.fixture(scope="module")
def client(schedule):
    with connected(schedule) as one:
        yield one


def done(client, flow, name, **parameters):
    """The final state of a deployment's run with these parameters in place of some of its own."""
    found = client.read_deployment_by_name(f"{flow}/{name}")
    run = client.create_flow_run_from_deployment(found.id, parameters=found.parameters | parameters)
    return ended(client, run.id, WITHIN_S)


def test_recipes_are_compared(project, client):
    state = done(client, "comparison", "compare-recipes", most_epochs=1, page=PAGE)

    assert state.is_completed(), state.message
    page = (project.root / PAGE).read_text()
    assert all(name in page for name in KEPT)


def test_a_recipe_is_cross_validated(project, client):
    state = done(client, "cross-validation", "cross-validate", names=["dense_256"], most_epochs=1, page=FOLDS)

    assert state.is_completed(), state.message
    assert (project.root / FOLDS).read_text().count("<svg") >= 1


def test_a_recipe_that_does_not_exist_fails_and_the_nearest_is_named(client):
    state = done(client, "cross-validation", "cross-validate", names=["dense_265"], most_epochs=1, page=PAGE)

    assert state.is_failed()
    assert "dense_256" in state.message


def test_a_recipe_is_tuned_to_the_end_and_goes_on_from_there(project, client):
    state = done(client, "tuning", "tune", recipe="two_conv", trials_wanted=2)
    assert state.is_completed(), state.message
    before = {path: path.stat().st_mtime_ns for path in tried(project)}
    page = project.root / "data/experiments/tuning/two_conv/index.html"
    assert len(before) == 2
    assert page.read_text().count("<svg") >= 2

    state = done(client, "tuning", "tune", recipe="two_conv", trials_wanted=3)
    assert state.is_completed(), state.message
    assert len(tried(project)) == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}


def tried(project):
    return list(project.root.glob("data/experiments/tuning/two_conv/**/trial-*/result.json"))
