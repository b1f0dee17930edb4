"""Prefect's server with PostgreSQL and a password, as docs/scheduling.md says; and what it does without `make schedule`."""

import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import requests

from flows import kept
from tests.nightly import answers, ended, held, hold, live, made, records, start_quietly, wait_for
from tests.pipeline import end, free_port

pytest_plugins = ["tests.pipeline", "tests.databases"]
pytestmark = pytest.mark.slow
NIGHTLY = "retraining/retrain-nightly"


@pytest.mark.timeout(500)
def test_run_whose_process_and_worker_are_gone_is_ended_by_the_server(postgresql, machine, tmp_path, monkeypatch):
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.states import Scheduled

    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    password = {"PREFECT_SERVER_API_AUTH_STRING": "admin:secret", "PREFECT_API_AUTH_STRING": "admin:secret"}
    project = made(
        tmp_path / "project",
        machine
        | password
        | {
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": address,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql.replace("+psycopg", "+asyncpg"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        },
    )
    server = start_quietly(
        project, "prefect", "--no-prompt", "server", "start", "--host", "127.0.0.1", "--port", str(port)
    )
    worker = None
    try:
        wait_for(lambda: answers(address), 120, "the server")
        assert requests.post(f"{address}/flow_runs/filter", json={}, timeout=10).status_code == 401
        project.ok("prefect", "work-pool", "create", "seamline", "--type", "process")
        project.ok("prefect", "--no-prompt", "deploy", "--all")
        assert "seamline: a run without heartbeats" in project.ok(sys.executable, "-m", "flows.automations")
        worker = start_quietly(project, "prefect", "worker", "start", "--pool", "seamline", "--limit", "2")
        with SyncPrefectClient(address, auth_string="admin:secret") as client:
            nightly = client.read_deployment_by_name(NIGHTLY).id
            hold(project, "learn")
            run = client.create_flow_run_from_deployment(nightly, state=Scheduled(scheduled_time=datetime.now(UTC))).id
            held(project, "learn")
            start = time.monotonic()
            end(worker)
            for pid in kept.marked(f"PREFECT__FLOW_RUN_ID={run}"):
                with suppress(ProcessLookupError):  # it was in the worker's session
                    os.kill(pid, signal.SIGKILL)
            worker = start_quietly(project, "prefect", "worker", "start", "--pool", "seamline", "--limit", "2")
            hold(project, "learn").unlink()
            assert ended(client, run, 100).message == "no sign of life: its process was killed"
            assert time.monotonic() - start < 90
            after = client.create_flow_run_from_deployment(nightly, state=Scheduled(scheduled_time=datetime.now(UTC)))
            assert ended(client, after.id).name == "Released"
    finally:
        if worker:
            end(worker)
        end(server)
    assert [record.outcome for record in records(project)] == ["crashed", "released"]
    assert live(project) == "0.9"
