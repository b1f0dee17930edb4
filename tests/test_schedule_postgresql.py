"""Prefect's server with PostgreSQL and a password, as docs/scheduling.md says; and what it does without `make schedule`."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest
import requests
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Scheduled

from flows import kept
from tests.nightly import answers, ended, held, hold, live, made, records, start_quietly, wait_for
from tests.pipeline import Project, end, free_port
from tests.scheduled import NIGHTLY

pytest_plugins = ["tests.pipeline", "tests.databases"]
pytestmark = pytest.mark.slow


DROPPED_TIMES = 5  # while a run is under way, a second apart


class Night(NamedTuple):
    """A project, and what its nightly run is asked for through."""

    project: Project
    client: SyncPrefectClient

    def start_worker(self) -> subprocess.Popen[bytes]:
        return start_quietly(self.project, "prefect", "worker", "start", "--pool", "seamline", "--limit", "2")

    def tick(self) -> UUID:
        due = Scheduled(scheduled_time=datetime.now(UTC))
        deployment = self.client.read_deployment_by_name(NIGHTLY)
        return self.client.create_flow_run_from_deployment(deployment.id, state=due).id


@pytest.fixture
def night(postgresql, machine, tmp_path):
    """A server with a password, on PostgreSQL, with the deployments and automations; no worker yet."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    password = {"PREFECT_SERVER_API_AUTH_STRING": "admin:secret", "PREFECT_API_AUTH_STRING": "admin:secret"}
    prefect = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": address,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql.replace("+psycopg", "+asyncpg"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    project = made(tmp_path / "project", machine | password | prefect)
    server = start_quietly(
        project, "prefect", "--no-prompt", "server", "start", "--host", "127.0.0.1", "--port", str(port)
    )
    try:
        wait_for(lambda: answers(address), 120, "the server")
        assert requests.post(f"{address}/flow_runs/filter", json={}, timeout=10).status_code == 401
        project.ok("prefect", "work-pool", "create", "seamline", "--type", "process")
        project.ok("prefect", "--no-prompt", "deploy", "--all")
        assert "seamline: a run without heartbeats" in project.ok(sys.executable, "-m", "flows.automations")
        with SyncPrefectClient(address, auth_string="admin:secret") as client:
            yield Night(project, client)
        assert not (project.root / "clashes").exists(), "one writes at a time"
    finally:
        end(server)


@pytest.mark.timeout(500)
def test_run_whose_process_and_worker_are_gone_is_ended_by_the_server(night):
    project, worker = night.project, night.start_worker()
    try:
        hold(project, "learn")
        run = night.tick()
        held(project, "learn")
        start = time.monotonic()
        end(worker)
        for pid in kept.marked(f"PREFECT__FLOW_RUN_ID={run}"):
            with suppress(ProcessLookupError):  # it was in the worker's session
                os.kill(pid, signal.SIGKILL)
        worker = night.start_worker()
        hold(project, "learn").unlink()
        assert ended(night.client, run, 100).message == "no sign of life: its process was killed"
        assert time.monotonic() - start < 90
        assert ended(night.client, night.tick()).name == "Released"
    finally:
        end(worker)
    assert [record.outcome for record in records(project)] == ["crashed", "released"]
    assert live(project) == "0.9"


@pytest.mark.timeout(500)
def test_connections_to_the_database_dropped_while_a_run_is_under_way(night, postgresql):
    project, worker = night.project, night.start_worker()
    try:
        hold(project, "learn")
        run = night.tick()
        held(project, "learn")
        assert dropped(postgresql) > 0
        hold(project, "learn").unlink()
        for _ in range(DROPPED_TIMES):
            time.sleep(1)
            dropped(postgresql)
        assert ended(night.client, run, 100).name == "Released"
    finally:
        end(worker)
    assert [record.outcome for record in records(project)] == ["released"]
    assert live(project) == "0.9"


def dropped(postgresql: str) -> int:
    """End every other connection to the database, as a restart of PostgreSQL does; how many there were."""
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as connection:
        return sum(gone for (gone,) in connection.execute(f"SELECT pg_terminate_backend(pid) {others}"))
