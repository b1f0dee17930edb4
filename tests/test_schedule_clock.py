"""The clock of the machine jumps while `make schedule` runs: O4 of docs/faults.md."""

import time
from collections import Counter
from datetime import datetime, timedelta

import pytest
from prefect.states import Cancelled

from flows import reconciliation
from flows.reconciliation import GRACE, SWEEP_S
from tests.nightly import bring, ended, held, hold, live, made, state, wait_for
from tests.scheduled import connected, environment, nights, record_of, tick

pytest_plugins = ["tests.clocks", "tests.pipeline", "tests.scheduled"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("none_held_none_at_once")]
HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
MONTH = timedelta(days=30)  # before what has been recorded a year ahead, which would cover every night
SOON = timedelta(days=7)  # and not what Prefect has planned while the clock was ahead
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


def to_come(client, clock, at_least=3):
    """The nights that are planned for the next days, once they are."""

    def planned():
        waiting = [run for run in nights(client) if run.state.is_scheduled()]
        soon = [run for run in waiting if GRACE < run.expected_start_time - clock.now() < SOON]
        return soon if len(soon) >= at_least else None

    return wait_for(planned, FINAL_S, f"{at_least} nights to come")


def planned_again(client, clock, whens):
    """Wait until just these nights are among those to come."""
    return wait_for(
        lambda: whens <= {run.expected_start_time for run in to_come(client, clock)}, FINAL_S, "the same nights"
    )


@pytest.mark.timeout(500)
def test_of_three_nights_that_were_missed_one_is_done(schedule, client, project, clock):
    bring(project, "0.95")
    missed = to_come(client, clock)[:3]
    right = clock.ahead
    assert schedule.stop() == 0
    clock.set(right + (missed[-1].expected_start_time - clock.now()) + HOUR)
    schedule.start()

    assert Counter(ended(client, run.id, FINAL_S).name for run in missed) == {"Released": 1, "Skipped": 2}
    assert [record_of(project, run.id).started_by for run in missed] == ["the schedule"] * 3
    assert live(project) == "0.95"

    clock.set(right)
    planned_again(client, clock, {run.expected_start_time for run in missed})


@pytest.mark.timeout(400)
def test_nights_that_a_clock_ahead_used_up_are_planned_again(schedule, client, project, clock):
    cancelled, *left = to_come(client, clock)
    client.set_flow_run_state(cancelled.id, Cancelled())
    whens = {run.expected_start_time for run in left}
    clock.set(clock.ahead + MONTH)
    names = Counter(ended(client, run.id, FINAL_S).name for run in left)
    assert names == {"Unchanged": 1, "Skipped": len(left) - 1}
    assert {record_of(project, run.id).started_by for run in left} == {"the schedule"}
    clock.set(clock.ahead - MONTH)

    planned_again(client, clock, whens)
    time.sleep(3 * SWEEP_S)
    again = [run for run in to_come(client, clock, len(left)) if run.expected_start_time in whens]
    assert len(again) == len(whens), "once each"
    assert {reconciliation.started_by(run) for run in again} == {"the schedule"}
    assert cancelled.expected_start_time not in {run.expected_start_time for run in to_come(client, clock)}
