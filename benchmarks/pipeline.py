"""Measure the pipeline as a newcomer meets it, and write benchmarks/results.md (`make bench-pipeline`, twenty minutes).

A fresh clone of HEAD in an empty folder with an empty HOME: install, the whole of `make run`, then with nothing to do,
then a retraining in which every stage runs again and one with nothing new. Only committed work is measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measured

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results.md"
REPEATS = 3
EMPTY_FLOW = "from prefect import flow\n@flow\ndef nothing(): pass\nnothing()"
CHECKS = """
import time, warnings; warnings.simplefilter("ignore")
import great_expectations
from pathlib import Path
from tasks import idx, params, validate
numbers = params.load(Path("params.yaml")).validate_
splits = [idx.read_split(Path("data/raw"), name) for name in ("train", "t10k")]
start = time.perf_counter()
validate.expect(list(validate.tables(*splits, numbers)))
print(time.perf_counter() - start)
"""


class Figure(NamedTuple):
    name: str
    value: float
    limit: float
    unit: str


def main() -> int:
    """Measure, print and write; exit status 1 if a limit is missed."""
    with tempfile.TemporaryDirectory() as scratch:
        clone, home = Path(scratch) / "seamline", Path(scratch) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        figures = measure(clone, environment(clone, home))
        text = page(figures, clone)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return int(any(figure.value > figure.limit for figure in figures))


def environment(clone: Path, home: Path) -> dict[str, str]:
    path = f"{clone}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    off = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}
    return {**os.environ, **off, "HOME": str(home), "PATH": path}


def measure(clone: Path, variables: dict[str, str]) -> list[Figure]:
    """Every figure that has a limit."""

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run(command, cwd=clone, env=variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return time.perf_counter() - start

    def median(*command: str) -> float:
        return statistics.median(seconds(*command) for _ in range(REPEATS))

    install = seconds("make", ".venv/.installed")
    run = seconds("make", "run")
    timings = read_timings(clone)
    train = timings["train"]["seconds"]
    start = median("python", "-c", EMPTY_FLOW)
    with tempfile.TemporaryDirectory() as empty:
        first_start = seconds("env", f"HOME={empty}", "python", "-c", EMPTY_FLOW)
    seconds("dvc", "remote", "add", "--local", "--default", "shelf", str(clone.parent / "shelf"))
    subprocess.run(["rm", "-rf", "dvc.lock", ".dvc/cache", "data/checkpoints", "data/timings"], cwd=clone, check=True)
    released = seconds("python", "-m", "flows.retraining") - start  # every stage again
    again = read_timings(clone)
    released -= sum(again[stage]["seconds"] for stage in timings)  # challenge and release have timings, too
    unchanged = median("python", "-m", "flows.retraining") - start
    checks = subprocess.run(
        ["python", "-c", CHECKS], cwd=clone, env=variables, check=True, capture_output=True, text=True
    ).stdout
    validate = ("python", "-m", "tasks", "validate", "data/raw", "data/bench.json", "data/bench.md")
    return [
        Figure("fresh clone to finished `make run`", install + run, 480, "s"),
        Figure("of it, installing (Prefect's database included)", install, 120, "s"),
        Figure("of it, training", train, 300, "s"),
        Figure("of it, the other stages", sum(timing["seconds"] for timing in timings.values()) - train, 40, "s"),
        Figure("of it, all but installing and training", run - train, 40, "s"),
        Figure("`dvc repro`, nothing to do", median("dvc", "repro"), 2.5, "s"),
        Figure(
            "the flow, nothing to do, beyond Prefect's start", median("python", "-m", "flows.training") - start, 5, "s"
        ),
        Figure("a retraining with nothing new, beyond Prefect's start", unchanged, 15, "s"),
        Figure(
            "what DVC, Prefect, challenge, push and release add to the first, in which every stage runs",
            released,
            20,
            "s",
        ),
        Figure("Prefect's own start (an empty flow)", start, float("inf"), "s"),
        Figure("likewise, where installing has not made its database", first_start, float("inf"), "s"),
        Figure("`validate` as a process", median(*validate), 12, "s"),
        Figure("of it, the checks", float(checks.splitlines()[-1]), 3, "s"),
        Figure("peak memory of any stage", max(timing["peak_bytes"] for timing in timings.values()) / 1e9, 2.5, "GB"),
        *(Figure(f"stage {name}", timing["seconds"], float("inf"), "s") for name, timing in sorted(timings.items())),
    ]


def read_timings(clone: Path) -> dict[str, dict[str, float]]:
    """Stage → what it took by its own clock, and its memory."""
    return {path.stem: json.loads(path.read_text()) for path in (clone / "data/timings").glob("*.json")}


def page(figures: list[Figure], clone: Path) -> str:
    """The results as Markdown, with machine, date and commit."""
    metrics: dict[str, Any] = json.loads((clone / "data/reports/metrics.json").read_text())
    heading = (
        f"{measured.by('make bench-pipeline', clone)}, "
        f"Python {sys.version.partition(' ')[0]}; medians of {REPEATS} where a command is repeated.\n"
        f"Test accuracy of this run: {metrics['accuracy']:.2%}.\n"
    )
    rows = [
        f"| {name} | {value:.1f} {unit} | {_limit(limit, unit)} | {_verdict(value, limit)} |"
        for name, value, limit, unit in figures
    ]
    return "\n".join(["# Results\n", heading, "| what | measured | limit | |", "|---|---:|---:|---|", *rows, ""])


def _limit(limit: float, unit: str) -> str:
    return "" if limit == float("inf") else f"{limit:g} {unit}"


def _verdict(value: float, limit: float) -> str:
    return "" if limit == float("inf") else "met" if value <= limit else "**missed**"


if __name__ == "__main__":
    sys.exit(main())
