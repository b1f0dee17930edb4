"""Everything that retraining on a schedule needs, on one machine, until Ctrl-C: `python -m flows.schedule`.

Prefect's server (SQLite, this machine alone), the work pool, the deployments of prefect.yaml, the messages and a
worker. What ends of itself is started again; what is left behind when this process is killed ends soon, each being on a
leash (flows/leash.py). It may be repeated at any time: nothing is made twice, no schedule is paused.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import requests
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings
from rich.console import Console

from flows import automations, deployments, reconciliation, stages
from flows.kept import Kept
from tasks.errors import DataError
from tasks.files import lock

HOST = "127.0.0.1"
PREFECT = [sys.executable, "-m", "prefect"]
AT_ONCE = "2"  # a retraining beside an experiment; and no stampede of late ticks on SQLite
LOG = stages.ROOT / "data/.schedule/server.log"
START_S = 180.0  # the server's first start makes its database
LEFT_BEHIND_S = 30.0
LOOK_AGAIN_S = 1.0


def main() -> int:
    """Bring everything up and keep it up; the exit status."""
    console = Console()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # for the prefect command
    wrong = automations.unusable(os.environ.get(automations.ADDRESS, ""))
    if wrong:
        console.print(wrong, highlight=False, soft_wrap=True, markup=False)
        return 1
    try:
        with lock(stages.ROOT / "data/.schedule", wait=False):
            return _until_ended(console)
    except DataError:
        console.print("make schedule runs here already. End it first (Ctrl-C), or leave it be.", highlight=False)
        return 1


def _until_ended(console: Console) -> int:
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    port = get_current_settings().server.api.port
    if not _silent(f"http://{HOST}:{port}/api/health"):
        console.print(
            f"Something answers at {HOST}:{port} already. End it, or choose another port: "
            "PREFECT_SERVER_API_PORT=4201 make schedule",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    refresh_global_settings_context()  # Prefect read the environment as it was imported
    server = Kept([*PREFECT, "server", "start", "--host", HOST, "--port", str(port)], LOG)
    worker = Kept([*PREFECT, "worker", "start", "--pool", deployments.pool(), "--type", "process", "--limit", AT_ONCE])
    try:
        return _keep(console, ending, server, worker)
    finally:
        worker.end()
        server.end()


def _keep(console: Console, ending: threading.Event, server: Kept, worker: Kept) -> int:
    server.look()
    if not _wait_for_server(ending, server):
        return 0 if ending.is_set() else _gave_up(console, f"Prefect's server did not start: {LOG} says why.")
    if not _describe():
        return _gave_up(console, "Prefect's server did not take what prefect.yaml says: see above.")
    console.print(f"Scheduled. Pages: {_pages()}. Ctrl-C ends it; the schedule stays.", highlight=False, soft_wrap=True)
    swept = -reconciliation.SWEEP_S
    while not ending.is_set():
        server.look()
        if time.monotonic() - swept > reconciliation.SWEEP_S:  # at first before there is a worker
            _sweep(console)
            swept = time.monotonic()
        worker.look()
        ending.wait(LOOK_AGAIN_S)
    console.print("Ending …")
    return 0


def _sweep(console: Console) -> None:
    """A disk that is full must not end what keeps everything up; the next sweep does what this one could not."""
    try:
        reconciliation.sweep(stages.ROOT, deployments.pool())
    except OSError as error:
        console.print(f"Not cleared up: {error}. It is tried again.", highlight=False, soft_wrap=True, markup=False)


def _gave_up(console: Console, why: str) -> int:
    console.print(why, highlight=False, soft_wrap=True)
    return 1


def _describe() -> bool:
    """Pool, deployments and messages, made or brought up to date; whether that went well."""
    pool = deployments.pool()
    for command in (
        ["work-pool", "create", pool, "--type", "process", "--overwrite"],
        ["--no-prompt", "deploy", "--all"],
    ):
        done = subprocess.run([*PREFECT, *command], cwd=stages.ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            return False
    automations.bring_up(os.environ.get(automations.ADDRESS, ""), ends_dead=False)  # the sweep does
    return True


def _pages() -> str:
    return os.environ["PREFECT_API_URL"].removesuffix("/api")


def _wait_for_server(ending: threading.Event, server: Kept) -> bool:
    until = time.monotonic() + START_S
    while time.monotonic() < until and not ending.is_set() and server.runs():
        if _answers(f"{os.environ['PREFECT_API_URL']}/health"):
            return True
        time.sleep(0.2)
    return False


def _silent(address: str) -> bool:
    """Whether nothing answers there; what an earlier `make schedule` left behind when it was killed ends meanwhile."""
    until = time.monotonic() + LEFT_BEHIND_S
    while _answers(address):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).status_code > 0
    except requests.RequestException:
        return False


if __name__ == "__main__":
    sys.exit(main())
