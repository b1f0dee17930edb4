"""Time what prepares a recipe's images, Python included: `python -m benchmarks.images NAME FOLDER`."""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from tasks import engine, recipes, splits
from tasks.augment import augmenter

CALLS = 12  # after the first, which compiles; an epoch of swift is thirteen or fourteen


def main(name: str, normalised: Path) -> None:
    """Draw images as the engine does, and print a line of JSON."""
    recipe, train = recipes.load(Path(f"recipes/{name}.yaml")), splits.read(normalised, "train")
    tf.config.experimental.enable_op_determinism()
    steps = max(1, engine.IMAGES_PER_CALL // recipe.batch)
    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.int32)]  # as the engine's
    images_at = tf.function(augmenter(train, recipe, 7), signature)
    seconds = []
    for call in range(CALLS + 1):
        start = time.perf_counter()
        order = np.random.default_rng([7, call]).integers(0, len(train.labels), (steps, recipe.batch), np.int32)
        images, _ = images_at(tf.constant(order), tf.constant(call * steps))
        images.numpy()  # the call may return before they are there
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"images_per_second": steps * recipe.batch / statistics.median(seconds[1:])}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
