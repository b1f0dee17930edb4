"""Charts as SVG that stands inside a page, and the learning curves.

Charts carry no colours of their own: matplotlib draws in placeholders, which become the page's CSS variables, so that
one chart serves light, dark and print.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from tasks.errors import DataError

# Placeholder → CSS variable of style.css.jinja. No two may be alike, and none may be a colour that is meant.
INK, MUTED, LINE, TRAIN, VALIDATION, TEST = (f"#01020{digit}" for digit in range(6))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", TRAIN: "train", VALIDATION: "validation", TEST: "test"}

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the layout is the same everywhere. The page's own font shows
    "font.size": 10.5,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 2.2,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "seamline",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}
POINTS_PER_INCH = 72
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "validation_loss", "validation_accuracy")


def read_rows(path: Path, columns: tuple[str, ...], stage: str) -> list[dict[str, str]]:
    """The rows of a CSV file with these columns and no others.

    Raises:
        DataError: there are none, or the columns are others; `stage` makes the file again.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or any(tuple(row) != columns or None in row.values() for row in rows):
        raise DataError(f"{path} lacks rows or columns ({', '.join(columns)}). Run `dvc repro -f {stage}`.")
    return rows


def read_history(path: Path) -> list[dict[str, float]]:
    """A learning history, one row per epoch: see HISTORY_COLUMNS."""
    return [{name: float(value) for name, value in row.items()} for row in read_rows(path, HISTORY_COLUMNS, "train")]


@mpl.rc_context(STYLE)
def loss_chart(history: Sequence[Mapping[str, float]]) -> Markup:
    """Cross-entropy by epoch, of train and validation."""
    figure, axes = canvas(370, 245)
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["loss"] for row in history], "o-", color=TRAIN, label="train")
    axes.plot(epochs, [row["validation_loss"] for row in history], "s--", color=VALIDATION, label="validation")
    axes.legend(loc="upper right")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.2f}"))
    _label_epochs(axes)
    last = history[-1]
    label = f"Loss after the last epoch: train {last['loss']:.3f}, validation {last['validation_loss']:.3f}"
    return inline(figure, "loss", label)


@mpl.rc_context(STYLE)
def accuracy_chart(history: Sequence[Mapping[str, float]], name: str = "accuracy") -> Markup:
    """Accuracy by epoch, of train (as it is trained on) and validation; the last one in figures."""
    figure, axes = canvas(370, 245)
    epochs, shares = [row["epoch"] for row in history], [row["validation_accuracy"] for row in history]
    axes.plot(epochs, [row["accuracy"] for row in history], "o-", color=TRAIN, label="train")
    axes.plot(epochs, shares, "s--", color=VALIDATION, label="validation")
    axes.annotate(
        f"{shares[-1]:.2%}", (epochs[-1], shares[-1]), (0, 9), textcoords="offset points", ha="right", weight="bold"
    )
    axes.legend(loc="lower right")
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _label_epochs(axes)
    label = f"Accuracy after the last epoch: train {history[-1]['accuracy']:.2%}, validation {shares[-1]:.2%}"
    return inline(figure, name, label)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one chart; its size is in the page's pixels."""
    figure = Figure((width / POINTS_PER_INCH, height / POINTS_PER_INCH), layout="constrained")
    return figure, figure.add_subplot()


def _label_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(visible=False, axis="x")


def inline(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an element of HTML: no prologue, the page's colours, no identifier that another chart has."""
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    drawing = content.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    drawing = re.sub(r'( id="|href="#|url\(#)', rf"\1{name}-", drawing)
    for placeholder, variable in VARIABLES.items():
        drawing = drawing.replace(placeholder, f"var(--{variable})")
    return Markup(drawing)  # noqa: S704  # drawn above, and the label is escaped
