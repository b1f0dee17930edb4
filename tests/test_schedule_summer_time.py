"""Both changes of summer time, on a real server: O4 of docs/faults.md."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.nightly import bring, ended, live, made, wait_for
from tests.scheduled import Schedule, connected, deployment, environment, nights

pytest_plugins = ["tests.clocks", "tests.pipeline", "tests.scheduled"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("none_held_none_at_once")]
BERLIN = ZoneInfo("Europe/Berlin")
PLANS_S = 5  # between two looks of Prefect at what it has to plan; by itself a minute
FINAL_S = 90


@pytest.fixture(scope="module")
def project(machine, clock, tmp_path_factory):
    folder = tmp_path_factory.mktemp("summer-time")
    often = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": str(PLANS_S)}
    found = made(folder / "project", environment(machine, folder) | clock.environment | often)
    file = found.root / "prefect.yaml"
    file.write_text(file.read_text().replace("timezone: Etc/UTC", "timezone: Europe/Berlin"))
    return found


@pytest.fixture
def noon(request, project, clock):
    """Of the day before the change, at which `make schedule` starts."""
    moment = datetime.fromisoformat(f"{request.param}T12:00:00+00:00")
    clock.set(moment - datetime.now(UTC))
    return moment


@pytest.fixture
def client(noon, project):
    schedule = Schedule(project)
    schedule.start()
    with connected(schedule) as one:
        yield one
    schedule.stop()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("noon", "accuracy"),
    [("2027-03-27", "0.91"), ("2027-10-30", "0.92")],  # between them it is down for seven months
    ids=["in spring", "in autumn"],
    indirect=["noon"],
)
def test_change_of_summer_time_loses_no_night_and_doubles_none(client, project, clock, noon, accuracy):
    def since_noon(at_least):
        found = [run for run in nights(client) if run.expected_start_time > noon]
        return found if len(found) >= at_least else None

    def local(found):
        return [run.expected_start_time.astimezone(BERLIN).date() for run in found]

    (line,) = deployment(client).schedules
    assert line.schedule.timezone == "Europe/Berlin"
    the_night, *_ = wait_for(lambda: since_noon(3), FINAL_S, "three nights to come")
    for run in nights(client):
        if run.expected_start_time < noon:  # missed since the spring
            ended(client, run.id, FINAL_S)
    bring(project, accuracy)

    clock.set(clock.ahead + (the_night.expected_start_time - clock.now()) + timedelta(minutes=1))
    assert ended(client, the_night.id, FINAL_S).name == "Released"
    assert live(project) == accuracy
    for _ in range(3):  # until there is no half past two any more
        time.sleep(2 * PLANS_S)
        clock.set(clock.ahead + timedelta(hours=1))

    found = wait_for(lambda: since_noon(4), FINAL_S, "a fourth night")
    assert local(found) == [noon.date() + timedelta(days=1 + night) for night in range(len(found))]
