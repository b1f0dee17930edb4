"""Where in a photograph the garment is: the part in the middle whose colours the ground at the edges lacks.

GrabCut's idea (https://doi.org/10.1145/1186562.1015720): two mixtures of Gaussians, of the garment's and of the
ground's colours, and pixels that agree with their neighbours unless an edge lies between, in turns until they settle.
In place of graph cuts a few rounds of mean field, which numpy does in a millisecond; the mixtures are those of a
palette's few colours, not of every pixel.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # pixels of the longest edge that the work is done at
COLOURS = 64  # of the palette
GARMENT_COLOURS, GROUND_COLOURS = 4, 5  # Gaussians
ROUNDS, MEAN_FIELD_ROUNDS, CLUSTER_ROUNDS = 3, 5, 5
SPREAD = 9.0  # least variance of a colour, in squared units of CIELAB
SMOOTHNESS = 4.0  # how much neighbours count
MIDDLE = 2.0  # how much the middle of the picture is preferred
EDGE = 2  # pixels at the border that are ground, until the colours say otherwise
SURE = 0.9  # from here on a pixel at the edge may be garment
LESS = 0.6  # weight of the upper and lower edge, which garments touch more often
KEPT_SHARE = 0.25  # of the main part's weight: smaller parts are dropped
PARTS = 4  # at most

Mask = NDArray[np.bool_]
Field = NDArray[np.float64]  # as JavaScript counts, so that the page finds the same garment; float32 is no faster here


class Mixture(NamedTuple):
    """Gaussians over colours."""

    logs: Field  # (k,) logarithm of share / √determinant
    means: Field  # (k, 3)
    precisions: Field  # (k, 3, 3)


def garment(picture: Any) -> Mask:
    """The garment's pixels, in a reduced picture.

    Args:
        picture: a Pillow picture in RGB.

    Returns:
        (height, width), the longer of them `SIDE`; none is True if nothing stands out.
    """
    from PIL import Image

    scale = SIDE / max(picture.size)
    width, height = (max(2 * EDGE + 1, round(side * scale)) for side in picture.size)  # something beyond the edges
    small = picture.resize((width, height), Image.Resampling.BOX)
    quantised = small.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.asarray(quantised.getpalette(), np.uint8).reshape(-1, 3)
    return _kept(_settled(lab(np.asarray(small)), np.asarray(quantised), lab(palette)) > 0)


def lab(rgb: NDArray[np.uint8]) -> Field:
    """From sRGB to CIELAB (D65): uint8 (…, 3) → float64 (…, 3), lightness first.

    Without CIELAB's linear part near black, so that lightness is −16 … 100.
    """
    roots = np.cbrt(_LINEAR[rgb] @ _TO_XYZ)
    x, y, z = roots[..., 0], roots[..., 1], roots[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_RAMP = np.arange(256) / 255
_KNEE = 0.04045  # of sRGB: linear below it
_LINEAR = np.where(_RAMP <= _KNEE, _RAMP / 12.92, ((_RAMP + 0.055) / 1.055) ** 2.4)
_TO_XYZ = np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
_TO_XYZ /= [0.9505, 1.0, 1.089]


def _settled(colours: Field, indices: NDArray[np.uint8], palette: Field) -> Field:
    """Logits of being garment, (h, w)."""
    height, width = indices.shape
    place, edge, border = _places(height, width)
    count = len(palette)

    def amounts(weights: Field) -> Field:
        return np.bincount(indices.ravel(), weights.ravel(), count).astype(float)

    ground = likelihood(palette, mixture(palette, amounts(border), GROUND_COLOURS))[indices]
    unlike = _sigmoid(
        0.7 * (np.percentile(ground[edge], 10) - ground)
    )  # the ground at the edges, its rarest tenth left out
    share = unlike * _sigmoid(2 * place)
    ties = _ties(colours)
    logits = place
    for _ in range(ROUNDS):
        of_garment = mixture(palette, amounts(share * ~border.astype(bool)), GARMENT_COLOURS)
        of_ground = mixture(palette, amounts(1 - share + 2 * edge * (share < SURE)), GROUND_COLOURS)
        odds = np.clip(likelihood(palette, of_garment) - likelihood(palette, of_ground), -6, 6)
        own = odds[indices] + place - 2.0 * edge
        logits = _smoothed(own, ties)
        share = _sigmoid(logits)
    return logits


def _places(height: int, width: int) -> tuple[Field, Mask, Field]:
    """Logits of being garment by place alone; the edge; and how much each of the edge's pixels counts as ground."""
    y = ((np.arange(height) + 0.5) / height * 2 - 1)[:, None]
    x = ((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
    place: Field = np.clip(MIDDLE * (1 - (x / 0.75) ** 2 - (y / 0.9) ** 2), -3, 2)
    edge: Mask = np.ones((height, width), bool)
    edge[EDGE:-EDGE, EDGE:-EDGE] = False
    border: Field = np.where(edge, np.where(np.abs(y) > 1 - EDGE / SIDE, LESS, 1.0), 0.0)
    return place, edge, border


def mixture(colours: Field, amounts: Field, count: int) -> Mixture:
    """Gaussians fitted to colours, (n, 3), of which there are these amounts, (n,), by k-means; at most `count`."""
    used = amounts > 0
    colours, amounts = colours[used], amounts[used]
    belongs = _clusters(colours, amounts, count) * amounts  # (count, n)
    belongs = belongs[belongs.sum(1) > 0.001 * amounts.sum()]
    sums = belongs.sum(1)
    means = belongs @ colours / sums[:, None]
    squares = (colours[:, :, None] * colours[:, None, :]).reshape(-1, 9)
    moments = (belongs @ squares / sums[:, None]).reshape(-1, 3, 3)
    covariances = moments - means[:, :, None] * means[:, None, :] + SPREAD * np.eye(3)
    logs = np.log(sums / sums.sum()) - 0.5 * np.log(np.linalg.det(covariances))
    return Mixture(logs, means, np.linalg.inv(covariances))


def _clusters(colours: Field, amounts: Field, count: int) -> Mask:
    """k-means, from colours far from one another; which colour belongs to which cluster, (count, n)."""
    mean = amounts @ colours / amounts.sum()
    means = [colours[((colours - mean) ** 2).sum(1).argmin()]]
    distance = ((colours - means[0]) ** 2).sum(1)
    for _ in range(count - 1):
        means.append(colours[(distance * np.minimum(amounts, 1)).argmax()])
        distance = np.minimum(distance, ((colours - means[-1]) ** 2).sum(1))
    centres = np.array(means)
    for _ in range(CLUSTER_ROUNDS):
        nearest = ((centres**2).sum(1)[:, None] - 2 * centres @ colours.T).argmin(0)
        belongs: Mask = nearest == np.arange(count)[:, None]
        amount = belongs @ amounts
        centres = np.where(
            amount[:, None] > 0, (belongs * amounts) @ colours / np.maximum(amount, 1e-9)[:, None], centres
        )
    return belongs


def likelihood(colours: Field, of: Mixture) -> Field:
    """Logarithm of the density of each colour, up to a constant: (n, 3) → (n,)."""
    if not len(of.logs):
        return np.full(len(colours), -20.0)
    away = colours[None] - of.means[:, None]  # (k, n, 3)
    terms = of.logs[:, None] - 0.5 * ((away @ of.precisions) * away).sum(-1)
    most = terms.max(0)
    density: Field = most + np.log(np.exp(terms - most).sum(0))
    return density


_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # to a half of the neighbours; the others are their opposites


def _ties(colours: Field) -> list[Field]:
    """How much each pixel has to do with the neighbour a step away: less across an edge; 0 outside."""
    height, width = colours.shape[:2]
    squares = []
    for down, right in _STEPS:
        square = np.full((height, width), np.inf)
        here, there = _pair(colours.shape[:2], down, right)
        square[here] = ((colours[here] - colours[there]) ** 2).sum(-1)
        squares.append(square)
    usual = np.mean([square[np.isfinite(square)].mean() for square in squares])
    return [
        np.exp(-square / (usual + 1e-6)) * (0.7 if down and right else 1.0)
        for square, (down, right) in zip(squares, _STEPS, strict=True)
    ]


def _pair(shape: tuple[int, ...], down: int, right: int) -> tuple[Any, Any]:
    """Slices of all pixels that have a neighbour a step away, and of those neighbours."""
    height, width = shape
    columns = (slice(0, width - right), slice(right, width)) if right >= 0 else (slice(-right, width), slice(0, right))
    return (slice(0, height - down), columns[0]), (slice(down, height), columns[1])


def _smoothed(own: Field, ties: list[Field]) -> Field:
    """Logits after each pixel has listened to its neighbours: mean field of a Potts model."""
    pairs = [(*_pair(own.shape, *step), tie) for step, tie in zip(_STEPS, ties, strict=True)]
    logits = own
    for _ in range(MEAN_FIELD_ROUNDS):
        leaning = np.tanh(logits / 2)
        heard = np.zeros_like(own)
        for here, there, tie in pairs:
            heard[here] += tie[here] * leaning[there]
            heard[there] += tie[here] * leaning[here]
        logits = own + SMOOTHNESS / 2 * heard
    return logits


def _kept(mask: Mask) -> Mask:
    """The main part, others that are not much smaller, and their holes."""
    height, width = mask.shape
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    middle = np.exp(-((x / 0.75) ** 2) - (y / 0.9) ** 2)
    parts, rest = [], mask
    for _ in range(PARTS):
        if not rest.any():
            break
        seed = np.zeros_like(mask)
        seed.flat[(rest * middle).argmax()] = True
        part = flooded(seed, rest)
        parts.append(((part * middle).sum(), part))
        rest = rest & ~part
    most = max((weight for weight, _ in parts), default=0.0)
    kept = np.zeros_like(mask)
    for weight, part in parts:
        if weight >= KEPT_SHARE * most:
            kept |= part
    outside = np.ones_like(mask)
    outside[1:-1, 1:-1] = False
    return ~flooded(outside, ~kept)


def flooded(seed: Mask, allowed: Mask) -> Mask:
    """What of `allowed` is connected to `seed`, over edges of pixels: whole rows and columns of it at a time."""
    reached = seed & allowed
    while True:
        before = reached.sum()
        reached = _along_rows(_along_rows(reached, allowed).T, allowed.T).T
        if reached.sum() == before:
            return reached


def _along_rows(reached: Mask, allowed: Mask) -> Mask:
    ends = np.ones((allowed.shape[0], 1), bool)
    runs = np.cumsum(np.concatenate([~allowed, ends], axis=1).ravel())  # a number for each run of allowed pixels
    runs = runs.reshape(len(allowed), -1)[:, :-1]
    hit = np.bincount(runs.ravel(), reached.ravel(), runs.max() + 1) > 0
    found: Mask = hit[runs] & allowed
    return found


def _sigmoid(logits: Any) -> Field:
    share: Field = 1 / (1 + np.exp(-logits))
    return share
