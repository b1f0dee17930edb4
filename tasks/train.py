"""Fit the recipe that params.yaml names to the training images; validation images are looked at, and calibrate it.

Nothing is chosen by the test set, which this stage does not read, nor by the best epoch.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tasks import calibration, checkpoint, fitting, recipes, splits, teacher, trained
from tasks.arrays import Images, Split
from tasks.augment import augmenter
from tasks.files import read_json, write_text
from tasks.params import Train
from tasks.recipes import Recipe

CALIBRATED_ON = 6000  # validation images, at most


def run(
    params: Train,
    recipe_file: Path,
    normalised: Path,
    checkpoints: Path,
    model_folder: Path,
    history_file: Path,
    summary: Path,
) -> None:
    """Write the model, with where it comes from, and its learning history."""
    recipe, stats = recipes.load(recipe_file), read_json(normalised / splits.STATS)
    train, validation = splits.read(normalised, "train"), splits.read(normalised, "validation")
    precision = fitting.set_up(params.precision, params.seed)
    lessons = teacher.lessons(recipe, train, validation, stats, params.seed, checkpoints / "teacher")
    model = trained.build(recipe.model, recipe.size, stats["mean"], stats["deviation"], params.seed)
    provenance = {
        "recipe": recipe_file.stem,
        "model": recipe.model,
        "size": recipe.size,
        "parameters_trained": model.count_params(),
        "precision": precision,
        "pixels": {"mean": stats["mean"], "deviation": stats["deviation"]},
        "data": stats["data"],
        "parameters": {
            "normalise": stats["parameters"],
            "train": {**params.model_dump(), **recipes.described(recipe)},
        },
    }
    key = fitting.key_of(provenance)
    history = fitting.fit(model, train, validation, recipe, params.seed, checkpoints, key, lessons).history
    model = trained.exact(model, recipe.model, recipe.size, stats["mean"], stats["deviation"])
    some = Split(validation.images[:CALIBRATED_ON], validation.labels[:CALIBRATED_ON])
    heat = calibration.temperature(trained.logits(model, some.images), some.labels)
    calibration.cool(model, heat)
    limit = calibration.unknown_below(
        trained.probabilities(model, _garments(some, recipe, params.seed)), params.accepted
    )
    described = {**provenance, "code": fitting.code(), "temperature": heat, "unknown_below": limit}
    weights = trained.save(model, model_folder, described)
    write_text(history_file, fitting.as_csv(history))
    write_text(summary, _table(history, model.count_params(), precision, weights))
    checkpoint.clear(checkpoints)


def _garments(validation: Split, recipe: Recipe, seed: int) -> Images:
    """The validation images; and once more as if photographed, if the recipe trains for that."""
    if not recipe.photographed:
        return validation.images
    alike = recipe.model_copy(update={"batch": trained.BATCH, "photographed": 1.0, "strangers": 0.0})
    images_at = augmenter(validation, alike, seed)
    parts = np.array_split(
        np.arange(len(validation.labels), dtype=np.int32), -(-len(validation.labels) // trained.BATCH)
    )
    photographed = [images_at(part[None], np.int32(0))[0][0].numpy() for part in parts]
    return np.concatenate([validation.images, *photographed])


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
