"""Where the seconds of retraining went: `python -m benchmarks.nights [PROJECT]`: a table of data/runs.

Of each run that decided something: from its record's first moment, which comes after Prefect's own start, to its last.
`orchestration` is what neither a stage nor challenge and release took; DVC's work counts with its stage.
"""

import sys
from datetime import datetime
from pathlib import Path

from tasks import runs
from tasks.runs import Record

AFTER_THE_STAGES = ("challenge", "release")
HEADING = """\
| run | outcome | whole, s | training | other stages | challenge, release | orchestration |
|---|---|---:|---:|---:|---:|---:|"""


def main(project: Path) -> None:
    """Print it."""
    records, broken = runs.read_all(project)
    print(HEADING, *map(line, (record for record in records if record.outcome in runs.DECIDED)), *broken, sep="\n")


def line(record: Record) -> str:
    """One run."""
    whole = (datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)).total_seconds()
    training = record.seconds.get("train", 0.0)
    after = sum(record.seconds.get(step, 0.0) for step in AFTER_THE_STAGES)
    rest = whole - sum(record.seconds.values())
    cells = (whole, training, whole - training - after - rest, after, rest)
    return f"| {record.id} | {record.outcome} | {' | '.join(f'{cell:.1f}' for cell in cells)} |"


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
