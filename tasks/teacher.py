"""A larger net's answers to the training images, for a small one to learn from: distillation.

The teacher is trained first, on the same images, and says what it thinks of each and of its mirror image; the student
learns from these and from the labels (https://arxiv.org/abs/1503.02531). The answers are kept, so that a teacher is
trained once for all of its students.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from tasks import checkpoint, fitting, recipes, trained
from tasks.arrays import Split
from tasks.engine import Lessons
from tasks.files import digest, lock, write_array
from tasks.recipes import Recipe

logger = logging.getLogger(__name__)


def lessons(
    student: Recipe, train: Split, validation: Split, stats: dict[str, Any], seed: int, folder: Path
) -> Lessons | None:
    """What the recipe's teacher says of the training images; nothing if it has none.

    Args:
        student: the recipe that is to be trained.
        train: n images; what the teacher is trained on, too.
        validation: looked at after each epoch, nothing more.
        stats: of the stage normalise.
        seed: of everything that is drawn.
        folder: of the teachers' answers, kept from run to run.

    Returns:
        Logits, float32 (2, n, 10): of each image, and of its mirror image.
    """
    if student.teacher is None:
        return None
    recipe = student.teacher.recipe
    model = trained.build(recipe.model, recipe.size, stats["mean"], stats["deviation"], seed)
    key = fitting.key_of(
        [recipes.described(recipe), stats, seed, model.dtype_policy.name, digest(train.images.tobytes())]
    )
    own, file = folder / key[:16], folder / f"{key[:16]}.npy"
    with lock(own):
        if not file.is_file():
            logger.info("train: the teacher first, %s parameters", f"{model.count_params():,}")
            history = fitting.fit(model, train, validation, recipe, seed, own, key).history
            mirrored = train.images[:, :, ::-1]
            write_array(file, np.stack([trained.logits(model, train.images), trained.logits(model, mirrored)]))
            checkpoint.clear(own)
            logger.info("train: the teacher has %.2f %% validation accuracy", 100 * history[-1]["validation_accuracy"])
    return np.asarray(np.load(file, allow_pickle=False))
