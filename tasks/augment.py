"""Training images, drawn anew each time in the graph: shifted, flipped, partly erased.

Where the recipe says so, some are made to look photographed, and some are no garments at all: strangers, which the
model learns to be unsure of (https://arxiv.org/abs/1812.04606). Several batches are drawn at once, since that is a
hundred small operations however few images there are. Every draw is fixed by the seed and the first batch's step, so
that it can be repeated. What is flipped is not drawn but alternates from epoch to epoch, from a beginning that is, so
that two epochs show each image both ways (https://arxiv.org/abs/2404.00498).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tasks import photographed
from tasks.arrays import SIDE, Split
from tasks.recipes import Recipe

ERASED_AREA = (0.02, 0.4)  # share of the picture: https://arxiv.org/abs/1708.04896, table 1
ERASED_ASPECT = (0.3, 1 / 0.3)  # height / width, likewise
MOVES, FLIPS, WHETHER, AREAS, ASPECTS, PLACES, NOISE, KINDS, LEVELS, COARSE, PIECES = range(11)  # what is drawn
LINES, WIDTHS, BOXES, CORNERS, TURNS = range(11, 16)
SMALLEST_BOX = 8.0  # pixels that pen strokes are at least given, in height and in width


def strangers(recipe: Recipe) -> int:
    """How many images of a batch, its first, are strangers."""
    return round(recipe.strangers * recipe.batch)


def augmenter(train: Split, recipe: Recipe, seed: int) -> Callable[[Any, Any], Any]:
    """Images by index, as the recipe has them changed.

    Args:
        train: n images and their labels.
        recipe: its shift, flip, erase, strangers and photographed.
        seed: of every draw, with the number of the step.

    Returns:
        (indices (s, b) int32 of s batches, step () int32 of the first) → (s, b, 28, 28) uint8, the first of each batch
        strangers, and which are mirrored, (s, b) int32 of 0 and 1.
    """
    gather, change = _gatherer(train.images, recipe), _changer(train, recipe)
    steps_per_epoch = max(1, len(train.images) // recipe.batch)
    begins = tf.constant(np.random.default_rng([seed, 0, FLIPS]).integers(0, 2, len(train.images), np.int32))

    def images_at(batches: Any, step: Any) -> tuple[Any, Any]:
        def draw(what: int, shape: tuple[Any, ...], low: Any, high: Any, dtype: Any = tf.float32) -> Any:
            return tf.random.stateless_uniform(shape, tf.stack([seed + (what << 16), step]), low, high, dtype)

        shape, indices = tf.shape(batches), tf.reshape(batches, [-1])
        turned = (tf.gather(begins, indices) + step // steps_per_epoch) % 2
        mirrored = turned if recipe.flip else tf.zeros_like(indices)
        found = gather(indices, mirrored[:, None], draw)
        found = _erased(found, recipe.erase, draw) if recipe.erase else found
        found, mirrored = tf.reshape(found, (*tf.unstack(shape), SIDE, SIDE)), tf.reshape(mirrored, shape)
        return change(found, batches, mirrored, draw), mirrored

    return images_at


def _changer(train: Split, recipe: Recipe) -> Callable[[Any, Any, Any, Any], Any]:
    """The first images of each batch become strangers, those after them look photographed."""
    strange = strangers(recipe)
    changed = strange + round(recipe.photographed * recipe.batch)
    if not changed:
        return lambda found, *_: found
    whole = tf.constant(train.images)
    about = photographed.Garments(*map(tf.constant, photographed.garments(train.images, train.labels)))

    def own(batches: Any, mirrored: Any) -> Any:
        images = tf.gather(whole, tf.reshape(batches, [-1]))
        return tf.where(tf.reshape(mirrored, (-1, 1, 1)) == 1, images[:, :, ::-1], images)

    def seen(batches: Any, mirrored: Any, draw: Any) -> Any:
        boxes, shoes, sleeved = (tf.gather(one, tf.reshape(batches, [-1])) for one in about)
        row, column, height, width = tf.unstack(boxes, axis=1)
        column = tf.where(tf.reshape(mirrored, [-1]) == 1, SIDE - 1 - column, column)
        these = photographed.Garments(tf.stack([row, column, height, width], axis=1), shoes, sleeved)
        return photographed.photographed(own(batches, mirrored), these, draw)

    def change(found: Any, batches: Any, mirrored: Any, draw: Any) -> Any:
        parts, steps = [found[:, changed:]], tf.shape(batches)[0]
        if changed > strange:
            these = seen(batches[:, strange:changed], mirrored[:, strange:changed], draw)
            parts.insert(0, tf.reshape(these, (steps, changed - strange, SIDE, SIDE)))
        if strange:
            these = _strange(own(batches[:, :strange], mirrored[:, :strange]), draw)
            parts.insert(0, tf.reshape(these, (steps, strange, SIDE, SIDE)))
        return tf.concat(parts, axis=1)

    return change


def _strange(images: Any, draw: Any) -> Any:
    """No garments, uint8 (b, 28, 28): noise fine and coarse, plain grey, pen strokes, negatives, pieces of garments."""
    count = tf.shape(images)[0]
    noise = tf.cast(draw(NOISE, tf.shape(images), 0, 256, tf.int32), tf.uint8)
    coarse = tf.image.resize(draw(COARSE, (count, 7, 7, 1), 0.0, 255.0), (SIDE, SIDE), "bilinear")[..., 0]
    plain = tf.zeros_like(images) + tf.cast(draw(LEVELS, (count, 1, 1), 0, 256, tf.int32), tf.uint8)
    quarters = tf.roll(images, (SIDE // 2, SIDE // 2), (1, 2))
    starts = draw(PIECES, (count, 2), 0.1, 0.5)
    piece = tf.image.crop_and_resize(
        tf.cast(images, tf.float32)[..., None], tf.concat([starts, starts + 0.4], 1), tf.range(count), (SIDE, SIDE)
    )[..., 0]
    own = [255 - images, quarters, tf.cast(piece, tf.uint8)]
    kinds = [noise, tf.cast(coarse, tf.uint8), plain, *own, *_written(count, draw)]
    chosen = draw(KINDS, (count,), 0, len(kinds), tf.int32)
    return tf.gather(tf.stack(kinds, axis=1), chosen, batch_dims=1)


def _written(count: Any, draw: Any) -> list[Any]:
    """Bright pen strokes on black, uint8 (count, 28, 28) each: a Bézier curve, two and three that join, two round ones.

    Each picture's strokes lie in a box of its own, as signs do.
    """
    box = draw(BOXES, (count, 1, 2), SMALLEST_BOX, SIDE - 1.0)
    corner = draw(CORNERS, (count, 1, 2), 0.0, 1.0) * (SIDE - 1.0 - box)
    control = draw(LINES, (count, 10, 2), 0.0, 1.0)  # a curve begins where the one before ends
    curves = [tf.einsum("pc,bcd->bpd", _BERNSTEIN, control[:, first : first + 4]) for first in (0, 3, 6)]
    far = tf.stack([_distances(corner + box * points) for points in curves])
    away = [tf.reduce_min(far[:many], axis=0) for many in (1, 2, 3)]
    away.append(_distances(corner + box * _round(draw(TURNS, (count, 2, 2), 0.0, 1.0))))
    nib = draw(WIDTHS, (count, 1, 1), 0.7, 3.0)  # half of the stroke's width in pixels
    return [tf.cast(255 * tf.clip_by_value(nib + 0.5 - pixels, 0, 1), tf.uint8) for pixels in away]


def _round(turns: Any) -> Any:
    """Two arcs, one above the other, from half of an ellipse to a whole one.

    Args:
        turns: where each begins and how long it is, (b, 2, 2) in 0 … 1.

    Returns:
        Points, (b, 80, 2) in 0 … 1.
    """
    angles = 2 * np.pi * (turns[..., :1] + (0.5 + 0.5 * turns[..., 1:]) * _ALONG[:, 0])  # (b, 2, 40)
    rows = tf.constant([[0.25], [0.75]]) + 0.25 * tf.sin(angles)
    points = tf.stack([rows, 0.5 + 0.5 * tf.cos(angles)], axis=-1)
    return tf.reshape(points, (-1, 2 * len(_ALONG), 2))


def _distances(points: Any) -> Any:
    """How far each pixel lies from the nearest of some points: (b, p, 2) → (b, 28, 28) pixels."""
    line = tf.range(SIDE, dtype=tf.float32)[None, :, None]
    rows, columns = tf.unstack(points[:, None], axis=-1)  # (b, 1, p)
    squares = ((line - rows) ** 2)[:, :, None] + ((line - columns) ** 2)[:, None]  # (b, 28, 28, p)
    return tf.sqrt(tf.reduce_min(squares, axis=-1))


_ALONG = np.linspace(0, 1, 40, dtype=np.float32)[:, None]  # of a stroke: its points lie less than two pixels apart
_BERNSTEIN = (_ALONG ** np.arange(4) * (1 - _ALONG) ** np.arange(3, -1, -1) * [1, 3, 3, 1]).astype(np.float32)


def _gatherer(images: Any, recipe: Recipe) -> Callable[[Any, Any, Any], Any]:
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
