"""Decide whether the model may ship. Measures nothing; that is evaluate's. No TensorFlow: it takes a second.

The verdict is written first, then a refusal is raised: DVC records no stage that fails, and the verdict must be kept.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.arrays import CLASSES
from tasks.errors import GateError
from tasks.files import read_json, write_json, write_text
from tasks.params import Gate

logger = logging.getLogger(__name__)


def run(params: Gate, metrics_file: Path, model_folder: Path, verdict_file: Path, summary: Path) -> None:
    """Write the verdict; refuse if a limit is missed or the metrics are not this model's."""
    metrics, description = read_json(metrics_file), read_json(model_folder / "model.json")
    reasons = strangers(metrics, description) or misses(metrics, params)
    verdict = {
        "passed": not reasons,
        "reasons": reasons,
        "limits": params.model_dump(),
        "weights": description.get("weights"),
    }
    write_json(verdict_file, verdict)
    write_text(summary, _table(reasons, params, metrics))
    if reasons:
        raise GateError(
            f"refused: {'; '.join(reasons)}. Verdict: {verdict_file}. What was exported before is untouched."
        )
    logger.info("gate: passed")


def strangers(metrics: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    """Why these metrics are not this model's; none means they are."""
    ours = {"weights": description.get("weights"), "test_data": _mapping(description.get("data")).get("test")}
    return [
        f"the metrics are of other {name.replace('_', ' ')} ({str(metrics.get(name))[:12]}, not {str(digest)[:12]})"
        for name, digest in ours.items()
        if digest is None or metrics.get(name) != digest
    ]


def misses(metrics: Mapping[str, Any], limits: Gate) -> list[str]:
    """Every limit the model misses, one sentence each; none means it may ship.

    A metric that is missing, not a number or no share misses its limit: the comparison is written so that NaN fails it.
    """
    classes = _mapping(metrics.get("classes"))
    floors = [("accuracy", metrics.get("accuracy"), limits.min_accuracy)]
    floors += [(f"recall of {name}", _mapping(classes.get(name)).get("recall"), limits.min_recall) for name in CLASSES]
    return [
        f"{name} is {_shown(value)}, the limit is {floor:.4f}"
        for name, value, floor in floors
        if not floor <= _number(value) <= 1
    ]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _shown(value: Any) -> str:
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else repr(value)


def _table(reasons: list[str], limits: Gate, metrics: Mapping[str, Any]) -> str:
    verdict = "**passed**" if not reasons else "**refused**"
    worst = metrics.get("worst_class", "worst class")
    return (
        "\n".join(
            [
                f"The gate has {verdict} this model.\n",
                "| measure | value | limit |",
                "|---|---:|---:|",
                f"| accuracy | {_shown(metrics.get('accuracy'))} | {limits.min_accuracy} |",
                f"| recall of {worst} | {_shown(metrics.get('worst_recall'))} | {limits.min_recall} |",
                "",
                *(f"- {reason}" for reason in reasons),
            ]
        )
        + "\n"
    )
