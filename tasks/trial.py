"""One training of a recipe, measured: what comparisons, folds and tuning trials are made of. No stage of the pipeline.

    python -m tasks trial FOLDER     # reads FOLDER/trial.json, writes FOLDER/result.json and what else it made

A trial that has its result is not run again; one that was killed goes on from its last whole epoch. What a recipe's
teacher says is kept beside the data, for all trials.
"""

import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

import seamline
from tasks import checkpoint, export, fitting, folds, params, provenance, recipes, splits, studies, teacher, trained
from tasks.arrays import CLASSES, SIDE, Split
from tasks.experiment import HISTORY, MODEL, RESULT, TRIAL, Trial
from tasks.files import lock, read_json, write_bytes, write_json, write_text

logger = logging.getLogger(__name__)

TEACHERS = "teachers"


def run(folder: Path) -> dict[str, Any]:
    """Train, measure and write; the result. A second process waits for the first and finds its result.

    Raises:
        ParameterError: the recipe is not usable.
        TrainingError: the loss is not a number any more.
    """
    with lock(folder):
        return _run(folder, params.read(folder / TRIAL, Trial))


def _run(folder: Path, trial: Trial) -> dict[str, Any]:
    recipe, normalised = trial.recipe, Path(trial.normalised)
    stats = read_json(normalised / splits.STATS)
    about = trial.model_dump(exclude={"name", "recipe", "study"})
    key = fitting.key_of([about, recipes.described(recipe), stats])
    if (folder / RESULT).is_file() and (found := read_json(folder / RESULT))["key"] == key:
        return dict(found)
    (folder / RESULT).unlink(missing_ok=True)  # of another trial: not to be taken for this one's if this one fails
    fitted, held_out = _halves(trial, normalised)
    precision = fitting.set_up(trial.precision, trial.seed)
    lessons = teacher.lessons(recipe, fitted, held_out, stats, trial.seed, normalised.parent / TEACHERS)
    model = trained.build(recipe.model, recipe.size, stats["mean"], stats["deviation"], trial.seed)
    watch = studies.watcher(trial.study, trial.seed, recipe.epochs)
    begun = {"key": key, "name": trial.name, "precision": precision, "trained": provenance.here()}
    try:
        done = fitting.fit(model, fitted, held_out, recipe, trial.seed, folder / "checkpoints", key, lessons, watch)
    except studies.Pruned as pruned:
        result = {**begun, "pruned_after": pruned.epochs}
        write_json(folder / RESULT, result)
        checkpoint.clear(folder / "checkpoints")
        logger.info("trial: ended after %d epochs, worse than most", pruned.epochs)
        return result
    model = trained.exact(model, recipe.model, recipe.size, stats["mean"], stats["deviation"])
    result = {
        **begun,
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "seconds": done.seconds,
        "train": fitting.measure(model, fitted),
        "held_out": fitting.measure(model, held_out),
        "test": fitting.measure(model, splits.read(normalised, "test")) if trial.test else None,
        **exported(model, folder / MODEL),
    }
    write_text(folder / HISTORY, fitting.as_csv(done.history))
    write_json(folder / RESULT, result)
    checkpoint.clear(folder / "checkpoints")
    return result


def _halves(trial: Trial, normalised: Path) -> tuple[Split, Split]:
    if trial.fold is None:
        return splits.read(normalised, "train"), splits.read(normalised, "validation")
    return folds.halves(normalised, trial.fold, trial.folds, trial.seed)


def multiply_adds(model: keras.Model) -> int:
    """Multiplications for one image: every kernel's weights, as often as it is applied."""
    return sum(
        int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1], dtype=int))
        for layer in model.layers
        if hasattr(layer, "kernel")
    )


def exported(model: keras.Model, file: Path) -> dict[str, Any]:
    """Write the model as ONNX; its size and latency."""
    content = export.convert(model, {"classes": json.dumps(CLASSES)})
    write_bytes(file, content)
    image = np.zeros((1, SIDE, SIDE), np.uint8)
    return {"onnx_bytes": len(content), "latency_us": export.latency_us(seamline.Classifier(file), image)}
