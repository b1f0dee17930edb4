"""The splits on disk: `<name>-images.npy`, `<name>-labels.npy` and what was measured, in one folder."""

from pathlib import Path

import numpy as np

from tasks.arrays import Split
from tasks.files import write_array

STATS = "stats.json"


def write(folder: Path, name: str, split: Split) -> None:
    for kind, array in split._asdict().items():
        write_array(folder / f"{name}-{kind}.npy", array)


def read(folder: Path, name: str) -> Split:
    """A split, mapped into memory and read-only."""
    arrays = (np.load(folder / f"{name}-{kind}.npy", mmap_mode="r", allow_pickle=False) for kind in Split._fields)
    return Split(*arrays)
