"""A thousand accelerated ticks with kills in between: python -m benchmarks.ticks 1000 → benchmarks/ticks.md, an hour.

Ticks overlap, and a third of them is killed at a moment that chance chooses (seeded). Afterwards every run has one
record with an end, Prefect believes none under way, no two ever wrote at once, and what serves is whole.
"""

import importlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import requests

from benchmarks import measured
from tasks import runs

RESULTS = measured.ROOT / "benchmarks/ticks.md"
RUN = [sys.executable, "-m", "flows.retraining"]
SEED, KILLED, AT_ONCE = 7, 1 / 3, 2
KILLED_AT = (0.3, 1.5)  # of the seconds that a run alone takes, its imports included
FINAL_S = 90.0  # after a kill, until every run has its final state
SAID_EVERY = 50  # ticks


class Soaked(NamedTuple):
    """What became of the ticks."""

    killed: int  # of them, while they ran
    wrong: list[str]  # a line each


def soak(project: Path, environment: dict[str, str], ticks: int) -> Soaked:
    """Run the ticks, then others until what was killed has its final state."""
    start = time.monotonic()
    subprocess.run(RUN, cwd=project, env=environment, check=False, stdout=subprocess.DEVNULL)
    alone_s = time.monotonic() - start
    chance, killed = random.Random(SEED), 0  # noqa: S311  # not for secrets
    at_work = list[subprocess.Popen[bytes]]()
    for number in range(ticks):
        (project / "incoming.txt").write_text(f"{0.9 + number / 100_000:.5f}")
        at_work.append(subprocess.Popen(RUN, cwd=project, env=environment, stdout=subprocess.DEVNULL))
        if chance.random() < KILLED:
            time.sleep(alone_s * chance.uniform(*KILLED_AT))
            at_work[-1].send_signal(signal.SIGKILL)
            killed += at_work[-1].wait() == -signal.SIGKILL
        while len(at_work) >= AT_ONCE:
            at_work.pop(0).wait()
        if number % SAID_EVERY == SAID_EVERY - 1:
            print(f"{number + 1} of {ticks} ticks", flush=True)
    for process in at_work:
        process.wait()
    server, until = environment["PREFECT_API_URL"], time.monotonic() + FINAL_S
    while True:
        subprocess.run(RUN, cwd=project, env=environment, check=False, stdout=subprocess.DEVNULL)
        if not unended(project, server) or time.monotonic() > until:
            return Soaked(killed, unended(project, server) + wrong(project))


def unended(project: Path, server: str) -> list[str]:
    """The runs that have no end: in their records, or in Prefect's, of those that have a record."""
    records = runs.read_all(project)[0]
    recorded = {record.flow_run for record in records}
    found = [f"{record.id} has no end" for record in records if not record.ended]
    return found + [f"Prefect believes {run} under way" for run in under_way(server) if run in recorded]


def wrong(project: Path) -> list[str]:
    """What should not be after any number of ticks and kills."""
    records, found = runs.read_all(project)
    found += [f"{record.id}: {record.reason}" for record in records if record.outcome == "failed"]
    if len({record.flow_run for record in records}) < len(records):
        found.append("a run has two records")
    if (project / "clashes").exists():
        found.append(f"two writers: {(project / 'clashes').read_text()}")
    live = project / "exports/releases/live/bundle/model.txt"
    return found if live.read_text().startswith("0.9") else [*found, "what serves is broken"]


def under_way(server: str) -> list[str]:
    """The flow runs that have not ended, as Prefect has it."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
    return [run["id"] for run in requests.post(f"{server}/flow_runs/filter", json=asked, timeout=60).json()]


def unrecorded(project: Path, server: str) -> list[str]:
    """The runs that ended, as Prefect has it, and that have no record; and records of runs that it does not know."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]}}}, "limit": 200}
    known: set[str] = set()
    while page := requests.post(f"{server}/flow_runs/filter", json=asked | {"offset": len(known)}, timeout=60).json():
        known |= {run["id"] for run in page}
    recorded = {record.flow_run for record in runs.read_all(project)[0]}
    return [f"{run} is not both in Prefect's runs and in the records" for run in sorted(known ^ recorded)]


def never_ended(server: str) -> list[str]:
    """What was killed before it had a record, and that the sweep of `make schedule` has not ended either."""
    until = time.monotonic() + FINAL_S
    while (left := under_way(server)) and time.monotonic() < until:
        time.sleep(1)
    return [f"Prefect believes {run} under way" for run in left]


def main(ticks: int) -> int:
    """Run them beside a `make schedule` of their own and write the page; exit status 1 if anything was wrong."""
    # By name: what mypy checks does not import tests.
    nightly, pipeline, scheduled = (
        importlib.import_module(f"tests.{name}") for name in ("nightly", "pipeline", "scheduled")
    )
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        project = nightly.made(
            folder / "project", scheduled.environment(pipeline.bare(folder) | {"DO_NOT_TRACK": "1"}, folder)
        )
        schedule = scheduled.Schedule(project)
        schedule.start()
        try:
            soaked = soak(project.root, project.environment, ticks)
            server = project.environment["PREFECT_API_URL"]
            found = soaked.wrong + never_ended(server) + unrecorded(project.root, server)
        finally:
            schedule.stop()
        outcomes = [record.outcome for record in runs.read_all(project.root)[0]]
    counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    text = (
        f"# Ticks\n\n{measured.by(f'python -m benchmarks.ticks {ticks}')}, beside `make schedule` on SQLite.\n\n"
        f"{ticks:,} ticks, {AT_ONCE} at once, {soaked.killed} of them killed while they ran, in "
        f"{(time.monotonic() - start) / 60:.0f} minutes; then others until all had ended. Records: {counted}.\n\n"
        "Checked afterwards: each run that Prefect knows has one record, and that an end (those killed before Prefect "
        "knew them have none); none Failed; Prefect believes none under way; no two wrote at once; what serves is "
        "whole.\n\n" + "\n".join([*(found or ["Nothing was wrong."]), ""])
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
