"""The IDX format that MNIST introduced: two zero bytes, type, number of dimensions, sizes, then the values.

Described at https://github.com/cvdfoundation/mnist#file-format. Only unsigned bytes (type 8) are read.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.arrays import Split
from tasks.errors import DataError

UNSIGNED_BYTE = 8
PREFIX = 4  # bytes before the sizes


def parse(content: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file.

    Args:
        content: the whole file, uncompressed.

    Returns:
        uint8, of the shape that the header states; read-only.

    Raises:
        ValueError: the header is not IDX of unsigned bytes, or the length does not fit it.
    """
    if len(content) < PREFIX or content[:2] != b"\0\0":
        raise ValueError(
            f"Expected an IDX header (two zero bytes first). Received {content[:PREFIX].hex() or 'nothing'}."
        )
    kind, dimensions = content[2], content[3]
    if kind != UNSIGNED_BYTE or not dimensions:
        raise ValueError(
            f"Expected IDX of unsigned bytes (type 8, 1 dimension or more). Received type {kind}, {dimensions}."
        )
    start = PREFIX + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"Expected {start} header bytes. Received {len(content)}.")
    shape = struct.unpack(f">{dimensions}I", content[PREFIX:start])
    expected = start + int(np.prod(shape, dtype=object))  # object: sizes from a broken header must not overflow
    if len(content) != expected:
        raise ValueError(f"Expected {expected:,} bytes for shape {shape}. Received {len(content):,}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file on disk; a broken one is a DataError that names it."""
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is broken: {error} Delete it and run `dvc repro ingest`.") from error


def read_split(folder: Path, name: str) -> Split:
    """Images and labels of the split `name` ("train" or "t10k")."""
    return Split(read(folder / f"{name}-images-idx3-ubyte"), read(folder / f"{name}-labels-idx1-ubyte"))
