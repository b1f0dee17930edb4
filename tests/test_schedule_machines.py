"""`make schedule` on two machines that share a PostgreSQL, as docs/scheduling.md says.

The second has a network of its own and a cable to the first: a pair of virtual Ethernet interfaces, which only root lays.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
import pytest

from tests import databases
from tests.nightly import bring, held, hold, live, made, records, wait_for
from tests.pipeline import Project, free_port
from tests.scheduled import NIGHTLY

pytest_plugins = ["tests.pipeline"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="a second network on this machine (ip netns) needs root"),
]

HERE, THERE = "10.213.7.1", "10.213.7.2"  # the ends of the cable
CABLE = "seamline-cable"
NETWORK = "seamline-shop"
CUT_S = 30.0  # longer than the server waits for a statement


class Machine(NamedTuple):
    """A machine with a checkout, and what its commands begin with."""

    project: Project
    before: list[str]

    def tick(self) -> None:
        self.project.ok(*self.before, "prefect", "deployment", "run", NIGHTLY)

    def outcomes(self) -> list[str]:
        return [record.outcome for record in records(self.project)]

    def states(self) -> list[str]:
        """What Prefect says of its runs that were due, the first one first."""
        said = self.project.ok(*self.before, "prefect", "flow-run", "ls", "--output", "json")
        found = [run["state"]["name"] for run in json.loads(said) if run["state"]["type"] != "SCHEDULED"]
        return found[::-1]

    @contextmanager
    def scheduled(self) -> Iterator[None]:
        """`make schedule`, from when it says that it is up."""
        path = self.project.root.parent / f"{self.project.root.name}.log"
        with path.open("wb") as log:
            schedule = subprocess.Popen(
                [*self.before, sys.executable, "-m", "flows.schedule"],
                cwd=self.project.root,
                env=self.project.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(lambda: "Scheduled." in path.read_text(), 240, f"make schedule: {path.read_text()}")
            yield
        finally:
            schedule.terminate()
            schedule.wait(90)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def elsewhere():
    """What a command begins with that runs at the other end of the cable."""
    ip("netns", "add", NETWORK)
    try:
        ip("link", "add", CABLE, "type", "veth", "peer", "name", "eth0", "netns", NETWORK)
        ip("address", "add", f"{HERE}/24", "dev", CABLE)
        ip("link", "set", CABLE, "up")
        ip("-n", NETWORK, "address", "add", f"{THERE}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            ip("-n", NETWORK, "link", "set", interface, "up")
        yield ["ip", "netns", "exec", NETWORK]
    finally:
        ip("netns", "delete", NETWORK)  # and with it the cable


@pytest.fixture
def machines(elsewhere, machine, tmp_path):
    """Two of them, a database and a password each, on the first one's PostgreSQL; nothing is scheduled yet."""
    with databases.serving(HERE) as port:
        with psycopg.connect(f"postgresql://seamline@127.0.0.1:{port}/postgres", autocommit=True) as connection:
            for name in ("here", "there"):
                connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret of {name}'")
                connection.execute(f"CREATE DATABASE prefect_{name} OWNER {name}")
        found = []
        for name, before, at in (("here", [], free_port()), ("there", elsewhere, 4200)):
            database = f"postgresql+asyncpg://{name}:secret%20of%20{name}@{HERE}:{port}/prefect_{name}"
            settings = {
                "PREFECT_HOME": str(tmp_path / f"{name}-prefect"),
                "PREFECT_API_URL": f"http://127.0.0.1:{at}/api",
                "PREFECT_SERVER_API_PORT": str(at),
                "PREFECT_SERVER_API_AUTH_STRING": f"admin:{name}",
                "PREFECT_API_AUTH_STRING": f"admin:{name}",
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
                "PREFECT_WORKER_QUERY_SECONDS": "1",
            }
            found.append(Machine(made(tmp_path / name, machine | settings), before))
        yield found


@pytest.mark.timeout(900)
def test_two_machines_retrain_side_by_side_and_a_cable_that_is_cut_costs_no_run(machines):
    here, there = machines
    with here.scheduled(), there.scheduled():
        for one in machines:
            one.tick()
        for one in machines:
            wait_for(lambda one=one: one.outcomes() == ["released"], 120, f"a release of {one.project.root}")

        bring(there.project, "0.95")
        free = hold(there.project, "learn")
        there.tick()
        held(there.project, "learn")
        ip("link", "set", CABLE, "down")
        free.unlink()
        time.sleep(CUT_S)
        here.tick()
        wait_for(lambda: here.outcomes() == ["released", "unchanged"], 90, "a run that needs no cable")
        ip("link", "set", CABLE, "up")

        wait_for(lambda: there.outcomes() == ["released", "released"], 120, "the run during which the cable was cut")
        there.tick()
        wait_for(lambda: there.outcomes()[2:] == ["unchanged"], 120, "the next one")
        for one in machines:
            told = [outcome.capitalize() for outcome in one.outcomes()]
            wait_for(lambda one=one, told=told: one.states() == told, 60, f"Prefect's states: {one.states()}")
    assert (live(here.project), live(there.project)) == ("0.9", "0.95")
