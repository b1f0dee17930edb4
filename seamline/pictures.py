"""Picture files as the arrays that a classifier takes. Needs Pillow.

A product shot on plain ground is prepared as the pictures of Fashion-MNIST were: cut out, longest edge to 28 pixels,
centred on 28 × 28, negated, 8-bit grey (section 2 of https://arxiv.org/abs/1708.07747). In a photograph the garment is
looked for first (seamline/foreground.py); one that lies flat is wider than one that is worn, as those of Fashion-MNIST
are, by nobody knows how much: it has several views, to be averaged. A grey picture of 28 × 28 on black is taken
as one of Fashion-MNIST's own.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import decoding, foreground
from seamline.decoding import Picture, decode

SIDE = 28
LARGEST_BYTES = decoding.LARGEST_BYTES
TRIM_TOLERANCE = 16  # grey levels from the corner's colour that still count as plain ground
PLAIN_SHARE = 0.98  # of the pixels at the border: more on one colour is a product shot
NARROWER = (0.8, 0.7, 0.9)  # width of a garment that is worn, to one that lies flat: the likeliest first
DARKEST = 30  # grey level of a photographed garment, so that white ones do not vanish on black
MIDDLE_GREY = 127
OPAQUE, HALF = 128, 0.5


def read(path: str | Path) -> NDArray[np.uint8]:
    """The picture in a file, uint8 (28, 28), the garment bright on black: the likeliest of `from_picture`'s views."""
    view: NDArray[np.uint8] = from_picture(path)[0]
    return view


def from_picture(source: str | Path | bytes) -> NDArray[np.uint8]:
    """The views of the garment in a picture file: `Classifier.classify_views` says what they show.

    Args:
        source: its path, or its bytes.

    Returns:
        uint8 (v, 28, 28), bright on black: one view of a product shot, six of a photograph.

    Raises:
        ValueError: it is no picture, or too large a one, or shows nothing but its ground.
        OSError: the file cannot be read.
        ModuleNotFoundError: Pillow is not installed.
    """
    if isinstance(source, bytes):
        return views(decode(source))
    try:
        with Path(source).open("rb") as file:
            return views(decode(file.read(LARGEST_BYTES + 1)))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def views(picture: Picture) -> NDArray[np.uint8]:
    """A decoded picture as uint8 (v, 28, 28), as `from_picture` has it.

    Raises:
        ValueError: it shows nothing but its ground.
    """
    grey = np.asarray(picture.colours.convert("L"))
    if grey.shape == (SIDE, SIDE) and grey[0, 0] == 0 and _is_grey(picture.colours):
        return grey[None]
    if picture.alpha is not None:
        return _framed(_cut_out(255 - grey, np.asarray(picture.alpha) >= OPAQUE))[None]
    plain, ground = _product_shot(grey)
    if plain is not None:
        return _framed(_cut_out(grey if ground <= MIDDLE_GREY else 255 - grey, plain))[None]
    garment = _cut_out(np.maximum(255 - grey, DARKEST), foreground.garment(picture.colours))
    narrower = np.stack([_framed(garment, width) for width in NARROWER])
    return np.concatenate([narrower, narrower[:, :, ::-1]])


def _is_grey(colours: Any) -> bool:
    red, green, blue = (np.asarray(band) for band in colours.split())
    return bool((red == green).all() and (green == blue).all())


def _product_shot(grey: NDArray[np.uint8]) -> tuple[NDArray[np.bool_] | None, int]:
    """What differs from a plain ground, (height, width), None if it is not plain; and the grey of the ground."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = int(np.median(border))
    if (~_differs(border, ground)).mean() < PLAIN_SHARE:
        return None, ground
    return _differs(grey, ground), ground


def _differs(grey: NDArray[np.uint8], ground: int) -> NDArray[np.bool_]:
    return (grey < ground - TRIM_TOLERANCE) | (grey > ground + TRIM_TOLERANCE)


class CutOut(NamedTuple):
    """A garment on black."""

    lit: NDArray[np.float32]  # (height, width), grey levels
    box: tuple[int, int, int, int]  # left, upper, right and lower end of all that is not black


def _cut_out(grey: NDArray[np.uint8], mask: NDArray[np.bool_]) -> CutOut:
    """What the mask shows.

    Args:
        grey: (height, width), the garment bright.
        mask: of the same proportions, smaller perhaps.

    Raises:
        ValueError: it shows nothing.
    """
    from PIL import Image

    opaque: NDArray[Any] = mask
    if mask.shape != grey.shape:
        size = (grey.shape[1], grey.shape[0])
        opaque = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        mask = opaque > HALF
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("The picture shows one colour and no garment.")
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return CutOut(np.multiply(grey, opaque, dtype=np.float32), box)


def _framed(garment: CutOut, width: float = 1.0) -> NDArray[np.uint8]:
    """Centred on 28 × 28, the longest edge 28 pixels; the width is multiplied first."""
    from PIL import Image

    left, upper, right, lower = garment.box
    across, down = (right - left) * width, lower - upper
    scale = SIDE / max(across, down)
    inner = (max(1, round(across * scale)), max(1, round(down * scale)))
    small = Image.fromarray(garment.lit).resize(inner, Image.Resampling.BOX, box=garment.box)
    x, y = ((SIDE - side + 1) // 2 for side in inner)  # as most of Fashion-MNIST, where it is odd
    canvas = np.zeros((SIDE, SIDE), np.float32)
    canvas[y : y + inner[1], x : x + inner[0]] = np.asarray(small)
    return canvas.round().clip(0, 255).astype(np.uint8)
