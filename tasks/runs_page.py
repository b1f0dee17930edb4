"""The pages of the retrainings: one per run, and an index over all with its trends; offline, like the report."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tasks import runs
from tasks.files import lock, write_text
from tasks.runs import Record

RUN, INDEX = "run.html.jinja", "runs.html.jinja"
PAGE = "index.html"
FEW = 2  # models that a trend needs
LONG_S = 100  # and longer is said in minutes
GOOD, BAD = {"released", "unchanged"}, {"refused", "failed", "crashed"}
HEADINGS = {
    "released": "A new model serves",
    "unchanged": "Nothing new",
    "refused": "This model was refused",  # or the pictures: see `heading`
    "failed": "This run failed",
    "crashed": "This run was killed",
    "skipped": "This run was skipped",
}


def show(root: Path, *ended: Record) -> Path:
    """Write the pages of runs that have ended, and the index; the page of the first, or the index."""
    home = root / runs.FOLDER
    with lock(home):
        records, broken = runs.read_all(root)
        for record in ended:
            write_text(home / record.id / PAGE, run_page(root, record))
        write_text(home / PAGE, index_page(records, broken))
    return home / ended[0].id / PAGE if ended else home / PAGE


def markdown(record: Record) -> str:
    """A run as a table, for Prefect's pages."""
    lines = ["| what | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts(record).items())]
    return "\n".join(lines) + "\n"


def facts(record: Record) -> dict[str, str]:
    """Name and value of what a person wants to know first of a run."""
    told = {"outcome": record.outcome, "reason": record.reason, "serving": record.serving or "nothing yet"}
    if figures := record.figures:
        told |= {
            "test accuracy": f"{figures.accuracy:.2%}",
            "worst class": f"{figures.worst_class}, recall {figures.worst_recall:.1%}",
        }
    took = " · ".join(f"{name} {seconds:.0f}" for name, seconds in record.seconds.items())
    return told | {"started by": record.started_by, "seconds": took or "0"}


def run_page(root: Path, record: Record) -> str:
    folder = root / runs.FOLDER / record.id
    kept = {"report": "report.html", "metrics": "metrics.json", "challenge": "challenge.json"}
    kept |= {"new pictures": "admit.md", "set aside": "reasons.csv", "record": runs.RECORD}
    return _template(RUN).render(
        record=record,
        heading=heading(record),
        kind=kind(record),
        minutes=minutes(record),
        found={"New pictures": _html(folder / "admit.md")}
        if of_pictures(record)
        else {"Challenge": _html(folder / "challenge.md")},
        kept={name: file for name, file in kept.items() if (folder / file).is_file()},
        slowest=max(record.seconds.values(), default=0) or 1,
    )


def index_page(records: Sequence[Record], broken: Sequence[str]) -> str:
    counted = {outcome: sum(record.outcome == outcome for record in records) for outcome in HEADINGS}
    return _template(INDEX).render(
        records=list(reversed(records)),
        latest=next((record for record in reversed(records) if record.outcome in runs.DECIDED), None),
        counted={outcome: count for outcome, count in counted.items() if count},
        broken=broken,
        charts=trends([record for record in records if record.figures and record.outcome in {"released", "refused"}]),
        kind=kind,
        minutes=minutes,
    )


def of_pictures(record: Record) -> bool:
    """Whether it was the new pictures that were refused: there is no model then."""
    return record.outcome == "refused" and record.reason.startswith("admit: ")


def heading(record: Record) -> str:
    return "The new pictures were refused" if of_pictures(record) else HEADINGS[record.outcome]


def kind(record: Record) -> str:
    """The colour of a run's badge: good, bad, or none."""
    return "good" if record.outcome in GOOD else "bad" if record.outcome in BAD else ""


def minutes(record: Record) -> str:
    """How long a run took, in words."""
    if not record.ended:
        return "at work"
    seconds = (datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)).total_seconds()
    return f"{seconds / 60:.0f} min" if seconds >= LONG_S else f"{max(seconds, 0):.0f} s"


def trends(models: Sequence[Record]) -> dict[str, Markup]:
    """Heading → how a figure went from model to model; none if there are too few."""
    if len(models) < FEW:
        return {}
    from tasks import trends as drawn

    return drawn.all_of(models)


def _template(name: str) -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(name)


def _html(page: Path) -> Markup:
    """A page in Markdown, if it is there, as HTML; what is HTML in it is shown as text."""
    from markdown_it import MarkdownIt

    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))  # noqa: S704  # html: False
