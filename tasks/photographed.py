"""Training images as a customer would have photographed the garments, and as cutting them out would have left them.

Laid flat, a garment is wider, turned and creased; its sleeves are spread; shoes are seen in pairs and from above; the
light comes from one side and the outline is not quite right. Drawn in the graph, and fixed by `draw`, like all
augmentation. No photograph is needed: the shapes are those of the training images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.arrays import SIDE, Images, Labels

SHOES, SLEEVED = (5, 7, 9), (2, 4, 6)  # sandal, sneaker, ankle boot; pullover, coat, shirt
LIGHT = 12  # grey levels from which on a pixel belongs to a garment
SLEEVES_SPREAD, PAIRS, SEEN_FROM_ABOVE = 0.65, 0.6, 0.6  # shares of the garments that it may happen to
SHOULDER = (0.62, 0.82)  # where a sleeve turns: share of the half width and half height, from the middle
EDGE = 0.3  # share of a pixel from which on it is the garment's
DARKEST = 30.0  # grey level, as seamline.pictures leaves it
FIRST_DRAW = 64  # numbers of draws below are others'

Draw = Callable[..., Any]


class Draws:
    """Random numbers, one after the other, for a batch of images."""

    def __init__(self, draw: Draw, count: Any) -> None:
        self._draw, self._count, self._numbers = draw, count, iter(range(FIRST_DRAW, FIRST_DRAW + 100))

    def one(self, low: float, high: float) -> Any:
        """A number for each image, (b, 1, 1)."""
        return self._draw(next(self._numbers), (self._count, 1, 1), low, high)

    def often(self, share: float) -> Any:
        """True for this share of the images, (b, 1, 1)."""
        return self.one(0, 1) < share

    def field(self, points: int) -> Any:
        """Something smooth between −1 and 1 for each image, (b, 28, 28), from points × points numbers."""
        coarse = self._draw(next(self._numbers), (self._count, points, points, 1), -1.0, 1.0)
        return tf.image.resize(coarse, (SIDE, SIDE), "bicubic")[..., 0]


class Garments(NamedTuple):
    """What is known of each of n images beside its pixels."""

    boxes: NDArray[np.float32]  # (n, 4): middle row and column, height, width of what is not black
    shoes: NDArray[np.bool_]  # (n,)
    sleeved: NDArray[np.bool_]  # (n,)


def garments(images: Images, labels: Labels) -> Garments:
    """Measure (n, 28, 28) images."""
    lit: NDArray[np.bool_] = np.greater(images, LIGHT)
    (top, bottom), (left, right) = _ends(lit, 2), _ends(lit, 1)
    boxes = np.stack([(top + bottom - 1) / 2, (left + right - 1) / 2, bottom - top, right - left], axis=1)
    return Garments(boxes.astype(np.float32), np.isin(labels, SHOES), np.isin(labels, SLEEVED))


def _ends(lit: NDArray[np.bool_], axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first line across an axis with anything in it, and the one after the last, of each image."""
    lines = np.any(lit, axis=axis, keepdims=True).reshape(len(lit), SIDE)
    return lines.argmax(axis=1), SIDE - lines[:, ::-1].argmax(axis=1)


def photographed(images: Any, about: Garments, draw: Draw) -> Any:
    """(b, 28, 28) uint8 → the same, changed; `draw(number, shape, low, high)` gives random numbers."""
    draws = Draws(draw, tf.shape(images)[0])
    grey = tf.cast(images, tf.float32)
    closed = -_largest(-_largest(grey))
    layers = tf.stack([grey, tf.clip_by_value((closed - 8) / 24, 0, 1)], axis=-1)  # and the outline, filled
    seen = _laid_out(layers, about, draws)
    return _lit(seen[..., 0], _cut_out(seen[..., 1], draws), draws)


