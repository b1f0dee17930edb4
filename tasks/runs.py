"""What became of each retraining: a folder per run, `data/runs/<id>/record.json`, with the figures and the reasons.

A record is written when a run begins and again when it has ended, whole each time. One without an end belongs to a run
at work or to one that was killed: who holds the lock of tasks/writer.py knows which.
"""

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import DataError
from tasks.files import lock, read_json, write_json

FOLDER = Path("data/runs")
RECORD = "record.json"
LIVE = Path("exports/releases/live")
PICTURES = ("data/reports/admit.md", "data/set-aside/reasons.csv")  # kept with a run that looked at new pictures
MODEL = ("data/report.html", "data/reports/metrics.json", "data/challenge.json", "data/challenge.md")  # that had one

Outcome = Literal["", "released", "unchanged", "refused", "failed", "crashed", "skipped"]
STILL = "nothing new since this was refused: "
DECIDED = {"released", "unchanged", "refused", "failed"}  # the run looked at all there was


class Figures(BaseModel):
    """What the model of a run was measured at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    worst_class: str
    worst_recall: float
    size_bytes: int | None  # None: it was not exported
    latency_us: float | None
    training_s: float | None


class Record(BaseModel):
    """One run. Times are ISO 8601 in UTC; outcome and ended are "" until it has ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    flow_run: str  # Prefect's identifier
    started_by: str
    due: str
    began: str
    ended: str = ""
    outcome: Outcome = ""
    reason: str = ""
    ran: list[str] = []
    seconds: dict[str, float] = {}  # by stage, with what DVC and Prefect do around it
    own_seconds: dict[str, float] = {}  # of those that ran, without
    figures: Figures | None = None
    serving: str = ""  # the live release when the run ended


def now() -> str:
    """This moment, as records write it: they sort like times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new(flow_run: str, started_by: str, due: str) -> Record:
    """The record of a run that begins now; whoever makes it, a run has one, since its id says when it was due."""
    name = f"{due[:19].replace('-', '').replace(':', '')}Z-{flow_run[-8:]}"
    return Record(id=name, flow_run=flow_run, started_by=started_by, due=due, began=now())


def ended(record: Record, outcome: Outcome, reason: str, **found: Any) -> Record:
    """The record of a run that ends now; `found`: fields of it."""
    return record.model_copy(update={"outcome": outcome, "reason": reason, "ended": now(), **found})


def write(root: Path, record: Record) -> Path:
    """Write the record; its folder. Several may write one: the run itself, and all who find that it was skipped."""
    folder = root / FOLDER / record.id
    with lock(root / FOLDER):
        write_json(folder / RECORD, record.model_dump())
    return folder


def keep(root: Path, record: Record) -> None:
    """Keep with the record what was said of new pictures and of the model: the next run replaces the originals."""
    folder = root / FOLDER / record.id
    for name in (*(PICTURES if "admit" in record.seconds else ()), *(MODEL if record.figures else ())):
        if (root / name).is_file():
            shutil.copyfile(root / name, folder / Path(name).name)


def read(folder: Path) -> Record:
    """The record in a run's folder.

    Raises:
        DataError: it is not one.
    """
    try:
        return Record.model_validate(read_json(folder / RECORD))
    except ValidationError as error:
        raise DataError(f"{folder / RECORD} is no record of a run. Remove {folder}, or bring it back.") from error


def read_all(root: Path) -> tuple[list[Record], list[str]]:
    """Every record, the oldest first; and what is wrong with those that cannot be read."""
    records, broken = [], []
    for file in sorted((root / FOLDER).glob(f"*/{RECORD}")):
        try:
            records.append(read(file.parent))
        except DataError as error:
            broken.append(str(error))
    return sorted(records, key=lambda record: record.began), broken


def covering(records: Iterable[Record], due: str, *, asked: bool = False) -> Record | None:
    """The run that looked at all there was and was done instead, if there is one.

    It ended after this moment; if a person asked for a run, for what they had just brought, it also began after it.
    """
    # A record of the future, written when the clock was wrong, says nothing.
    seen = (record for record in records if record.outcome in DECIDED and due < record.ended <= now())
    return next((record for record in seen if not asked or due < record.began), None)


def untold(records: Iterable[Record], release: str) -> bool:
    """Whether a release serves that a killed run has put there, and no run since has said so."""
    said = [record.outcome for record in records if record.serving == release and record.outcome != "skipped"]
    return bool(said) and set(said) == {"crashed"}


def serving(root: Path) -> str:
    """The release that serves, by its name; "" before the first one."""
    live = root / LIVE
    return live.readlink().name if live.is_symlink() else ""


def refused_before(records: Iterable[Record], reason: str) -> bool:
    """Whether the last run that decided anything says that the model was refused for this very reason."""
    decided = [record for record in records if record.outcome in DECIDED]
    return bool(decided) and decided[-1].reason in {reason, STILL + reason}


def figures(root: Path, *, trained: bool) -> Figures | None:
    """What the reports say of the model that was measured last, if they are there.

    Args:
        root: the project's folder.
        trained: whether this run trained it; else its training time is another run's.
    """
    reports = root / "data/reports"
    if not (reports / "metrics.json").is_file():
        return None
    metrics = read_json(reports / "metrics.json")
    export, timing = (_there(path) for path in (reports / "export.json", root / "data/timings/train.json"))
    if export.get("weights") != metrics.get("weights"):  # the gate refused this one, an earlier one was exported
        export = {}
    return Figures(
        accuracy=metrics["accuracy"],
        worst_class=metrics["worst_class"],
        worst_recall=metrics["worst_recall"],
        size_bytes=export.get("bytes"),
        latency_us=export.get("latency_us"),
        training_s=timing.get("seconds") if trained else None,
    )


def own_seconds(root: Path, since: str) -> dict[str, float]:
    """Stage → what it took by its own clock, of those that ran since a moment; DVC may bring one from its cache."""
    written = (root / "data/timings").glob("*.json")
    fresh = [path for path in written if path.stat().st_mtime >= datetime.fromisoformat(since).timestamp()]
    return {path.stem: read_json(path)["seconds"] for path in fresh}


def _there(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path) if path.is_file() else {}
    return content
