"""The report's charts (SVG) and pictures (PNG), as text that stands inside the page.

Charts carry no colours of their own: matplotlib draws in placeholders, which become the page's CSS variables, so that
one chart serves light, dark and print.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from tasks.arrays import CLASSES, Labels, Split

# Placeholder → CSS variable of report.html.jinja. No two may be alike, and none may be a colour that is meant.
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


class Predictions(NamedTuple):
    """What was said of each test image."""

    predicted: Labels  # (n,)
    probability: NDArray[np.float64]  # (n,), of what was said, 0 … 1


class Picture(NamedTuple):
    """An image with what it shows and, if the model was asked, what it said."""

    number: int  # in its split, from 0
    source: str  # an address that holds the PNG itself
    actual: str
    predicted: str = ""
    probability: float = 0.0


class Cell(NamedTuple):
    """One field of the confusion matrix."""

    images: int
    strength: float  # of its colour, 0 … 1
    right: bool


@mpl.rc_context(STYLE)
def loss_chart(history: Sequence[Mapping[str, float]]) -> Markup:
    """Cross-entropy by epoch, of train and validation."""
    figure, axes = _canvas(370, 245)
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["loss"] for row in history], "o-", color=TRAIN, label="train")
    axes.plot(epochs, [row["validation_loss"] for row in history], "s--", color=VALIDATION, label="validation")
    axes.legend(loc="upper right")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.2f}"))
    _label_epochs(axes)
    last = history[-1]
    label = f"Loss after the last epoch: train {last['loss']:.3f}, validation {last['validation_loss']:.3f}"
    return _inline(figure, "loss", label)


@mpl.rc_context(STYLE)
def accuracy_chart(history: Sequence[Mapping[str, float]]) -> Markup:
    """Validation accuracy by epoch; the last one in figures."""
    figure, axes = _canvas(370, 245)
    epochs, shares = [row["epoch"] for row in history], [row["validation_accuracy"] for row in history]
    axes.plot(epochs, shares, "s--", color=VALIDATION)
    last = (epochs[-1], shares[-1])
    axes.annotate(f"{shares[-1]:.2%}", last, (0, 9), textcoords="offset points", ha="right", weight="bold")
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _label_epochs(axes)
    return _inline(figure, "accuracy", f"Validation accuracy after the last epoch: {shares[-1]:.2%}")


@mpl.rc_context(STYLE)
def balance_chart(counts: Mapping[str, NDArray[np.int64]]) -> Markup:
    """Images of each class, the splits end to end.

    Args:
        counts: "train", "validation", "test" → int64 (10,).
    """
    figure, axes = _canvas(370, 275)
    start = np.zeros(len(CLASSES), np.int64)
    for (name, values), colour in zip(counts.items(), (TRAIN, VALIDATION, TEST), strict=True):
        axes.barh(CLASSES, values, 0.62, start, color=colour, label=name)
        start = start + values
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=INK, pad=7)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.legend(loc="outside upper right", ncols=3, handlelength=0.8, handleheight=0.8, columnspacing=1.4)
    ranges = [f"{name} {values.min():,} to {values.max():,}" for name, values in counts.items()]
    return _inline(figure, "balance", f"Images of a class: {', '.join(ranges)}")


def heat(matrix: NDArray[np.int64]) -> list[list[Cell]]:
    """A confusion matrix (10, 10), ready to be coloured.

    What is right and what is wrong have a scale each: on one scale, a class of 900 right images would leave its 90
    mistakes white. Wrong ones are scaled to the most frequent confusion, by the root, so that rare ones show too.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    strength = np.sqrt(wrong / max(1, int(wrong.max())))
    np.fill_diagonal(strength, np.diag(matrix) / np.maximum(matrix.sum(axis=1), 1))
    return [
        [Cell(int(matrix[row, column]), float(strength[row, column]), row == column) for column in range(len(matrix))]
        for row in range(len(matrix))
    ]


def samples(train: Split, per_class: int) -> dict[str, list[Picture]]:
    """Images of each class, evenly spaced over it: the same ones every time, and not only those that stand first."""
    chosen = {}
    for label, name in enumerate(CLASSES):
        members = np.flatnonzero(train.labels == label)
        numbers = members[np.arange(per_class) * len(members) // per_class] if len(members) else members
        chosen[name] = [Picture(int(number), png(train.images[number]), name) for number in dict.fromkeys(numbers)]
    return chosen


def mistakes(test: Split, predictions: Predictions, most: int) -> list[Picture]:
    """The wrong answers that were given with the highest probability, the gravest first; ties by number."""
    wrong = np.flatnonzero(predictions.predicted != test.labels)
    order = np.argsort(-predictions.probability[wrong], kind="stable")[:most]
    return [
        Picture(
            int(number),
            png(test.images[number]),
            CLASSES[test.labels[number]],
            CLASSES[predictions.predicted[number]],
            float(predictions.probability[number]),
        )
        for number in wrong[order]
    ]


def png(image: NDArray[np.uint8]) -> str:
    """A grey picture (height, width) as the address of a PNG that it holds itself."""
    content = io.BytesIO()
    Image.fromarray(np.array(image)).save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one chart; its size is in the page's pixels."""
    figure = Figure((width / POINTS_PER_INCH, height / POINTS_PER_INCH), layout="constrained")
    return figure, figure.add_subplot()


def _label_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(visible=False, axis="x")


def _inline(figure: Figure, name: str, label: str) -> Markup:
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
