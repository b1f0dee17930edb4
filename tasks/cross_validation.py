"""Every fold of a recipe trained and measured: the trials, the table, the charts. flows/cross_validation.py runs it.

The folds are the same for every recipe, and the test images take no part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from tasks import charts, experiment, page, recipes
from tasks.experiment import HISTORY, Trial
from tasks.page import Page, Table
from tasks.params import Experiments

CURVES = ("accuracy", "loss")
HEADINGS = ["recipe", "folds", "mean accuracy", "standard deviation", "least", "greatest"]


def lay_out(
    settings: Experiments, names: Sequence[str], recipe_folder: Path, normalised: Path, folder: Path
) -> dict[str, list[Path]]:
    """Recipe → a trial for each fold, with fresh weights."""
    return {
        name: [
            experiment.lay_out(
                folder / name / f"fold-{fold + 1}",
                Trial(
                    name=f"{name}, fold {fold + 1}",
                    recipe=recipes.shortened(recipes.load(recipe_folder / f"{name}.yaml"), settings.most_epochs),
                    normalised=str(normalised),
                    fold=fold,
                    folds=settings.folds,
                    test=False,
                    seed=settings.seed,
                    precision="auto",
                ),
            )
            for fold in range(settings.folds)
        ]
        for name in names
    }


def show(folders: Mapping[str, Sequence[Path]], target: Path, failures: Mapping[str, str]) -> Table:
    """Write the page of the results that there are; its table."""
    accuracies = {name: _accuracies(trials) for name, trials in folders.items()}
    done = {name: values for name, values in accuracies.items() if values}
    table = Table(HEADINGS, [_row(name, values) for name, values in done.items()])
    lead = "Every recipe on the same stratified folds of the training images; the test images take no part."
    drawn = {
        f"{name}: {quantity}, all folds": curves(folders[name], name, quantity) for name in done for quantity in CURVES
    }
    if done:
        drawn = {"Held-out accuracy": box(done)} | drawn
    page.write(target, Page("Cross-validation", lead, table, drawn, failures))
    return table


def _accuracies(trials: Sequence[Path]) -> list[float]:
    return [result["held_out"]["accuracy"] for result in experiment.results(trials)]


def _row(name: str, values: Sequence[float]) -> list[str]:
    deviation = f"{np.std(values, ddof=1):.2%}" if len(values) > 1 else ""
    return [name, str(len(values)), f"{np.mean(values):.2%}", deviation, f"{min(values):.2%}", f"{max(values):.2%}"]


@mpl.rc_context(charts.STYLE)
def box(accuracies: Mapping[str, Sequence[float]]) -> Markup:
    """How the folds of each recipe scatter: median, quartiles, and every fold as a point."""
    figure, axes = charts.canvas(480, 60 + 46 * len(accuracies))
    line = {"color": charts.MUTED, "linewidth": 1.4}
    axes.boxplot(
        list(accuracies.values()),
        orientation="horizontal",
        tick_labels=list(accuracies),
        widths=0.5,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": charts.TEST, "linewidth": 2.2},
    )
    for row, values in enumerate(accuracies.values(), start=1):
        axes.plot(values, [row] * len(values), "o", color=charts.TEST, alpha=0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    means = ", ".join(f"{name} {np.mean(values):.2%}" for name, values in accuracies.items())
    return charts.inline(figure, "box", f"Mean accuracy on the held-out folds: {means}")


@mpl.rc_context(charts.STYLE)
def curves(trials: Sequence[Path], name: str, quantity: str) -> Markup:
    """Accuracy or loss by epoch of every fold, what was trained on and what was held out, over one another."""
    figure, axes = charts.canvas(370, 245)
    histories = [charts.read_history(trial / HISTORY) for trial in trials if (trial / HISTORY).is_file()]
    looks: list[tuple[str, dict[str, Any]]] = [
        (quantity, {"color": charts.TRAIN, "label": "train"}),
        (f"validation_{quantity}", {"color": charts.VALIDATION, "label": "held out", "linestyle": "--"}),
    ]
    for number, history in enumerate(histories):
        for column, look in looks:
            shown = look | ({} if number == 0 else {"label": "_"})
            axes.plot([row["epoch"] for row in history], [row[column] for row in history], linewidth=1.2, **shown)
    axes.legend(loc="best")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1) if quantity == "accuracy" else StrMethodFormatter("{x:.2f}"))
    return charts.inline(figure, f"{quantity}-{name}", f"{name}: {quantity} by epoch of {len(histories)} folds")
