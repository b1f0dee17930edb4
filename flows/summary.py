"""What came out of a run, as one short table: for the terminal and for Prefect's page."""

from pathlib import Path
from typing import Any

from rich.table import Table

from tasks.files import read_json


def rows(root: Path) -> list[tuple[str, str]]:
    """Name and value of everything that a person wants to know first.

    Args:
        root: the project's folder, after a run that passed.
    """
    reports = root / "data/reports"
    metrics, verdict, export = (read_json(reports / f"{name}.json") for name in ("metrics", "verdict", "export"))
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    return [
        ("test accuracy", f"{metrics['accuracy']:.2%}  (95 %: {low:.2%} … {high:.2%})"),
        ("worst class", f"{metrics['worst_class']}, recall {metrics['worst_recall']:.1%}"),
        ("gate", f"passed (limits: {_limits(verdict)})" if verdict["passed"] else "refused"),
        (
            "Keras = ONNX",
            f"{export['same_class']:,} of {export['images']:,}, within {export['largest_difference']:.1g}",
        ),
        ("model file", f"exports/model.onnx, {export['bytes']:,} bytes"),
        ("int8", "; ".join(read_json(reports / "quantise.json")["reasons"]) or "ships beside it"),
        ("bundle", f"exports/bundle, version {read_json(root / 'exports/version.json')['version']}"),
        ("latency", f"{export['latency_us']:.0f} µs an image, one thread"),
        ("seconds", seconds(root / "data/timings")),
        ("report", "data/report.html"),
    ]


def seconds(timings: Path) -> str:
    """How long each stage took when it last ran, in the order of the files' age."""
    files = sorted(timings.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return " · ".join(f"{path.stem} {read_json(path)['seconds']:.0f}" for path in files)


def table(root: Path) -> Table:
    shown = Table(title="Seamline", show_header=False, title_style="bold", title_justify="left")
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column()
    for row in rows(root):
        shown.add_row(*row)
    return shown


def markdown(root: Path) -> str:
    return "\n".join(["| measure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows(root))])


def _limits(verdict: dict[str, Any]) -> str:
    limits = verdict["limits"]
    return f"accuracy {limits['min_accuracy']:.0%}, recall {limits['min_recall']:.0%}"
