"""Inverted lists, for more pictures than one product should compare: faiss looks only where the nearest can lie.

They are made in memory, of the embeddings, and never read from a file: faiss's own files are parsed by C++ that trusts
them (https://github.com/facebookresearch/faiss/issues/5400).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROBED = 32  # lists that a question looks at; benchmarks/likeness.md says what that finds
TRAINING_ROWS = 64  # for each list's centre
ROUNDS = 10


class Lists:
    """Embeddings sorted into √n lists by their nearest centre.

    Args:
        items: float32 (n, d), rows of length 1. They are copied.

    Raises:
        ModuleNotFoundError: faiss is not installed.
    """

    def __init__(self, items: NDArray[np.float32]) -> None:
        faiss = _faiss()
        width, count = items.shape[1], max(1, round(len(items) ** 0.5))
        with _one_thread(faiss):
            self._index: Any = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, count, faiss.METRIC_INNER_PRODUCT)
            self._index.cp.spherical = True
            self._index.cp.max_points_per_centroid, self._index.cp.niter = TRAINING_ROWS, ROUNDS
            self._index.train(items)
            self._index.add(items)
        self._index.nprobe = PROBED

    def nearest(self, asked: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `likeness.nearest`, but what lies in other lists is missed; −1 where there are fewer than k."""
        with _one_thread(_faiss()):
            likeness, rows = self._index.search(asked, k)
        return rows, likeness


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('faiss makes it faster: pip install "seamline[likeness]"', name="faiss") from error
    return faiss


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """OpenMP's number belongs to the calling thread."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
