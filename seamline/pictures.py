"""Picture files as the arrays that a classifier takes. Needs Pillow.

A product shot on plain ground is prepared as the pictures of Fashion-MNIST were: trimmed by the corner's colour,
longest edge to 28 pixels, sharpened, centred on 28 × 28, negated, 8-bit grey (section 2 of
https://arxiv.org/abs/1708.07747). A grey picture of 28 × 28 on black is taken as one of Fashion-MNIST's own.
Photographs with backgrounds are not handled.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seamline import decoding
from seamline.decoding import decode

SIDE = 28
LARGEST_BYTES = decoding.LARGEST_BYTES
MIDDLE_GREY = 127
TRIM_TOLERANCE = 16  # grey levels from the corner's colour that still count as ground


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
    return prepare(decode(content).colours)


def prepare(picture: Any) -> NDArray[np.uint8]:
    """A Pillow picture as uint8 (28, 28)."""
    from PIL import Image, ImageFilter, ImageOps

    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        ground = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(ground, upright.convert("RGBA"))
    grey = upright.convert("L")
    pixels = np.asarray(grey)
    corner = int(pixels[0, 0])
    if pixels.shape == (SIDE, SIDE) and corner == 0:
        return pixels
    left, top, right, bottom = _box(np.abs(pixels.astype(int) - corner) > TRIM_TOLERANCE)
    cut = grey.crop((left, top, right, bottom))
    cut.thumbnail((SIDE, SIDE))
    cut = cut.filter(ImageFilter.UnsharpMask(radius=1))
    canvas = Image.new("L", (SIDE, SIDE), corner)
    canvas.paste(cut, ((SIDE - cut.width) // 2, (SIDE - cut.height) // 2))
    return np.asarray(ImageOps.invert(canvas) if corner > MIDDLE_GREY else canvas)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The smallest box around what is True: left, top, right, bottom."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("The picture shows one colour and no garment.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
