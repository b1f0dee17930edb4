"""A thousand accelerated ticks with kills in between: python -m benchmarks.ticks 1000 → benchmarks/ticks.md, an hour.

Ticks overlap, and a third of them is killed at a moment that chance chooses (seeded). Afterwards every run has one
record with an end, Prefect believes none under way, no two ever wrote at once, and what serves is whole.
"""

import importlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from benchmarks import measured
from tasks import runs

RESULTS = measured.ROOT / "benchmarks/ticks.md"
RUN = [sys.executable, "-m", "flows.retraining"]
SEED, KILLED, AT_ONCE = 7, 1 / 3, 2
KILLED_AT = (0.3, 1.5)  # of the seconds that a run alone takes, its imports included
FINAL_S = 90.0  # after a kill, until every run has its final state
SAID_EVERY = 50  # ticks


def soak(project: Path, environment: dict[str, str], ticks: int) -> list[str]:
    """Run the ticks; what was wrong afterwards, a line each."""
    start = time.monotonic()
    subprocess.run(RUN, cwd=project, env=environment, check=False, stdout=subprocess.DEVNULL)
    alone_s = time.monotonic() - start
    chance, at_work = random.Random(SEED), list[subprocess.Popen[bytes]]()  # noqa: S311  # not for secrets
    for number in range(ticks):
        (project / "incoming.txt").write_text(f"{0.9 + number / 100_000:.5f}")
        at_work.append(subprocess.Popen(RUN, cwd=project, env=environment, stdout=subprocess.DEVNULL))
        if chance.random() < KILLED:
            time.sleep(alone_s * chance.uniform(*KILLED_AT))
            at_work[-1].send_signal(signal.SIGKILL)
        while len(at_work) >= AT_ONCE:
            at_work.pop(0).wait()
        if number % SAID_EVERY == SAID_EVERY - 1:
            print(f"{number + 1} of {ticks} ticks", flush=True)
    for process in at_work:
        process.wait()
    until = time.monotonic() + FINAL_S
    while True:  # what was killed last ends meanwhile, and the next run brings its record to an end
        subprocess.run(RUN, cwd=project, env=environment, check=False, stdout=subprocess.DEVNULL)
        found = wrong(project, environment["PREFECT_API_URL"])
        if not found or time.monotonic() > until:
            return found


def wrong(project: Path, server: str) -> list[str]:
    """What should not be after any number of ticks and kills."""
    records, broken = runs.read_all(project)
    found = [*broken, *(f"{record.id} has no end" for record in records if not record.ended)]
    if len({record.flow_run for record in records}) < len(records):
        found.append("a run has two records")
    if (project / "clashes").exists():
        found.append(f"two writers: {(project / 'clashes').read_text()}")
    found += [f"{record.id}: {record.reason}" for record in records if record.outcome == "failed"]
    recorded = {record.flow_run for record in records}
    found += [f"Prefect believes {run} under way" for run in under_way(server) if run in recorded]
    live = project / "exports/releases/live/bundle/model.txt"
    return found if live.read_text().startswith("0.9") else [*found, "what serves is broken"]


def under_way(server: str) -> list[str]:
    """The flow runs that have not ended, as Prefect has it."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
    return [run["id"] for run in requests.post(f"{server}/flow_runs/filter", json=asked, timeout=60).json()]


def never_ended(server: str) -> list[str]:
    """What was killed before it had a record, and that the automations have not ended either."""
    until = time.monotonic() + FINAL_S
    while (left := under_way(server)) and time.monotonic() < until:
        time.sleep(1)
    return [f"Prefect believes {run} under way" for run in left]


def main(ticks: int) -> int:
    """Run them against the server that PREFECT_API_URL names, write the page; exit status 1 if anything was wrong."""
    made = importlib.import_module("tests.nightly").made  # by name: what mypy checks does not import tests
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
        project = made(Path(scratch) / "project", environment).root
        subprocess.run([sys.executable, "-m", "flows.automations"], cwd=project, env=environment, check=True)
        start = time.monotonic()
        found = soak(project, environment, ticks) + never_ended(environment["PREFECT_API_URL"])
        minutes = (time.monotonic() - start) / 60
        outcomes = [record.outcome for record in runs.read_all(project)[0]]
    counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    text = (
        f"# Ticks\n\n{measured.by(f'python -m benchmarks.ticks {ticks}')}, Prefect's server on this machine.\n\n"
        f"{ticks:,} ticks, {AT_ONCE} at once, a third of them killed at a random moment, "
        f"in {minutes:.0f} minutes; then one more, which clears up. Records: {counted}.\n\n"
        "Checked afterwards: each run has one record, and that an end; none Failed; Prefect believes none under way, "
        "even of those killed before they had a record; no two wrote at once; what serves is whole.\n\n"
        + "\n".join([*(found or ["Nothing was wrong."]), ""])
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
