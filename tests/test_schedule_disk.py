"""`make schedule` while a disk is full, Prefect's own or the records': O5 of docs/faults.md."""

import os
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest

from tasks import runs
from tests import disks
from tests.nightly import bring, ended, held, hold, live, made, wait_for
from tests.scheduled import connected, environment, record_of, tick

pytest_plugins = ["tests.pipeline", "tests.scheduled"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("none_held_none_at_once"),
    pytest.mark.skipif(os.getuid() != 0, reason="a disk of its own (mount -t tmpfs) needs root"),
]
FINAL_S = 90  # from when there is room again to a final state


@pytest.fixture(scope="module")
def prefects(tmp_path_factory):
    """The disk that Prefect's own files are on."""
    with disks.small(tmp_path_factory.mktemp("prefects")) as disk:
        yield disk


@pytest.fixture(scope="module")
def project(machine, prefects, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    return made(folder / "project", environment(machine, folder) | {"PREFECT_HOME": str(prefects / "prefect")})


@pytest.fixture(scope="module")
def client(schedule):
    with connected(schedule) as one:
        yield one


@contextmanager
def full(disk, database=None):
    """No room within the block, not even what SQLite keeps for its next writes."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for _ in range(5 if database else 0):  # the server goes on writing
            with closing(sqlite3.connect(database, timeout=60)) as prefects:
                prefects.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            disks.fill(filler)
        disks.fill(filler)
    try:
        yield
    finally:
        (disk / "filler").unlink()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("step", "accuracy", "seconds"), [("learn", "0.91", 30), ("release", "0.92", 100)], ids=["for a moment", "for long"]
)
def test_full_disk_under_prefects_database_while_a_run_is_under_way(
    schedule, client, project, prefects, step, accuracy, seconds
):
    bring(project, accuracy)
    free, flow_run = hold(project, step), tick(client)
    held(project, step)
    with full(prefects, prefects / "prefect/prefect.db"):
        free.unlink()  # the run goes on, and what it tells the server cannot be written
        time.sleep(seconds)
        assert schedule.process.poll() is None
    assert "database or disk is full" in (project.root / "data/.schedule/server.log").read_text()

    assert ended(client, flow_run, FINAL_S).name == "Released"
    assert (record_of(project, flow_run).outcome, live(project)) == ("released", accuracy)
    assert ended(client, tick(client)).name == "Unchanged"


def test_disk_that_is_full_does_not_end_make_schedule(schedule, project):
    (project.root / runs.FOLDER).rename(earlier := project.root / "earlier")
    (project.root / runs.FOLDER).mkdir()
    with disks.small(project.root / runs.FOLDER) as disk:
        left_open = runs.new("f" * 36, "a person", runs.now())
        runs.write(project.root, left_open)
        start = len(schedule.said())
        with full(disk):
            wait_for(lambda: "Not cleared up: " in schedule.said(start), 60, "a line that says so")
            assert "No space left on device" in schedule.said(start)
            assert schedule.process.poll() is None

        wait_for(lambda: record_of(project, left_open.flow_run).outcome == "crashed", 60, "what was left to do")
    (project.root / runs.FOLDER).rmdir()
    earlier.rename(project.root / runs.FOLDER)
