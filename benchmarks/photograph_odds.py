"""Which `export.photograph_odds` name most photographs right: `python -m benchmarks.photograph_odds DIR`.

DIR as for benchmarks/photographs.py: photographs to choose on, not those to measure on. Two numbers are tried, because
two mistakes are the net's own: shoes in pairs and from above, and thin shirts with long sleeves, look like nothing in
Fashion-MNIST.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import photographs
from seamline import Classifier, pictures

TRIED = (1.0, 1.5, 2.0, 3.0, 4.5, 7.0)
FOOTWEAR, SLEEVED = photographs.RIGHT["shoes"], photographs.RIGHT["longsleeve"]


def main() -> int:
    """Print the share that is named right, for each pair of numbers; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photograph_odds", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder for each kind: " + ", ".join(photographs.RIGHT))
    chosen = parser.parse_args()
    files = [file for file in photographs.found(chosen.folder) if photographs.RIGHT[file.parent.name]]
    if not files:
        print(f"{chosen.folder} has no photographs of known kinds.", file=sys.stderr)
        return 1
    classifier = Classifier()
    rows = np.stack([unweighed(classifier, file) for file in track(files, "Looking", transient=True)])
    kinds = [file.parent.name for file in files]
    print(f"{len(files):,} photographs, model {classifier.digest[:12]}; footwear down, Pullover across:\n")
    print("| | " + " | ".join(f"× {odds:g}" for odds in TRIED) + " |\n|---|" + "---:|" * len(TRIED))
    for footwear in TRIED:
        shares = (share(rows, kinds, classifier.classes, footwear, sleeved) for sleeved in TRIED)
        print(f"| × {footwear:g} | " + " | ".join(f"{one:.1%}" for one in shares) + " |")
    return 0


def unweighed(classifier: Classifier, file: Path) -> NDArray[np.float32]:
    """The mean of what the model says of a photograph's views, (classes,)."""
    mean: NDArray[np.float32] = classifier.probabilities(pictures.from_picture(file)).mean(axis=0)
    return mean


def share(
    rows: NDArray[np.float32], kinds: list[str], classes: tuple[str, ...], footwear: float, sleeved: float
) -> float:
    """The share of photographs that are named right, every kind counting alike.

    Args:
        rows: (n, classes) probabilities of n photographs.
        kinds: their folders.
        classes: names, in the order of the columns.
        footwear: what those of footwear are multiplied with.
        sleeved: what Pullover's is multiplied with.
    """
    odds = [footwear if name in FOOTWEAR else sleeved if name in SLEEVED else 1.0 for name in classes]
    said = (rows * odds).argmax(axis=1)
    right = np.array([classes[best] in photographs.RIGHT[kind] for best, kind in zip(said, kinds, strict=True)])
    of_kind = np.array(kinds)
    return float(np.mean([right[of_kind == kind].mean() for kind in sorted(set(kinds))]))


if __name__ == "__main__":
    sys.exit(main())
