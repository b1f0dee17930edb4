"""Measure the trained model on the test set: once per run, at the end. Decides nothing; that is the gate's."""

import csv
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from tasks import metrics, splits, strangers, trained
from tasks.arrays import CLASSES, Images, Labels, Probabilities
from tasks.files import write_array, write_json, write_text
from tasks.params import Evaluate

logger = logging.getLogger(__name__)


def run(
    params: Evaluate,
    normalised: Path,
    model_folder: Path,
    metrics_file: Path,
    probabilities_file: Path,
    predictions_file: Path,
    summary: Path,
) -> None:
    """Write the metrics, and what was said of each test image: in full for export, in words for people."""
    test = splits.read(normalised, "test")
    model, description = trained.load(model_folder)
    probabilities = trained.probabilities(model, test.images)
    measured = {
        **measure(test.labels, probabilities, params),
        "unknown": unknown(model, test.images, probabilities, description["unknown_below"], params.seed),
        "weights": description["weights"],
        "test_data": description["data"]["test"],
    }
    write_json(metrics_file, measured)
    write_array(probabilities_file, probabilities)
    write_text(predictions_file, predictions_csv(test.labels, probabilities))
    write_text(summary, _table(measured))
    logger.info("evaluate: accuracy %.4f on %s test images", measured["accuracy"], f"{len(test.labels):,}")


def measure(labels: Labels, probabilities: Probabilities, params: Evaluate) -> dict[str, Any]:
    """Everything that is measured, JSON-ready.

    Args:
        labels: (n,) uint8, n ≥ 1.
        probabilities: (n, 10) float32, rows sum to 1.
        params: number of bins and of pairs.
    """
    predicted = probabilities.argmax(axis=1).astype(np.uint8)
    matrix = metrics.confusion(labels, predicted)
    classes = metrics.per_class(matrix)
    right = int(np.trace(matrix))
    worst = min(classes, key=lambda name: classes[name].recall)
    low, high = metrics.wilson(right, len(labels))
    return {
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "images": len(labels),
        "worst_class": worst,
        "worst_recall": classes[worst].recall,
        "calibration_error": metrics.calibration_error(labels, probabilities, params.calibration_bins),
        "classes": {name: values._asdict() for name, values in classes.items()},
        "confused": [pair._asdict() for pair in metrics.most_confused(matrix, params.confused_pairs)],
    }


def unknown(
    model: Any, images: Images, probabilities: Probabilities, limit: float, seed: int
) -> dict[str, float | dict[str, float]]:
    """The probability below which an answer is "unknown", and for what share it is: garments, and strangers by kind."""
    shown = strangers.kinds(images, seed)
    return {
        "below": limit,
        "garments": strangers.refused(probabilities, limit),
        "strangers": {
            kind: strangers.refused(trained.probabilities(model, some), limit) for kind, some in shown.items()
        },
    }


def predictions_csv(labels: Labels, probabilities: Probabilities) -> str:
    """One row per test image: its number, what it is, what was said, and with which probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "actual", "predicted", "probability"])
    for number, (label, row) in enumerate(zip(labels, probabilities, strict=True)):
        said = int(row.argmax())
        writer.writerow([number, CLASSES[label], CLASSES[said], f"{row[said]:.4f}"])
    return text.getvalue()


def _table(measured: dict[str, Any]) -> str:
    low, high = measured["accuracy_low"], measured["accuracy_high"]
    heading = (
        f"Accuracy **{measured['accuracy']:.2%}** of {measured['images']:,} test images "
        f"(95 %: {low:.2%} … {high:.2%}), calibration error {measured['calibration_error']:.4f}.\n"
    )
    rows = [
        f"| {name} | {values['precision']:.3f} | {values['recall']:.3f} | {values['f1']:.3f} |"
        for name, values in measured["classes"].items()
    ]
    unsure = measured["unknown"]
    refusals = ", ".join(f"{share:.1%} of {kind}" for kind, share in unsure["strangers"].items())
    below = f"\nUnknown, below {unsure['below']:.1%}: {unsure['garments']:.1%} of the test images; {refusals}."
    pairs = [f"- {pair['actual']} taken for {pair['predicted']}: {pair['images']}" for pair in measured["confused"]]
    return (
        "\n".join([heading, "| class | precision | recall | F1 |", "|---|---:|---:|---:|", *rows, "", *pairs, below])
        + "\n"
    )
