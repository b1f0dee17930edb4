"""Every recipe trained and measured alike: the trials, the table, the charts. flows/comparison.py runs it."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from tasks import charts, experiment, page, recipes
from tasks.experiment import HISTORY, Trial
from tasks.page import Page, Table
from tasks.params import Experiments

Results: TypeAlias = Sequence[Mapping[str, Any]]  # of one recipe's trials
HEADINGS = [
    "recipe",
    "seeds",
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
SIDES = ((5, 2), (5, -2), (-5, 2), (-5, -2), (5, 12))  # of a point, in points: where its name may stand
OVERFITTING = ("three_conv", "three_conv_dropout")  # the same net without and with dropout


def lay_out(
    settings: Experiments, names: Sequence[str], recipe_folder: Path, normalised: Path, folder: Path, seeds: int = 1
) -> dict[str, list[Path]]:
    """Recipe → a trial for each of so many seeds, `settings.seed` the first; `settings.most_epochs` cuts them short."""
    return {
        name: [
            experiment.lay_out(
                folder / name / f"seed-{seed}",
                Trial(
                    name=name if seeds == 1 else f"{name}, seed {seed}",
                    recipe=recipes.shortened(recipes.load(recipe_folder / f"{name}.yaml"), settings.most_epochs),
                    normalised=str(normalised),
                    fold=None,
                    folds=settings.folds,
                    test=True,
                    seed=seed,
                    precision="auto",
                ),
            )
            for seed in range(settings.seed, settings.seed + seeds)
        ]
        for name in names
    }


def show(
    folders: Mapping[str, Sequence[Path]], recipe_folder: Path, target: Path, failures: Mapping[str, str]
) -> Table:
    """Write the page of the results that there are; its table."""
    found = {name: experiment.results(trials) for name, trials in folders.items()}
    done = {name: results for name, results in found.items() if results}
    lead = (
        f"{len(done)} of {len(folders)} recipes, trained and measured alike; "
        "of several seeds mean ± deviation, times as medians."
    )
    shown = table(done, recipe_folder)
    page.write(target, Page("Recipes compared", lead, shown, _charts(folders, done), failures))
    return shown


def table(done: Mapping[str, Results], recipe_folder: Path) -> Table:
    """A row for each recipe, with what its source published."""
    known = recipes.load_all(recipe_folder)
    return Table(HEADINGS, [_row(name, results, known[name].published) for name, results in done.items()])


def _row(name: str, results: Results, published: recipes.Published) -> list[str]:
    return [
        name,
        str(len(results)),
        _share(published.train),
        _share(published.test),
        _spread([result["train"]["accuracy"] for result in results]),
        _spread([result["test"]["accuracy"] for result in results]),
        f"{results[0]['parameters']:,}",
        f"{results[0]['multiply_adds']:,}",
        f"{_median(results, 'seconds'):.0f}",
        f"{results[0]['onnx_bytes']:,}",
        f"{_median(results, 'latency_us'):.0f}",
    ]


def _median(results: Results, measure: str) -> float:
    return float(statistics.median(result[measure] for result in results))


def _spread(shares: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(shares) * 100:.2f}" if len(shares) > 1 else ""
    return f"{statistics.mean(shares):.2%}{deviation}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _charts(folders: Mapping[str, Sequence[Path]], done: Mapping[str, Results]) -> dict[str, Markup]:
    if not done:
        return {}
    drawn = {
        "Accuracy against training time": scatter(done, "seconds", "training, seconds"),
        "Accuracy against size": scatter(done, "onnx_bytes", "ONNX file, bytes"),
    }
    curves = {name: folders[name][0] / HISTORY for name in OVERFITTING if name in folders}
    return drawn | {
        f"Over-fitting: {name}": charts.accuracy_chart(charts.read_history(file), name)
        for name, file in curves.items()
        if file.is_file()
    }


@mpl.rc_context(charts.STYLE)
def scatter(done: Mapping[str, Results], measure: str, label: str) -> Markup:
    """Test accuracy of each recipe against a measure, on a logarithmic axis."""
    figure, axes = charts.canvas(480, 320)
    accuracies = {name: statistics.mean(result["test"]["accuracy"] for result in done[name]) for name in done}
    places: dict[str, tuple[float, float]] = {}
    for name, results in done.items():
        place = (_median(results, measure), accuracies[name])
        axes.plot(*place, "o", color=charts.TEST)
        places[name] = place
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.25, y=0.1)
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.draw_without_rendering()  # now it is known where everything stands
    _name(axes, places)
    best = max(accuracies, key=lambda name: accuracies[name])
    return charts.inline(figure, measure, f"Test accuracy against {label}; best: {best}")


def _name(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write a name beside each point, on the first side where it covers no other name and no point."""
    points = axes.transData.transform(list(places.values()))
    taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for name, place in sorted(
        places.items(), key=lambda named: named[1][1], reverse=True
    ):  # the higher one's name above
        for across, up in SIDES:
            text = axes.annotate(name, place, (across, up), textcoords="offset points", fontsize=8, color=charts.INK)
            text.set(ha="left" if across > 0 else "right", va="bottom" if up > 0 else "top")
            extent = text.get_window_extent()
            if (across, up) == SIDES[-1] or not any(extent.overlaps(other) for other in taken):
                taken.append(extent)
                break
            text.remove()
