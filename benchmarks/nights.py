"""Where the seconds of retraining went: `python -m benchmarks.nights [PROJECT]`: a table of data/runs.

Of each run that decided something: from its record's first moment, which comes after Prefect's own start, to its last.
`stages` by their own clocks; `DVC, Prefect` is all around them; `added` is the run without its stages.
"""

import sys
from datetime import datetime
from pathlib import Path

from tasks import runs
from tasks.runs import Record

AFTER_THE_STAGES = ("challenge", "release")
HEADING = """\
| run | outcome | whole, s | training | other stages | DVC, Prefect | challenge, release | added |
|---|---|---:|---:|---:|---:|---:|---:|"""


def main(project: Path) -> None:
    """Print it."""
    records, broken = runs.read_all(project)
    print(HEADING, *map(line, (record for record in records if record.outcome in runs.DECIDED)), *broken, sep="\n")


def line(record: Record) -> str:
    """One run."""
    whole = (datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)).total_seconds()
    training, own = record.own_seconds.get("train", 0.0), sum(record.own_seconds.values())
    after = sum(record.seconds.get(step, 0.0) for step in AFTER_THE_STAGES)
    cells = (whole, training, own - training, whole - own - after, after, whole - own)
    return f"| {record.id} | {record.outcome} | {' | '.join(f'{cell:.1f}' for cell in cells)} |"


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
