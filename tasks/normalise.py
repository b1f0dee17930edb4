"""Hold out validation images, stratified by seed, add what was admitted, and measure the training pixels.

Pixels stay uint8: scaling is the model's first layer, so that nothing outside the exported file can disagree with it.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks import idx, splits
from tasks.arrays import CLASSES, Images, Labels, Split
from tasks.errors import DataError
from tasks.files import digest, write_json, write_text
from tasks.params import Normalise

logger = logging.getLogger(__name__)


class PixelStats(NamedTuple):
    mean: float  # of pixels scaled to 0 … 1
    deviation: float  # likewise


def run(params: Normalise, raw: Path, admitted: Path, normalised: Path, summary: Path) -> None:
    """Write train, validation and test as arrays, and what was measured; what was admitted joins train alone."""
    whole, test = idx.read_split(raw, "train"), idx.read_split(raw, "t10k")
    chosen = held_out(whole.labels, params.validation_per_class, params.seed)
    more = splits.read(admitted, "admitted")
    parts = {"train": joined(take(whole, ~chosen), more), "validation": take(whole, chosen), "test": test}
    stats = pixel_stats(parts["train"].images)
    for name, part in parts.items():
        splits.write(normalised, name, part)
    provenance = {
        "mean": stats.mean,
        "deviation": stats.deviation,
        "images": {name: len(part.labels) for name, part in parts.items()},
        "data": {name: digest(part.images.tobytes() + part.labels.tobytes()) for name, part in parts.items()},
        "parameters": params.model_dump(),
    }
    if len(more.labels):  # without them, the same bytes as ever: nobody need train again
        provenance["admitted"] = len(more.labels)
    write_json(normalised / splits.STATS, provenance)
    write_text(summary, _table(provenance))


def held_out(labels: Labels, per_class: int, seed: int) -> NDArray[np.bool_]:
    """Which images are held out: the same number of each class, chosen by the seed.

    Args:
        labels: (n,) uint8, 0 … 9.
        per_class: how many of each class, ≥ 1; at least one of each class stays for training.
        seed: of a generator of this call's own.

    Returns:
        (n,) bool, True = held out.

    Raises:
        DataError: a class has too few images.
    """
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label, name in enumerate(CLASSES):
        members = np.flatnonzero(labels == label)
        if len(members) <= per_class:
            raise DataError(
                f"{name} has {len(members)} images, and normalise.validation_per_class holds out {per_class}. Lower it."
            )
        chosen[generator.choice(members, per_class, replace=False)] = True
    return chosen


def take(split: Split, mask: NDArray[np.bool_]) -> Split:
    """The images that the mask names, in their order."""
    return Split(split.images[mask], split.labels[mask])


def joined(split: Split, more: Split) -> Split:
    """The images of both, one after the other."""
    return Split(np.concatenate([split.images, more.images]), np.concatenate([split.labels, more.labels]))


def pixel_stats(images: Images) -> PixelStats:
    """Mean and standard deviation over all pixels of all images.

    Args:
        images: (n, 28, 28) uint8, n ≥ 1.

    Returns:
        Both on the 0 … 1 scale. The 60,000 training images of Fashion-MNIST give 0.2860 and 0.3530.

    Raises:
        ValueError: there are no images, or they are not uint8.
    """
    if images.dtype != np.uint8 or images.size == 0:
        raise ValueError(f"Expected uint8 images (n ≥ 1). Received {images.dtype} {images.shape}.")
    counts = np.bincount(images.ravel(), minlength=256)  # exact, and the memory of 256 numbers
    levels = np.arange(256) / 255
    mean = float(counts @ levels / counts.sum())
    return PixelStats(mean, float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum())))


def _table(provenance: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {count:,} | {provenance['data'][name]!s:.12}… |" for name, count in provenance["images"].items()
    ]
    pixels = f"Training pixels: mean {provenance['mean']:.4f}, deviation {provenance['deviation']:.4f} (0 … 1).\n"
    if provenance.get("admitted"):
        pixels += f"\n{provenance['admitted']:,} of the training images are of pictures from data/incoming.\n"
    return "\n".join(["| split | images | SHA-256 |", "|---|---:|---|", *rows, "", pixels])
