"""`make schedule` in tests: its processes, and what it is asked.

A module that needs it says `pytest_plugins = ["tests.pipeline", "tests.scheduled"]` and has a fixture `project` of its
own scope.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows import kept, reconciliation
from tasks import runs
from tests.nightly import records, wait_for
from tests.pipeline import Project, free_port, running

NIGHTLY = "retraining/retrain-nightly"


def environment(machine: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment of a machine on which nothing was scheduled before."""
    port = free_port()
    return machine | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "SEAMLINE_TEST": str(port),
    }


class Schedule:
    """`make schedule` of a project, started and ended by tests."""

    def __init__(self, project: Project):
        self.project = project
        self.process: subprocess.Popen[bytes]
        self.log = project.root.parent / "log"

    def start(self) -> None:
        """Start it, without the address that it chooses, and wait until it says that it has."""
        start, chosen_by_it = len(self.said()), "PREFECT_API_URL"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.schedule"],
                cwd=self.project.root,
                env={name: value for name, value in self.project.environment.items() if name != chosen_by_it},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: "Scheduled." in self.said(start), 180, f"make schedule: {self.said(start)}")

    def said(self, start: int = 0) -> str:
        """What it and its worker have printed."""
        return self.log.read_text()[start:] if self.log.is_file() else ""

    def stop(self) -> int:
        """Ctrl-C; its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def all(self) -> list[int]:
        """Every process that it ever started and that is at work."""
        marked = kept.marked(f"SEAMLINE_TEST={self.project.environment['SEAMLINE_TEST']}")
        return [pid for pid in marked if running(pid)]

    def of(self, words: str) -> list[int]:
        """The processes of one command, leashes apart."""
        commands = {pid: command(pid) for pid in self.all()}
        return [pid for pid, found in commands.items() if found and words in found and "leash.py" not in found]

    def kill(self, *words: str) -> None:
        """SIGKILL to the processes of these commands."""
        for pid in [pid for word in words for pid in self.of(word)]:
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(pid, signal.SIGKILL)


def command(pid: int) -> str:
    """What a process was started with; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(scope="module")
def schedule(project: Project) -> Iterator[Schedule]:
    """It, at work."""
    made = Schedule(project)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def none_held_none_at_once(project: Project) -> Iterator[None]:
    """A test that fails holds up none that follow; and in none do two write at once."""
    yield
    for file in project.root.glob("hold-*"):
        file.unlink()
    clashes = project.root / "clashes"
    found = clashes.read_text() if clashes.exists() else ""
    clashes.unlink(missing_ok=True)
    assert found == ""


@contextmanager
def connected(schedule: Schedule) -> Iterator[Any]:
    """Prefect's client of its server."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(schedule.project.environment["PREFECT_API_URL"]) as client:
        yield client


def deployment(client: Any) -> Any:
    """The nightly one, as the server has it."""
    return client.read_deployment_by_name(NIGHTLY)


def tick(client: Any, due: datetime | None = None) -> UUID:
    """A run of it, due now or at another time."""
    from prefect.states import Scheduled

    scheduled = Scheduled(scheduled_time=due or datetime.now(UTC))
    return UUID(str(client.create_flow_run_from_deployment(deployment(client).id, state=scheduled).id))


def nights(client: Any) -> list[Any]:
    """The runs that the schedule made, whatever became of them; the earliest night first."""
    made = [run for run in client.read_flow_runs(limit=200) if reconciliation.by_schedule(run)]
    return sorted(made, key=lambda run: run.expected_start_time)


def record_of(project: Project, flow_run: UUID) -> runs.Record:
    """The one record that a flow run has."""
    (found,) = [record for record in records(project) if record.flow_run == str(flow_run)]
    return found
