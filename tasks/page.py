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


def write(target: Path, page: Page) -> None:
    """Write the page, and its table as Markdown beside it (`.md`)."""
    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    machine = f"{processor.name()}, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}"
    content = environment.get_template(TEMPLATE.name).render(**page._asdict(), note=NOTE, machine=machine)
    write_text(target, content)
    write_text(target.with_suffix(".md"), page.table.markdown())
