"""Training images, drawn anew at every step in the graph: shifted, flipped, partly erased.

Every draw is fixed by seed and step, so that a step can be repeated.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tasks.arrays import SIDE, Images
from tasks.recipes import Recipe

ERASED_AREA = (0.02, 0.4)  # share of the picture: https://arxiv.org/abs/1708.04896, table 1
ERASED_ASPECT = (0.3, 1 / 0.3)  # height / width, likewise
MOVES, FLIPS, WHETHER, AREAS, ASPECTS, PLACES, NOISE = range(7)  # the draws of a step


def augmenter(images: Images, recipe: Recipe, seed: int) -> Callable[[Any, Any], Any]:
    """Images by index, as the recipe has them shifted, flipped and erased.

    Args:
        images: (n, 28, 28) uint8.
        recipe: its shift, flip and erase.
        seed: of every draw, with the number of the step.

    Returns:
        (indices (b,) int32, step () int32) → (b, 28, 28) uint8, and which are mirrored, (b,) int32 of 0 and 1.
    """
    gather = _gatherer(images, recipe)

    def images_at(indices: Any, step: Any) -> tuple[Any, Any]:
        def draw(what: int, shape: tuple[Any, ...], low: Any, high: Any, dtype: Any = tf.float32) -> Any:
            return tf.random.stateless_uniform(shape, tf.stack([seed + (what << 16), step]), low, high, dtype)

        mirrored = (
            draw(FLIPS, (tf.size(indices), 1), 0, 2, tf.int32) if recipe.flip else tf.zeros_like(indices)[:, None]
        )
        found = gather(indices, mirrored, draw)
        return _erased(found, recipe.erase, draw) if recipe.erase else found, mirrored[:, 0]

    return images_at


def _gatherer(images: Images, recipe: Recipe) -> Callable[[Any, Any, Any], Any]:
    """One gather shifts and flips: the images stand padded in memory, and each pixel of the result is looked up."""
    shift, flip = recipe.shift, recipe.flip
    width = SIDE + 2 * shift
    padded = tf.constant(np.pad(images, ((0, 0), (shift, shift), (shift, shift))).reshape(-1))
    whole = tf.constant(images)
    line = tf.range(SIDE)

    def gather(indices: Any, mirrored: Any, draw: Any) -> Any:
        if not shift and not flip:
            return tf.gather(whole, indices)
        shape = (tf.size(indices), 1)
        moves = draw(MOVES, (2, *shape), 0, 2 * shift + 1, tf.int32)
        columns = line + tf.zeros(shape, tf.int32)
        if flip:
            columns = tf.where(mirrored == 1, SIDE - 1 - line, line)
        rows, columns = (line + moves[0]) * width, columns + moves[1]
        return tf.gather(padded, (indices * width * width)[:, None, None] + rows[:, :, None] + columns[:, None, :])

    return gather


def _erased(images: Any, share: float, draw: Any) -> Any:
    """The images, uint8 (b, 28, 28), with noise in a rectangle of some of them."""
    count = tf.shape(images)[0]
    area = SIDE**2 * draw(AREAS, (count,), *ERASED_AREA)
    aspect = tf.exp(draw(ASPECTS, (count,), *np.log(ERASED_ASPECT)))
    sides = tf.minimum(tf.round(tf.sqrt(tf.stack([area * aspect, area / aspect]))), SIDE)  # (2, b)
    starts = tf.floor(draw(PLACES, (2, count), 0.0, 1.0) * (SIDE + 1 - sides))
    line = tf.range(SIDE, dtype=tf.float32)
    rows, columns = tf.unstack((line >= starts[..., None]) & (line < (starts + sides)[..., None]))  # (b, 28) each
    inside = rows[:, :, None] & columns[:, None, :] & (draw(WHETHER, (count, 1, 1), 0.0, 1.0) < share)
    noise = tf.cast(draw(NOISE, tf.shape(images), 0, 256, tf.int32), tf.uint8)
    return tf.where(inside, noise, images)
