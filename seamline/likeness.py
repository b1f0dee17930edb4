"""What is like what: an index of a shop's pictures by their embeddings, and the nearest of them by cosine.

Up to EXACT_ITEMS the answer is one matrix product, and exact. Beyond, faiss answers if it is installed
(`seamline/lists.py`); otherwise the product goes on answering, and a warning says so.

An index's file has the layout of https://github.com/huggingface/safetensors#format, which any language reads: every
size stands in a short header and is compared with the file's before anything is made of it. Not .npz: an archive with
a million entries takes memory before it can be refused.
"""

import fcntl
import hashlib
import json
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import lists

EXACT_ITEMS = 100_000
LARGEST_PRODUCT = 2**24  # likenesses in memory at a time: 64 MiB
LARGEST_ITEMS = 10**7
LARGEST_BYTES = 4 * 2**30
LARGEST_HEADER_BYTES = 4096
FORMAT = "seamline likeness 2"  # the number rises, too, when pictures are prepared otherwise (seamline/pictures.py)
AGAIN = "Make it again: seamline index FOLDER"
LENGTH_TOLERANCE = 0.001  # of a row's length from 1


class Neighbour(NamedTuple):
    """A picture of an index, and how alike it is to the one asked about."""

    name: str
    likeness: float  # cosine: 1 the same direction, 0 nothing in common, −1 opposite


