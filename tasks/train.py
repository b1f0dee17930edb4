"""Fit the model that params.yaml names to the training images; validation images are only looked at.

Nothing is chosen by the test set, which this stage does not read, nor by the best epoch: what is kept is the average of
the weights over the last steps.
"""

import csv
import io
import logging
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from tasks import engine, processor, splits, trained
from tasks.arrays import Split
from tasks.errors import ParameterError, TrainingError
from tasks.files import read_json, write_text
from tasks.params import Train
from tasks.progress import progress_bar

logger = logging.getLogger(__name__)

COLUMNS = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())


def run(params: Train, normalised: Path, model_folder: Path, history_file: Path, summary: Path) -> None:
    """Write the model, with where it comes from, and its learning history."""
    stats = read_json(normalised / splits.STATS)
    train, validation = splits.read(normalised, "train"), splits.read(normalised, "validation")
    if params.batch > len(train.labels):
        raise ParameterError(f"train.batch is {params.batch}, and there are {len(train.labels)} training images.")
    precision = set_up(params)
    model = trained.build(params.model, stats["mean"], stats["deviation"])
    history = fit(model, train, validation, params)
    provenance = {
        "model": params.model,
        "parameters_trained": model.count_params(),
        "precision": precision,
        "pixels": {"mean": stats["mean"], "deviation": stats["deviation"]},
        "data": stats["data"],
        "parameters": {"normalise": stats["parameters"], "train": params.model_dump()},
    }
    digest = trained.save(model, model_folder, provenance)
    write_text(history_file, _csv(history))
    write_text(summary, _table(history, model.count_params(), precision, digest))


def set_up(params: Train) -> str:
    """Seed Keras and choose the arithmetic; which one."""
    keras.utils.set_random_seed(params.seed)
    precision = processor.precision(params.precision, processor.flags(), len(tf.config.list_physical_devices("GPU")))
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    logger.info("train: %s on %s", precision, processor.name())
    return precision


def fit(model: keras.Model, train: Split, validation: Split, params: Train) -> list[dict[str, Any]]:
    """Train, showing progress; one row per epoch: epoch, loss, validation_loss, validation_accuracy.

    Raises:
        TrainingError: the loss is not a number any more. Nothing has been written.
    """
    history: list[dict[str, Any]] = []
    start, steps = time.perf_counter(), len(train.labels) // params.batch
    with progress_bar(*COLUMNS) as progress:
        bar = progress.add_task("compiling", total=steps * params.epochs)
        for word in engine.fit(model, train, params):
            if not np.isfinite(word.loss):
                raise TrainingError(
                    f"the loss became {word.loss} in epoch {word.epoch}. Lower train.muon_rate ({params.muon_rate}) "
                    f"and train.adam_rate ({params.adam_rate}). "
                    "The model trained before is in DVC's cache: `dvc checkout`."
                )
            text = f"epoch {word.epoch}/{params.epochs} · loss {word.loss:.3f}"
            if word.step == word.epoch * steps:
                history.append({"epoch": word.epoch, "loss": round(word.loss, 5), **measure(model, validation)})
                seconds = time.perf_counter() - start
                left = seconds / word.step * (word.steps - word.step)
                accuracy = history[-1]["validation_accuracy"]
                logger.info("%s · validation %.2f %% · %.0f s, %.0f s left", text, accuracy * 100, seconds, left)
            progress.update(bar, completed=word.step, description=text + _last_accuracy(history))
    return history


def measure(model: keras.Model, split: Split) -> dict[str, float]:
    """Cross-entropy (nats) and accuracy on a split."""
    probabilities = trained.probabilities(model, split.images)
    right = probabilities[np.arange(len(split.labels)), split.labels]
    return {
        "validation_loss": round(float(-np.log(np.maximum(right, 1e-12)).mean()), 5),
        "validation_accuracy": round(float((probabilities.argmax(axis=1) == split.labels).mean()), 5),
    }


def _last_accuracy(history: list[dict[str, Any]]) -> str:
    return f" · validation {history[-1]['validation_accuracy']:.2%}" if history else ""


def _csv(history: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def _table(history: list[dict[str, Any]], parameters: int, precision: str, digest: str) -> str:
    rows = [
        f"| {row['epoch']} | {row['loss']:.4f} | {row['validation_loss']:.4f} | {row['validation_accuracy']:.2%} |"
        for row in history
    ]
    heading = f"{parameters:,} parameters, {precision}, weights {digest[:12]}…\n"
    return (
        "\n".join([heading, "| epoch | loss | validation loss | validation accuracy |", "|---:|---:|---:|---:|", *rows])
        + "\n"
    )
