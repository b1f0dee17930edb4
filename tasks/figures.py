"""The report's pictures (PNG), its chart of the classes and its confusion matrix."""

import base64
import io
from collections.abc import Mapping
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from tasks.arrays import CLASSES, Labels, Split
from tasks.charts import INK, STYLE, TEST, TRAIN, VALIDATION, canvas, inline


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
def balance_chart(counts: Mapping[str, NDArray[np.int64]]) -> Markup:
    """Images of each class, the splits end to end.

    Args:
        counts: "train", "validation", "test" → int64 (10,).
    """
    figure, axes = canvas(370, 275)
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
    return inline(figure, "balance", f"Images of a class: {', '.join(ranges)}")


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
