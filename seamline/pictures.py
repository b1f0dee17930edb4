"""Picture files as the arrays that a classifier takes. Needs Pillow.

A product shot on plain ground is prepared as the pictures of Fashion-MNIST were: cut out, longest edge to 28 pixels,
centred on 28 × 28, negated, 8-bit grey (section 2 of https://arxiv.org/abs/1708.07747). In a photograph the garment is
looked for first (seamline/foreground.py); one that lies flat is wider than one that is worn, as those of Fashion-MNIST
are, so that it is made narrower. A grey picture of 28 × 28 on black is taken as one of Fashion-MNIST's own.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seamline import decoding, foreground
from seamline.decoding import Picture, decode

SIDE = 28
LARGEST_BYTES = decoding.LARGEST_BYTES
TRIM_TOLERANCE = 16  # grey levels from the corner's colour that still count as plain ground
PLAIN_SHARE = 0.98  # of the pixels at the border: more on one colour is a product shot
NARROWER = 0.85  # width of a garment that was worn, to one that lies flat
DARKEST = 30  # grey level of a photographed garment, so that white ones do not vanish on black
MIDDLE_GREY = 127
OPAQUE, HALF = 128, 0.5


def read(path: str | Path) -> NDArray[np.uint8]:
    """The picture in a file, uint8 (28, 28), the garment bright on black.

    Raises:
        ValueError: it is no picture, or too large a one, or shows nothing but its ground.
        OSError: the file cannot be read.
        ModuleNotFoundError: Pillow is not installed.
    """
    try:
        with Path(path).open("rb") as file:
            return read_bytes(file.read(LARGEST_BYTES + 1))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_bytes(content: bytes) -> NDArray[np.uint8]:
    """The picture in the bytes of a file; otherwise as `read`."""
    return prepare(decode(content))


def prepare(picture: Picture) -> NDArray[np.uint8]:
    """A decoded picture as uint8 (28, 28).

    Raises:
        ValueError: it shows nothing but its ground.
    """
    grey = np.asarray(picture.colours.convert("L"))
    if grey.shape == (SIDE, SIDE) and grey[0, 0] == 0 and _is_grey(picture.colours):
        return grey
    if picture.alpha is not None:
        return _framed(255 - grey, np.asarray(picture.alpha) >= OPAQUE)
    plain, ground = _product_shot(grey)
    if plain is not None:
        return _framed(grey if ground <= MIDDLE_GREY else 255 - grey, plain)
    return _framed(np.maximum(255 - grey, DARKEST), foreground.garment(picture.colours), NARROWER)


def _is_grey(colours: Any) -> bool:
    red, green, blue = (np.asarray(band) for band in colours.split())
    return bool((red == green).all() and (green == blue).all())


def _product_shot(grey: NDArray[np.uint8]) -> tuple[NDArray[np.bool_] | None, int]:
    """What differs from a plain ground, (height, width), None if it is not plain; and the grey of the ground."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(int)
    ground = int(np.median(border))
    if (abs(border - ground) <= TRIM_TOLERANCE).mean() < PLAIN_SHARE:
        return None, ground
    return abs(grey.astype(int) - ground) > TRIM_TOLERANCE, ground


def _framed(grey: NDArray[np.uint8], mask: NDArray[np.bool_], width: float = 1.0) -> NDArray[np.uint8]:
    """What the mask shows, on black, centred, its longest edge 28 pixels.

    Args:
        grey: (height, width), the garment bright.
        mask: of the same proportions, smaller perhaps.
        width: to be multiplied with.
    """
    from PIL import Image

    size = (grey.shape[1], grey.shape[0])
    opaque = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    box = Image.fromarray(np.asarray(opaque) > HALF).getbbox()
    if box is None:
        raise ValueError("The picture shows one colour and no garment.")
    across, down = (box[2] - box[0]) * width, box[3] - box[1]
    scale = SIDE / max(across, down)
    inner = (max(1, round(across * scale)), max(1, round(down * scale)))
    lit = Image.fromarray((grey * np.asarray(opaque)).astype(np.float32))
    canvas = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - inner[1]) // 2, (SIDE - inner[0]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = np.asarray(lit.resize(inner, Image.Resampling.BOX, box=box))
    return canvas.round().clip(0, 255).astype(np.uint8)
