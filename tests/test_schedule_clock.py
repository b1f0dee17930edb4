"""The clock of the machine jumps while `make schedule` runs: O4 of docs/faults.md."""

import time
from datetime import datetime, timedelta

import pytest

from flows.schedule import SWEEP_S
from tests.nightly import bring, ended, held, hold, live, made, state, wait_for
from tests.scheduled import connected, environment, record_of, tick

pytest_plugins = ["tests.clocks", "tests.pipeline", "tests.scheduled"]
pytestmark = pytest.mark.slow
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
FINAL_S = 90  # seconds to a final state


@pytest.fixture(scope="module")
def project(machine, clock, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock-jumps")
    return made(folder / "project", environment(machine, folder) | clock.environment)


@pytest.fixture(scope="module")
def client(schedule):
    with connected(schedule) as one:
        yield one


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("accuracy", "jump"),
    [("0.91", HOUR), ("0.92", -HOUR), ("0.93", YEAR), ("0.94", -YEAR)],
    ids=["an hour ahead", "an hour back", "a year ahead", "a year back"],
)
def test_run_during_which_the_clock_jumps_ends_as_it_ended(schedule, client, project, clock, accuracy, jump):
    bring(project, accuracy)
    free, flow_run = hold(project, "learn"), tick(client, clock.now())
    held(project, "learn")
    clock.set(clock.ahead + jump)
    time.sleep(2 * SWEEP_S)
    assert state(client, flow_run).name == "Running", "its process is there"
    free.unlink()

    wait_for(lambda: state(client, flow_run).name == "Released", FINAL_S, "the true end, told to Prefect")
    found = record_of(project, flow_run)
    assert (found.outcome, live(project)) == ("released", accuracy)
    lasted = datetime.fromisoformat(found.ended) - datetime.fromisoformat(found.began)
    assert abs(lasted - jump) < HOUR / 10, "the clock has not jumped"
    after = tick(client, clock.now())
    assert ended(client, after).name == "Unchanged", "the next run is done as ever"
