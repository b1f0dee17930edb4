"""The page that shows an experiment: one table and its charts, in one file that works offline."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks import processor
from tasks.files import write_text

TEMPLATE = Path(__file__).with_name("page.html.jinja")
FOLDER = "experiments"  # that holds every page, beside the report
REPORT = "report.html"
NOTE = "Accuracies are of the averaged or last weights, never of the best epoch."


class Table(NamedTuple):
    headings: list[str]
    rows: list[list[str]]  # a cell per heading; the first one names the row

    def markdown(self) -> str:
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


class Page(NamedTuple):
    title: str
    lead: str
    table: Table
    charts: Mapping[str, Markup]  # heading → drawing
    failures: Mapping[str, str]  # name → reason


def others(target: Path) -> dict[str, str]:
    """The report and the other pages that there are, by name: their addresses as seen from this one."""
    home = next((folder for folder in target.parents if folder.name == FOLDER), None)
    if home is None:
        return {}
    found = {"report": home.parent / REPORT} if (home.parent / REPORT).is_file() else {}
    found |= {path: home / path / target.name for path in pages(home) if home / path / target.name != target}
    return {name: Path(os.path.relpath(path, target.parent)).as_posix() for name, path in found.items()}


def pages(home: Path) -> list[str]:
    """The pages that there are, as the paths of their folders, such as `comparison` and `tuning/two_conv`."""
    return sorted(path.parent.relative_to(home).as_posix() for path in home.rglob("index.html"))


def write(target: Path, page: Page) -> None:
    """Write the page, and its table as Markdown beside it (`.md`)."""
    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    machine = f"{processor.name()}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}"
    content = environment.get_template(TEMPLATE.name).render(
        **page._asdict(), note=NOTE, machine=machine, others=others(target)
    )
    write_text(target, content)
    write_text(target.with_suffix(".md"), page.table.markdown())
