"""What a tuning found, as a page: every trial, how accuracy rose, and which numbers decide."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna.trial import FrozenTrial, TrialState

from tasks import charts, page
from tasks import tuning as work
from tasks.page import Page, Table
from tasks.tuning import Tuning

FEW, ENOUGH = 2, 4  # finished trials that a chart needs, and that say which numbers decide
TOP = 0.75  # the share of the trials that the best quarter begins at


def show(tuning: Tuning, study: optuna.Study, target: Path, failures: Mapping[str, str]) -> Table:
    """Write the page of the trials that there are; its table, the best first."""
    trials, finished, names = study.get_trials(deepcopy=False), work.finished(study), sorted(tuning.recipe.search)
    table = Table(["trial", "validation accuracy", "epochs", *names], [_row(trial, names) for trial in _ranked(trials)])
    pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
    lead = (
        f"{len(finished)} of {len(trials)} trials of recipes/{tuning.name}.yaml trained to the end, {pruned} ended "
        "early. Validation images decide; the test images take no part."
    )
    page.write(target, Page(f"{tuning.name}, tuned", lead, table, _charts(study, finished, names), failures))
    return table


def _ranked(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Finished ones by accuracy, then the others by how far they came."""

    def place(trial: FrozenTrial) -> tuple[bool, float]:
        done = trial.state is TrialState.COMPLETE  # what is ended early has a value, too: its last one
        return not done, -(trial.value or 0) if done else -max(trial.intermediate_values, default=0)

    return sorted(trials, key=place)


def _row(trial: FrozenTrial, names: list[str]) -> list[str]:
    words = {TrialState.PRUNED: "ended early", TrialState.FAIL: "failed", TrialState.RUNNING: "not finished"}
    accuracy = words.get(trial.state) or f"{trial.value:.2%}"
    epochs = max(trial.intermediate_values, default=0)
    return [str(trial.number), accuracy, str(epochs), *(str(trial.params.get(name, "")) for name in names)]


def _charts(study: optuna.Study, finished: list[FrozenTrial], names: list[str]) -> dict[str, Markup]:
    if len(finished) < FEW:
        return {}
    drawn = {"Accuracy, trial by trial": history(finished)}
    better_half = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
    enough = len(finished) >= ENOUGH
    decided = optuna.importance.get_param_importances(study, evaluator=better_half) if enough else {}
    if decided:
        drawn["Which numbers set the better half apart"] = importance(decided)
    return drawn | {"All numbers of a trial, side by side": parallel(finished, names)}


@mpl.rc_context(charts.STYLE)
def history(finished: list[FrozenTrial]) -> Markup:
    """Validation accuracy of each finished trial, and the best so far."""
    figure, axes = charts.canvas(480, 300)
    numbers, values = [trial.number for trial in finished], np.array([trial.value for trial in finished])
    axes.plot(numbers, values, "o", color=charts.TRAIN, label="trial")
    axes.plot(
        numbers, np.maximum.accumulate(values), drawstyle="steps-post", color=charts.VALIDATION, label="best so far"
    )
    axes.legend(loc="lower right")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    return charts.inline(figure, "history", f"Validation accuracy of {len(finished)} trials; best {values.max():.2%}")


@mpl.rc_context(charts.STYLE)
def importance(decided: Mapping[str, float]) -> Markup:
    """By how much each number tells the better half of the trials from all, shares of 1, the greatest on top."""
    figure, axes = charts.canvas(480, 70 + 34 * len(decided))
    bars = axes.barh(list(decided), list(decided.values()), color=charts.TEST, height=0.6)
    axes.bar_label(bars, [f"{share:.0%}" for share in decided.values()], padding=5, color=charts.INK)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.margins(x=0.15)
    listed = ", ".join(f"{name} {share:.0%}" for name, share in decided.items())
    return charts.inline(figure, "importance", f"Which numbers set the better half apart: {listed}")


@mpl.rc_context(charts.STYLE)
def parallel(finished: list[FrozenTrial], names: list[str]) -> Markup:
    """A line per finished trial through its numbers, the last axis its accuracy; the better, the stronger."""
    figure, axes = charts.canvas(760, 330)
    columns: dict[str, list[Any]] = {name: [trial.params[name] for trial in finished] for name in names}
    levels = {name: sorted(set(values)) for name, values in columns.items()}
    accuracies = np.array([trial.value for trial in finished])
    ranks = accuracies.argsort().argsort() / (len(finished) - 1)
    heights = [[_height(trial.params[name], levels[name]) for name in names] for trial in finished]
    lowest, highest = accuracies.min(), accuracies.max()
    for trial in ranks.argsort():
        last = (accuracies[trial] - lowest) / max(highest - lowest, 1e-9)
        colour = charts.TEST if ranks[trial] >= TOP else charts.MUTED
        axes.plot([*heights[trial], last], color=colour, linewidth=1 + ranks[trial], alpha=0.25 + 0.75 * ranks[trial])
    for place, name in enumerate(names):
        for level in levels[name]:
            axes.annotate(
                f"{level:g}" if isinstance(level, float) else str(level),
                (place, _height(level, levels[name])),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=charts.INK,
            )
    for height, value in ((0, lowest), (1, highest)):
        axes.annotate(
            f"{value:.2%}",
            (len(names), height),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=charts.INK,
        )
    axes.set_xticks(range(len(names) + 1), [*names, "accuracy"])
    axes.set_yticks([])
    axes.margins(x=0.08, y=0.06)
    best = max(finished, key=lambda trial: trial.value or 0)
    label = f"Numbers and accuracy of {len(finished)} trials; the best: " + ", ".join(
        f"{k} {v}" for k, v in best.params.items()
    )
    return charts.inline(figure, "parallel", label)


def _height(value: Any, levels: list[Any]) -> float:
    """Where a value stands on its axis, 0 … 1: levels are evenly spaced."""
    return 0.5 if len(levels) == 1 else levels.index(value) / (len(levels) - 1)
