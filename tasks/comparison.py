"""Every recipe trained and measured alike: the trials, the table, the charts. flows/comparison.py runs it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter, StrMethodFormatter

from tasks import charts, experiment, page, recipes
from tasks.experiment import HISTORY, Trial
from tasks.page import Page, Table
from tasks.params import Experiments

HEADINGS = [
    "recipe",
    "published train",
    "published test",
    "train",
    "test",
    "parameters",
    "multiply-adds",
    "training (s)",
    "ONNX (bytes)",
    "latency (µs)",
]
OVERFITTING = ("three_conv", "three_conv_dropout")  # the same net without and with dropout


def lay_out(settings: Experiments, recipe_folder: Path, normalised: Path, folder: Path) -> list[Path]:
    """A trial for each recipe; `settings.most_epochs` cuts their training short."""
    return [
        experiment.lay_out(
            folder / name,
            Trial(
                name=name,
                recipe=recipes.shortened(recipe, settings.most_epochs),
                normalised=str(normalised),
                fold=None,
                folds=settings.folds,
                test=True,
                seed=settings.seed,
                precision="auto",
            ),
        )
        for name, recipe in recipes.load_all(recipe_folder).items()
    ]


def show(folders: Sequence[Path], recipe_folder: Path, target: Path, failures: Mapping[str, str]) -> Table:
    """Write the page of the results that there are; its table."""
    results = experiment.results(folders)
    known = recipes.load_all(recipe_folder)
    table = Table(HEADINGS, [_row(result, known[result["name"]].published) for result in results])
    lead = f"{len(results)} of {len(folders)} recipes, each trained once with the same seed and measured alike."
    page.write(target, Page("Recipes compared", lead, table, _charts(folders, results), failures))
    return table


def _row(result: Mapping[str, Any], published: recipes.Published) -> list[str]:
    return [
        result["name"],
        _share(published.train),
        _share(published.test),
        _share(result["train"]["accuracy"]),
        _share(result["test"]["accuracy"]),
        f"{result['parameters']:,}",
        f"{result['multiply_adds']:,}",
        f"{result['seconds']:.0f}",
        f"{result['onnx_bytes']:,}",
        f"{result['latency_us']:.0f}",
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _charts(folders: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    if not results:
        return {}
    drawn = {
        "Accuracy against training time": scatter(results, "seconds", "training, seconds"),
        "Accuracy against size": scatter(results, "onnx_bytes", "ONNX file, bytes"),
    }
    curves = {folder.name: folder / HISTORY for folder in folders if folder.name in OVERFITTING}
    return drawn | {
        f"Over-fitting: {name}": charts.accuracy_chart(charts.read_history(file), name)
        for name, file in curves.items()
        if file.is_file()
    }


@mpl.rc_context(charts.STYLE)
def scatter(results: Sequence[Mapping[str, Any]], measure: str, label: str) -> Markup:
    """Test accuracy of each recipe against a measure, on a logarithmic axis."""
    figure, axes = charts.canvas(480, 320)
    for result in results:
        place = (result[measure], result["test"]["accuracy"])
        axes.plot(*place, "o", color=charts.TEST)
        axes.annotate(result["name"], place, (5, 4), textcoords="offset points", fontsize=8, color=charts.INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.25, y=0.1)
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    best = max(results, key=lambda result: result["test"]["accuracy"])
    return charts.inline(figure, measure, f"Test accuracy against {label}; best: {best['name']}")
