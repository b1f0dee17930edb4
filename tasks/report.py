"""Gather what the stages left behind into one HTML page that works offline. Measures nothing, decides nothing.

The words and the looks are in report.html.jinja, charts and pictures in charts.py and figures.py. Times and memory,
which DVC does not hash, are those of each stage's last run on this machine.
"""

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tasks import charts, figures, metrics, page, processor, provenance, splits
from tasks.arrays import CLASSES, Labels, Split
from tasks.checks import checks_of
from tasks.errors import DataError
from tasks.figures import Predictions
from tasks.files import digest, read_json, write_text
from tasks.params import STAGES, Report

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SPLITS = ("train", "validation", "test")
# tensorflow-cpu is tensorflow under another name: whichever is installed is listed.
DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "numpy",
    "prefect",
    "dvc",
    "great-expectations",
)


class Records(NamedTuple):
    """What the stages wrote of one run, as they wrote it."""

    stats: dict[str, Any]
    model: dict[str, Any]
    metrics: dict[str, Any]
    verdict: dict[str, Any]
    expectations: dict[str, dict[str, Any]]
    export: dict[str, Any] | None  # absent as long as the gate has passed no model


def run(
    params: Report,
    normalised: Path,
    model_folder: Path,
    reports: Path,
    timings: Path,
    exported: Path,
    target: Path,
    summary: Path,
) -> None:
    """Write the page, and a few lines that sum it up; refuse if the files are of different runs."""
    records = read_records(normalised, model_folder, reports)
    require_one_run(records)
    parts = {name: splits.read(normalised, name) for name in SPLITS}
    predictions = read_predictions(reports / "predictions.csv", parts["test"].labels)
    missing = not_exported(records, exported)
    content = _template().render(
        **records._asdict(),
        **drawings(parts, charts.read_history(reports / "history.csv"), predictions),
        samples=figures.samples(parts["train"], params.samples_per_class),
        mistakes=figures.mistakes(parts["test"], predictions, params.mistakes),
        missing=missing,
        checks={table: checks_of(table, result) for table, result in records.expectations.items()},
        timings=read_timings(timings),
        parameters={**records.model["parameters"], "gate": records.verdict["limits"]},
        digests=digests(records, exported),
        versions=dict(versions()),
        machine=machine(),
        classes=CLASSES,
        experiments=page.pages(target.parent / page.FOLDER),
    )
    write_text(target, content)
    write_text(summary, _table(records, missing, len(content.encode())))


def read_records(normalised: Path, model_folder: Path, reports: Path) -> Records:
    export = reports / "export.json"
    return Records(
        read_json(normalised / splits.STATS),
        read_json(model_folder / "model.json"),
        read_json(reports / "metrics.json"),
        read_json(reports / "verdict.json"),
        read_json(reports / "expectations.json"),
        read_json(export) if export.is_file() else None,
    )


def require_one_run(records: Records) -> None:
    """Refuse files of different runs: together they would tell of a model that never was."""
    named = {
        "weights": {
            "model.json": records.model.get("weights"),
            "metrics.json": records.metrics.get("weights"),
            "verdict.json": records.verdict.get("weights"),
        },
        "test data": {
            "stats.json": records.stats.get("data", {}).get("test"),
            "metrics.json": records.metrics.get("test_data"),
        },
    }
    for subject, found in named.items():
        if len(set(found.values())) > 1 or None in found.values():
            listed = ", ".join(f"{str(value)[:12]} in {name}" for name, value in found.items())
            raise DataError(f"the reports are of different runs: {subject} {listed}. Make them one: `dvc repro`.")


def not_exported(records: Records, exported: Path) -> list[str]:
    """Why this model is not the exported one; none means it is."""
    export = records.export
    before = ["what was exported before is untouched"] if exported.is_file() else []
    if records.verdict["passed"] is not True:
        return ["the gate refused this model", *before]
    if export is None or export["weights"] != records.model["weights"]:
        return ["this model has not been exported yet: `dvc repro export`", *before]
    if not export["published"]:
        return [*export["reasons"], *before]
    return [] if before else [f"{exported} is absent: `dvc checkout` brings it back"]


def read_predictions(path: Path, labels: Labels) -> Predictions:
    """What was said of each test image; refused if these are not the predictions of these images.

    Args:
        path: a CSV file, as evaluate writes it.
        labels: (n,) uint8, of the test images.
    """
    rows = charts.read_rows(path, ("image", "actual", "predicted", "probability"), "evaluate")
    known = {row["predicted"] for row in rows} <= set(CLASSES)
    if not known or [row["actual"] for row in rows] != [CLASSES[label] for label in labels]:
        raise DataError(f"{path} is not of these {len(labels):,} test images. Run `dvc repro -f evaluate`.")
    predicted = np.array([CLASSES.index(row["predicted"]) for row in rows], np.uint8)
    return Predictions(predicted, np.array([float(row["probability"]) for row in rows]))


def read_timings(folder: Path) -> dict[str, Any]:
    """What each stage took, in their order; one that has not run here is left out, and so is this one."""
    paths = {stage: folder / f"{stage}.json" for stage in STAGES if stage != "report"}
    return {stage: read_json(path) for stage, path in paths.items() if path.is_file()}


def drawings(parts: dict[str, Split], history: list[dict[str, float]], predictions: Predictions) -> dict[str, Any]:
    """The charts and the confusion matrix, by their names in the template."""
    counts = {name: np.bincount(part.labels, minlength=len(CLASSES)) for name, part in parts.items()}
    return {
        "loss_chart": charts.loss_chart(history),
        "accuracy_chart": charts.accuracy_chart(history),
        "balance_chart": figures.balance_chart(counts),
        "counts": {name: (int(values.min()), int(values.max())) for name, values in counts.items()},
        "heat": figures.heat(metrics.confusion(parts["test"].labels, predictions.predicted)),
    }


def digests(records: Records, exported: Path) -> dict[str, str]:
    """SHA-256 of what went in and what came out."""
    data = {f"{name} images and labels": value for name, value in records.stats["data"].items()}
    found = {**data, "weights": records.model["weights"]}
    if exported.is_file():
        found[exported.name] = digest(exported.read_bytes())
    return found


def versions() -> Iterator[tuple[str, str]]:
    """The installed libraries, by asking for their metadata: importing them takes seconds."""
    for name in DISTRIBUTIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def machine() -> dict[str, str]:
    """What this page was made on, and from which commit."""
    found = {"Python": platform.python_version(), "processor": processor.name(), "cores": str(os.cpu_count())}
    commit = provenance.commit()
    return found | ({"git commit": commit} if commit else {})


def _template() -> Template:
    loader = FileSystemLoader(TEMPLATE.parent)
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(TEMPLATE.name)


def _table(records: Records, missing: list[str], size_bytes: int) -> str:
    verdict = "passed" if records.verdict["passed"] is True else "refused"
    rows = {
        "gate": verdict,
        "accuracy": f"{records.metrics['accuracy']:.2%}",
        f"worst class, {records.metrics['worst_class']}": f"{records.metrics['worst_recall']:.2%}",
        "exported": "; ".join(["no", *missing]) if missing else "yes",
        "page": f"{size_bytes:,} bytes",
    }
    return (
        "\n".join(["| report | value |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())])
        + "\n"
    )