class Index:
    """Pictures by what a model sees in them. It never changes, so several threads may ask it.

    Args:
        names: of the pictures, one each; without NUL.
        embeddings: float32 (n, d), n ≥ 1, rows of length 1, as `Classifier.embed` gives them.
        model: `Classifier.digest` of the model that made them.

    Raises:
        ValueError: another type, shape or length, or not as many names.
    """

    def __init__(self, names: Sequence[str], embeddings: NDArray[np.float32], model: str) -> None:
        self.names = tuple(names)
        self.embeddings = _rows(embeddings)
        self.model = model
        if not 1 <= len(self.names) == len(self.embeddings) or any("\0" in name for name in self.names):
            raise ValueError(
                f"Expected one name (without NUL) for each embedding, and at least one. "
                f"Received {len(self.names):,} names and {len(self.embeddings):,} embeddings."
            )
        self._lock = threading.Lock()
        self._lists: lists.Lists | None = None

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, embeddings: NDArray[np.float32], k: int = 10, *, exact: bool = False) -> list[list[Neighbour]]:
        """The pictures nearest to each embedding, the most alike first.

        Args:
            embeddings: float32 (m, d) or (d,), rows of length 1, of the same model.
            k: how many, ≥ 1; all there are where they are fewer.
            exact: compare with every picture beyond EXACT_ITEMS, too, where faiss looks at the likeliest only. Its
                lists are made at the first question, which takes seconds.

        Raises:
            ValueError: another type, shape or length; or no k.
        """
        asked = _rows(np.atleast_2d(embeddings))
        if k < 1 or asked.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"Expected embeddings (m, {self.embeddings.shape[1]}) and k ≥ 1. Received {asked.shape} and k = {k}."
            )
        rows, likeness = self._found(asked, min(k, len(self)), exact=exact)
        return [
            [Neighbour(self.names[row], value) for row, value in zip(*found, strict=True)]
            for found in zip(rows.tolist(), likeness.tolist(), strict=True)
        ]

    def _found(
        self, asked: NDArray[np.float32], k: int, *, exact: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not exact and len(self) > EXACT_ITEMS:
            try:
                with self._lock:
                    self._lists = self._lists or lists.Lists(self.embeddings)
            except ModuleNotFoundError as error:
                warnings.warn(f"{len(self):,} pictures are compared one by one. {error}", stacklevel=3)
            else:
                rows, likeness = self._lists.nearest(asked, k)
                if (rows >= 0).all():  # else the lists that were looked at hold fewer than k
                    return rows, np.clip(likeness, -1, 1)
        return nearest(self.embeddings, asked, k)


def nearest(
    items: NDArray[np.float32], asked: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of `items` with the greatest products, exactly; which of those that equal the k-th is left open.

    Args:
        items: float32 (n, d).
        asked: float32 (m, d).
        k: 1 … n.

    Returns:
        Rows, int64 (m, k), and their products, float32 (m, k), both from the greatest on.
    """
    rows, likeness = np.zeros((len(asked), k), np.int64), np.zeros((len(asked), k), np.float32)
    step = max(1, LARGEST_PRODUCT // len(items))
    for first in range(0, len(asked), step):
        part = slice(first, first + step)
        products = asked[part] @ items.T
        best = np.sort(np.argpartition(products, -k, axis=1)[:, -k:], axis=1)
        order = np.argsort(-np.take_along_axis(products, best, axis=1), axis=1, kind="stable")
        rows[part] = np.take_along_axis(best, order, axis=1)
        likeness[part] = np.take_along_axis(products, rows[part], axis=1)
    return rows, np.clip(likeness, -1, 1)


def write(path: Path, index: Index) -> None:
    """An index as a file: whole, or the one before stays.

    Raises:
        OSError: the disk is full or read-only, or the folder absent.
    """
    embeddings = index.embeddings.astype("<f4", copy=False)
    names = "\0".join(index.names).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(embeddings.data)
    digest.update(names)
    header = json.dumps(_header(embeddings.shape, len(names), index.model, digest.hexdigest())).encode()
    header += b" " * (-len(header) % 8)  # so that the embeddings are aligned
    with _replacing(path) as file:
        for part in (len(header).to_bytes(8, "little"), header, embeddings.data, names):
            file.write(part)


def read(path: Path) -> Index:
    """An index that `write` wrote.

    Raises:
        ValueError: it is none, or was altered.
        OSError: the file cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST_BYTES:
            raise ValueError(f"{path}: expected a plain file of at most {LARGEST_BYTES:,} bytes. {AGAIN}")
        try:
            return _read(file, facts.st_size)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no index that Seamline wrote, or altered ({error}). {AGAIN}") from error


def _read(file: BinaryIO, size: int) -> Index:
    length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER_BYTES:
        raise ValueError("no such header")
    told = json.loads(file.read(length))
    (count, width), (names_bytes,) = told["embeddings"]["shape"], told["names"]["shape"]
    model, digest = told["__metadata__"]["model"], told["__metadata__"]["sha256"]
    numbers = all(type(number) is int for number in (count, width, names_bytes)) and width > 0 <= names_bytes
    if (
        not numbers
        or not isinstance(model, str)
        or not 0 < count <= LARGEST_ITEMS
        or told != _header((count, width), names_bytes, model, digest)
    ):
        raise ValueError("its header is of another format")
    if size != 8 + length + 4 * count * width + names_bytes:
        raise ValueError("it is not as long as its header says")
    content = file.read(size)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its SHA-256 is another")
    names = content[4 * count * width :]
    if names.count(0) != count - 1:
        raise ValueError("it has not one name for each embedding")
    embeddings = np.frombuffer(content, "<f4", count * width).reshape(count, width)
    return Index(names.decode("utf-8", "surrogateescape").split("\0"), embeddings, model)


def _header(shape: Sequence[int], names_bytes: int, model: str, digest: str) -> dict[str, Any]:
    end = 4 * shape[0] * shape[1]
    return {
        "__metadata__": {"format": FORMAT, "model": model, "sha256": digest},
        "embeddings": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, end]},
        "names": {"dtype": "U8", "shape": [names_bytes], "data_offsets": [end, end + names_bytes]},
    }


def _rows(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same rows where nobody can change them; refused if they are no embeddings."""
    rows = np.ascontiguousarray(embeddings)
    if rows.dtype != np.float32 or len(rows.shape[1:]) != 1 or not rows.shape[1]:
        raise ValueError(f"Expected embeddings, float32 (n, d). Received {rows.dtype} {rows.shape}.")
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    if not (np.abs(lengths - 1) <= LENGTH_TOLERANCE).all():  # written so that NaN is refused
        raise ValueError("Expected embeddings of length 1. Received others. `Classifier.embed` makes them.")
    if rows.flags.writeable:
        rows = rows.copy()
        rows.flags.writeable = False
    return rows


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place if the block ends well; one process at a time in a folder."""
    temporary = path.with_name(f".tmp.{path.name}")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        temporary.unlink(missing_ok=True)  # of a run that was killed; or a link, which is not followed
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        os.fsync(folder)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(folder)
