"""The bytes of a picture file as an upright, small, 8-bit picture. Needs Pillow.

Pictures come from strangers. Only the formats that customers send are tried; the number of parts and the size are
looked at before a pixel is decoded; whatever Pillow's readers stumble over ends as one line. Broken EXIF data costs
nobody the picture: it is taken as it lies.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seamline.containers import require_few_parts

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
LARGEST_BYTES = 32 * 2**20
LARGEST_PIXELS = 32 * 10**6
LARGEST_JPEG_PIXELS = 80 * 10**6  # in one scan: decoded at a fraction of its size, line by line; telephones make such
ENOUGH = 256  # pixels of the longest edge: from twice as many on, blocks of 2 × 2, 4 × 4 … become one
ORIENTATION = 0x0112  # EXIF
BROKEN = (  # what Pillow's readers raise for broken files
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError),
    *(AssertionError, EOFError, MemoryError, struct.error, zlib.error),
)

_warned = threading.Lock()


class Picture(NamedTuple):
    """What a file shows, its longest edge at most twice ENOUGH."""

    colours: Image  # RGB; what is transparent lies on white
    alpha: Image | None  # L, 0 transparent … 255; None: nothing is transparent


def decode(content: bytes) -> Picture:
    """The picture in the bytes of a file; of an animation the first frame.

    Raises:
        ValueError: it is no picture, a broken one or too large a one.
        ModuleNotFoundError: Pillow is not installed.
    """
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"expected at most {LARGEST_BYTES:,} bytes. Received more.")
    scans = require_few_parts(content)
    with _opened(content) as picture:
        limit = LARGEST_JPEG_PIXELS if scans == 1 else LARGEST_PIXELS
        if picture.width * picture.height > limit:
            raise _too_large(f"{picture.width:,} × {picture.height:,}")
        try:
            block, width = _block(max(picture.size)), picture.width
            picture.draft(None, (ENOUGH, ENOUGH))  # a JPEG is decoded in blocks that are no larger
            small = _eight_bits(picture).reduce(block // round(width / picture.width))
            return _on_white(_upright(small, _orientation(picture)))
        except BROKEN as error:
            raise ValueError(f"not a picture that can be read: {_gist(error)}.") from error


def _too_large(received: str) -> ValueError:
    most = f"{LARGEST_PIXELS:,} pixels, {LARGEST_JPEG_PIXELS:,} in a plain JPEG"
    return ValueError(f"expected at most {most}. Received {received}.")


def _block(longest: int) -> int:
    """The side of the blocks of pixels that become one: a power of two, as JPEG has them."""
    return 1 << max(0, (longest // ENOUGH).bit_length() - 1)


def _opened(content: bytes) -> Image:
    """A picture of which no pixel has been decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _silence():
            return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(f"not a picture that can be read: none of {', '.join(FORMATS)}.") from error
    except Image.DecompressionBombError as error:
        raise _too_large("many more") from error
    except BROKEN as error:
        raise ValueError(f"not a picture that can be read: {_gist(error)}.") from error


def _eight_bits(picture: Image) -> Image:
    """RGB; RGBA where something may be transparent."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would clip
        grey = np.asarray(picture)
        eight = Image.fromarray((grey >> 8).astype(np.uint8))
        opaque = (grey != picture.info.get("transparency", -1)).astype(np.uint8) * np.uint8(255)
        return Image.merge("RGBA", (eight, eight, eight, Image.fromarray(opaque)))
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _orientation(picture: Image) -> object:
    try:
        with _silence():
            return picture.getexif().get(ORIENTATION)
    except BROKEN:
        return None


def _upright(picture: Image, orientation: object) -> Image:
    from PIL.Image import Transpose as To

    order = [To.FLIP_LEFT_RIGHT, To.ROTATE_180, To.FLIP_TOP_BOTTOM, To.TRANSPOSE]
    turns = dict(enumerate([*order, To.ROTATE_270, To.TRANSVERSE, To.ROTATE_90], start=2))
    return picture.transpose(turns[orientation]) if isinstance(orientation, int) and orientation in turns else picture


def _on_white(picture: Image) -> Picture:
    from PIL import Image

    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = Image.new("RGB", picture.size, "white")  # without the file's metadata, so that nobody turns it again
    colours.paste(picture, mask=alpha)
    return Picture(colours, alpha if alpha and alpha.getextrema() != (255, 255) else None)


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings of metadata; one thread at a time, for the filter is everybody's (until Python 3.14)."""
    with _warned, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _gist(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())[:200].rstrip(".")
