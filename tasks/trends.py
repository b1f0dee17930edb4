"""How the models of the retrainings went, as charts: one per figure, released ones joined, refused ones beside them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from tasks import charts
from tasks.runs import Figures, Record


class Trend(NamedTuple):
    name: str
    value: Callable[[Figures], float | None]
    shown: str  # as a format


TRENDS = (
    Trend("Test accuracy", lambda figures: figures.accuracy, "{:.2%}"),
    Trend("Recall of the worst class", lambda figures: figures.worst_recall, "{:.1%}"),
    Trend("Size of the model (kB)", lambda figures: figures.size_bytes and figures.size_bytes / 1000, "{:,.0f}"),
    Trend("Latency of one image (µs)", lambda figures: figures.latency_us, "{:.0f}"),
    Trend("Training (s)", lambda figures: figures.training_s, "{:,.0f}"),
)


def all_of(models: Sequence[Record]) -> dict[str, Markup]:
    """Heading → chart, of each figure that was measured."""
    found = {trend: [trend.value(model.figures) if model.figures else None for model in models] for trend in TRENDS}
    return {
        trend.name: chart(trend, models, values, f"trend{number}")
        for number, (trend, values) in enumerate(found.items())
        if any(value is not None for value in values)
    }


@mpl.rc_context(charts.STYLE)
def chart(trend: Trend, models: Sequence[Record], values: Sequence[float | None], name: str) -> Markup:
    """One figure, model after model."""
    figure, axes = charts.canvas(370, 200)
    for outcome, style, colour in (("released", "o-", charts.TEST), ("refused", "x", charts.VALIDATION)):
        points = [
            (place, value)
            for place, (model, value) in enumerate(zip(models, values, strict=True), start=1)
            if model.outcome == outcome and value is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=outcome, markersize=6)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)  # above: no point is hidden
    axes.margins(x=0.06, y=0.25)
    axes.set_xlabel("model")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    percent = trend.shown.endswith("%}")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1) if percent else StrMethodFormatter("{x:,.0f}"))
    last = next(value for value in reversed(values) if value is not None)
    return charts.inline(figure, name, f"{trend.name}, {len(models)} models, the last one {trend.shown.format(last)}")