def _laid_out(layers: Any, about: Garments, draws: Draws) -> Any:
    """The layers (b, 28, 28, 2), turned, stretched, creased, sleeves spread, shoes in pairs."""
    middle_row, middle_column, height, width = (about.boxes[:, k, None, None] for k in range(4))
    pair = about.shoes[:, None, None] & draws.often(PAIRS)
    left, right = draws.one(-0.05, 0.9), draws.one(-0.05, 0.9)  # angles that sleeves are spread by
    spread = about.sleeved[:, None, None] & draws.often(SLEEVES_SPREAD)
    wide = width * tf.exp(draws.one(-0.15, 0.35))
    reach = tf.maximum(wide, 0.65 * wide + 1.6 * height * tf.sin(tf.where(spread, tf.maximum(left, right), 0)))
    lone = SIDE / tf.maximum(height, reach)
    scale = draws.one(0.86, 1.0) * tf.where(pair, tf.minimum(SIDE / wide, 13.5 / height), lone)
    half_width, half_height = wide * scale / 2, height * scale / 2

    x, y = _turned(about.shoes[:, None, None], pair, draws)
    y = tf.where(pair, tf.abs(y) - 1.06 * half_height, y)  # two shoes, mirrored in the line between them
    x, y = x / half_width, y / half_height
    above = pair & draws.often(SEEN_FROM_ABOVE)
    opening = tf.cast(above & (((x - 0.4) / 0.4) ** 2 + (y / 0.5) ** 2 < 1), tf.float32) * draws.one(0, 0.9)
    y = tf.where(above, 1 - 2 * tf.abs(y), y)  # soles inward, so that each is an oval
    x, y = _creased(x, y, draws)

    def at(column: Any, row: Any) -> Any:
        return _sampled(layers, middle_row + row * height / 2, middle_column + column * width / 2)

    hem = draws.one(0.45, 0.65)  # where the body ends and the sleeves begin
    body = at(x, y) * tf.cast((tf.abs(x) < hem) | ~spread, tf.float32)[..., None]
    side = tf.sign(x)
    column, row = _swung(x, y, half_width / half_height, tf.where(side > 0, -right, left), draws)
    sleeves = at(column, row) * tf.cast(spread & (column * side >= hem), tf.float32)[..., None]
    return tf.maximum(body, sleeves) * tf.stack([1 - opening, tf.ones_like(opening)], axis=-1)


def _turned(shoes: Any, pair: Any, draws: Draws) -> tuple[Any, Any]:
    """Each pixel's place, (b, 28, 28) across and down from the middle: garments hardly turned, shoes every way."""
    line = tf.range(SIDE, dtype=tf.float32) - (SIDE - 1) / 2
    down, across = line[None, :, None], line[None, None, :]
    upright = tf.sign(draws.one(-1, 1)) * np.pi / 2 + draws.one(-0.5, 0.5)
    lying = tf.where(draws.often(0.6), draws.one(-1.8, 1.8), draws.one(-0.3, 0.3))
    hardly = draws.one(-0.26, 0.26) * draws.one(0.3, 1)
    turn = tf.where(shoes, tf.where(pair & draws.often(0.7), upright, lying), hardly)
    return tf.cos(turn) * across + tf.sin(turn) * down, tf.cos(turn) * down - tf.sin(turn) * across


def _swung(x: Any, y: Any, proportion: Any, angle: Any, draws: Draws) -> tuple[Any, Any]:
    """Where on a hanging sleeve each place of a spread one comes from: turned about the shoulder, thicker, longer."""
    thicker, longer = draws.one(0.9, 1.6), draws.one(0.9, 1.4)
    shoulder = tf.sign(x) * SHOULDER[0]
    out, below = (x - shoulder) * proportion, y + SHOULDER[1]
    column = shoulder + (tf.cos(angle) * out + tf.sin(angle) * below) / thicker / proportion
    return column, (tf.cos(angle) * below - tf.sin(angle) * out) * longer - SHOULDER[1]


