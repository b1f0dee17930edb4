"""The splits on disk: `<name>-images.npy`, `<name>-labels.npy` and what was measured, in one folder."""

import io
from pathlib import Path

import numpy as np

from tasks.arrays import Split
from tasks.files import write_bytes

STATS = "stats.json"


def write(folder: Path, name: str, split: Split) -> None:
    for kind, array in split._asdict().items():
        content = io.BytesIO()  # np.save itself overlooks a disk that fills up on the last block
        np.save(content, array, allow_pickle=False)
        write_bytes(folder / f"{name}-{kind}.npy", content.getvalue())


def read(folder: Path, name: str) -> Split:
    """A split, mapped into memory and read-only."""
    arrays = (np.load(folder / f"{name}-{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in Split._fields)
    return Split(*arrays)
