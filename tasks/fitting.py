"""Fit a model to images: progress, a learning history, checkpoints. What train and every experiment have in common.

What is kept is the average of the weights over the last steps, never the best epoch. A training that was interrupted
goes on from its last whole epoch.
"""

import csv
import io
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

import models
from tasks import checkpoint, engine, processor, trained
from tasks.arrays import Split
from tasks.checkpoint import Checkpoint
from tasks.errors import ParameterError, TrainingError
from tasks.files import digest, digest_json
from tasks.progress import progress_bar, step_aside
from tasks.recipes import Recipe

logger = logging.getLogger(__name__)

COLUMNS = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
CODE = (
    Path(engine.__file__),
    *(Path(engine.__file__).with_name(f"{name}.py") for name in ("augment", "photographed")),
    *Path(models.__file__).parent.glob("*.py"),
)
History = list[dict[str, Any]]  # a row per epoch: epoch, loss, accuracy, validation_loss, validation_accuracy


class Fitted(NamedTuple):
    history: History
    seconds: float  # of training, interruptions left out


def set_up(precision: str, seed: int) -> str:
    """Seed Keras and choose the arithmetic; which one."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    chosen = processor.precision(precision, processor.flags(), len(tf.config.list_physical_devices("GPU")))
    keras.config.set_dtype_policy("mixed_bfloat16" if chosen == "bfloat16" else "float32")
    logger.info("train: %s on %s", chosen, processor.name())
    return chosen


def key_of(described: Any) -> str:
    """Digest of what a training depends on: what describes it, TensorFlow, and the code."""
    return digest_json([described, tf.__version__, *(digest(path.read_bytes()) for path in sorted(CODE))])


def code() -> str:
    """Digest of the code that a training is computed by."""
    return digest_json([digest(path.read_bytes()) for path in sorted(CODE)])


def fit(
    model: keras.Model,
    train: Split,
    validation: Split,
    recipe: Recipe,
    seed: int,
    checkpoints: Path,
    key: str,
    lessons: engine.Lessons | None = None,
    after_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Fitted:
    """Train, showing progress, from the last checkpoint on if there is one; the model has the averaged weights.

    Args:
        model: uint8 (n, 28, 28) → logits (n, 10).
        train: at least recipe.batch images.
        validation: looked at after each epoch, nothing more.
        recipe: how to train.
        seed: of everything that is drawn.
        checkpoints: folder of this training's.
        key: digest of all that it depends on.
        lessons: what the recipe's teacher says of the training images.
        after_epoch: called with the history's newest row; what it raises ends the training.

    Raises:
        ParameterError: a batch is larger than the data.
        TrainingError: the loss is not a number any more. The checkpoint before it is kept, nothing else written.
    """
    if recipe.batch > len(train.labels):
        raise ParameterError(
            f"The recipe's batch is {recipe.batch}, and there are {len(train.labels)} training images."
        )
    trainer = engine.Trainer(model, train, recipe, seed, lessons)
    done = checkpoint.newest(checkpoints, key)
    if done:
        trainer.restore(done.state)
        logger.info("train: goes on after epoch %d, where it was interrupted", done.epochs)
    epochs, history, before = (done.epochs, done.history, done.seconds) if done else (0, [], 0.0)
    start = time.perf_counter()
    with progress_bar(*COLUMNS) as progress:
        bar = progress.add_task("compiling", total=trainer.steps, completed=epochs * trainer.steps_per_epoch)
        for epoch in range(epochs, recipe.epochs):
            text = ""
            for word in trainer.epoch(epoch):
                text = f"epoch {epoch + 1}/{recipe.epochs} · loss {word.loss:.3f}"
                _stop_at_nonsense(word.loss, epoch, recipe)
                progress.start()
                progress.update(bar, completed=word.step, description=text + _last_accuracy(history))
            with trainer.averaged():
                fitted = {"loss": round(word.loss, 5), "accuracy": round(word.accuracy, 5)}
                history.append({"epoch": epoch + 1, **fitted, **measure(model, validation, "validation_")})
            seconds = before + time.perf_counter() - start
            checkpoint.save(checkpoints, key, Checkpoint(epoch + 1, trainer.state(), history, seconds))
            left, accuracy = seconds / word.step * (trainer.steps - word.step), history[-1]["validation_accuracy"]
            step_aside(progress)
            logger.info("%s · validation %.2f %% · %.0f s, %.0f s left", text, accuracy * 100, seconds, left)
            if after_epoch:
                after_epoch(history[-1])
    trainer.finish()
    return Fitted(history, round(before + time.perf_counter() - start, 1))


def _stop_at_nonsense(loss: float, epoch: int, recipe: Recipe) -> None:
    if not np.isfinite(loss):
        raise TrainingError(
            f"the loss became {loss} in epoch {epoch + 1}. Lower the recipe's rate ({recipe.rate}) or adam_rate "
            f"({recipe.adam_rate}). The model trained before is untouched."
        )


def measure(model: keras.Model, split: Split, prefix: str = "") -> dict[str, float]:
    """Cross-entropy (nats) and accuracy on a split, as `loss` and `accuracy` behind a prefix."""
    probabilities = trained.probabilities(model, split.images)
    right = probabilities[np.arange(len(split.labels)), split.labels]
    return {
        f"{prefix}loss": round(float(-np.log(np.maximum(right, 1e-12)).mean()), 5),
        f"{prefix}accuracy": round(float((probabilities.argmax(axis=1) == split.labels).mean()), 5),
    }


def _last_accuracy(history: History) -> str:
    return f" · validation {history[-1]['validation_accuracy']:.2%}" if history else ""


def as_csv(history: History) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