def _creased(x: Any, y: Any, draws: Draws) -> tuple[Any, Any]:
    """Places in a garment, −1 … 1, moved as if its width changed from row to row, and unevenly everywhere."""
    taper, waist, wave, phase = draws.one(-1, 1), draws.one(-1, 1), draws.one(-1, 1), draws.one(-3, 3)

    def width(row: Any) -> Any:
        return 1 + 0.22 * (taper * row + waist * (row**2 - 0.4) + wave * tf.sin(3 * row + phase))

    widest = tf.reduce_max(tf.stack([width(row) for row in (-1.0, 0.0, 0.5, 1.0)]), axis=0)
    x = x * tf.maximum(widest, 1) / width(tf.clip_by_value(y, -1.2, 1.2)) + 0.12 * draws.one(-1, 1) * y
    return x + 0.08 * draws.field(4), y + 0.08 * draws.field(4)


def _cut_out(outline: Any, draws: Draws) -> Any:
    """The outline, 0 … 1, half of the time with mistakes."""
    soft = tf.nn.avg_pool2d(tf.nn.avg_pool2d(outline[..., None], 3, 1, "SAME"), 3, 1, "SAME")[..., 0]
    mistaken = tf.clip_by_value(
        (soft + draws.field(7) * draws.one(0, 0.35) + draws.one(-0.1, 0.3) - 0.5) * 4 + 0.5, 0, 1
    )
    return tf.where(draws.often(0.5), mistaken, outline)


def _lit(grey: Any, outline: Any, draws: Draws) -> Any:
    """The garment in another light, darker or brighter, now and then negated; blurred and noisy; uint8."""
    mean = tf.reduce_sum(grey * outline, (1, 2), keepdims=True) / (tf.reduce_sum(outline, (1, 2), keepdims=True) + 1e-3)
    contrast = tf.exp(draws.one(-1.2, 0.3)) * tf.where(draws.often(0.2), -1.0, 1.0)
    level = tf.where(draws.often(0.4), mean, draws.one(50, 225))
    line = tf.range(SIDE, dtype=tf.float32) / (SIDE / 2) - 1
    slope = draws.one(-0.35, 0.35) * line[None, None, :] + draws.one(-0.35, 0.35) * line[None, :, None]
    seen = (level + (grey - mean) * contrast) * (1 + draws.one(0, 1) * slope) + draws.field(5) * draws.one(0, 30)
    seen = tf.maximum(seen, DARKEST) * outline
    blur = tf.where(draws.often(0.3), draws.one(0, 0.8), 0.0)
    seen += blur * (tf.nn.avg_pool2d(seen[..., None], 3, 1, "SAME")[..., 0] - seen)
    seen += draws.field(SIDE) * draws.one(0, 12) * tf.cast(outline > EDGE, tf.float32)
    return tf.cast(tf.clip_by_value(tf.round(seen), 0, 255), tf.uint8)


def _largest(grey: Any) -> Any:
    return tf.nn.max_pool2d(grey[..., None], 3, 1, "SAME")[..., 0]


def _sampled(layers: Any, rows: Any, columns: Any) -> Any:
    """Bilinear: layers (b, 28, 28, 2) at places (b, 28, 28); nothing outside."""
    count, width = tf.shape(layers)[0], SIDE + 4
    flat = tf.reshape(tf.pad(layers, ((0, 0), (2, 2), (2, 2), (0, 0))), (count, -1, 2))
    rows, columns = (tf.clip_by_value(place + 2, 0, width - 1.001) for place in (rows, columns))
    top, left = tf.floor(rows), tf.floor(columns)
    below, right = (rows - top)[..., None], (columns - left)[..., None]
    corner = tf.cast(top * width + left, tf.int32)

    def at(step: int) -> Any:
        return tf.gather(flat, corner + step, batch_dims=1)

    upper = at(0) * (1 - right) + at(1) * right
    lower = at(width) * (1 - right) + at(width + 1) * right
    return upper * (1 - below) + lower * below
