"""From which cosine on pictures are alike: `python -m benchmarks.alike`, half a minute → benchmarks/alike.md.

The bound is chosen on validation images, as pairs of any two: the least cosine, in hundredths, from which on SHARE of
the pairs are of one kind. The nearest of a large stock are mostly of one kind however low their cosine; a bound is for
the stock that has nothing of the kind, where the nearest are like it by accident.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import measured
from seamline import Classifier, likeness
from seamline.similar import ALIKE
from tasks import splits

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/alike.md"
BUNDLES = ("seamline/reference", "exports/bundle")
SHARE = 0.9
SHOWN = 4  # by the page
STOCK, STOCKS, SEED = 100, 50, 1  # pictures of a small shop, how many such shops

EXPLAINED = f"""# From which cosine on pictures are alike

{{}}.
Pairs of any two images; every kind is as frequent as another.

{{}}

{SHARE:.0%} from: the least cosine from which on {SHARE:.0%} of the pairs are of one kind. Of one kind: the share of
pairs from {ALIKE} on, which is in force (`seamline.similar.ALIKE`), chosen on validation images of the bundle in git.
Kept: the share of the pairs of one kind that have such a cosine. Then {STOCKS} shops of {STOCK} pictures, drawn at
random, and each other image as a question: which share of what is shown of the {SHOWN} nearest is of its kind, and how
many are shown on average, without a bound and with it. Strange: of a shop that has nothing of its kind, to which share
of the questions anything is shown (without a bound: to all).
"""

Embeddings = NDArray[np.float32]
Labels = NDArray[np.uint8]


class Shown(NamedTuple):
    """What a small shop shows of its pictures."""

    number: float  # of SHOWN, on average
    same: float  # share of these that are of the question's kind
    strange: float  # share of questions that are shown anything by a shop which has none of their kind


def main() -> None:
    """Measure, print and write."""
    rows = []
    for name in BUNDLES:
        if not (ROOT / name / "manifest.json").is_file():
            continue
        classifier = Classifier(ROOT / name)
        for split in ("validation", "test"):
            images, labels = splits.read(ROOT / "data/normalised", split)
            rows.append(_row(f"{name}, {split}", classifier.embed(images), labels))
    text = page(rows)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


def pairs(embeddings: Embeddings, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many pairs of two there are from each cosine on, and how many of them are of one kind: (201,), by hundredths.

    Args:
        embeddings: (n, d), rows of length 1.
        labels: (n,).
    """
    every, same = np.zeros(201, np.int64), np.zeros(201, np.int64)
    for k in range(len(embeddings) - 1):
        cosines = np.clip(embeddings[k + 1 :] @ embeddings[k], -1, 1)
        hundredths = np.floor(100 * cosines + 1e-6).astype(int) + 100
        every += np.bincount(hundredths, minlength=201)
        same += np.bincount(hundredths[labels[k + 1 :] == labels[k]], minlength=201)
    return every[::-1].cumsum()[::-1], same[::-1].cumsum()[::-1]


def bound(every: NDArray[np.int64], same: NDArray[np.int64], share: float = SHARE) -> float:
    """The least cosine, in hundredths, from which on so many of the pairs are of one kind; of what `pairs` returns.

    Raises:
        ValueError: there is none.
    """
    enough = np.flatnonzero((every > 0) & (same >= share * every))
    if not enough.size:
        raise ValueError(f"Expected a cosine from which on {share:.0%} of the pairs are of one kind. There is none.")
    return float(enough[0] - 100) / 100


def shown(embeddings: Embeddings, labels: Labels, least: float) -> Shown:
    """What small shops show, of pictures that are drawn at random, to those of which they have none."""
    generator = np.random.default_rng(SEED)
    numbers, sames, strange = [], [], []
    for _ in range(STOCKS):
        order = generator.permutation(len(labels))
        stock, asked = order[:STOCK], order[STOCK:]
        rows, cosines = likeness.nearest(embeddings[stock], embeddings[asked], SHOWN)
        alike = cosines >= least
        numbers.append(alike.sum(axis=1).mean())
        sames.append((labels[stock][rows] == labels[asked][:, None])[alike].mean())
        others = np.where(labels[stock] == labels[asked][:, None], -1, embeddings[asked] @ embeddings[stock].T)
        strange.append((others.max(axis=1) >= least).mean())
    return Shown(float(np.mean(numbers)), float(np.mean(sames)), float(np.mean(strange)))


def _row(name: str, embeddings: Embeddings, labels: Labels) -> list[str]:
    every, same = pairs(embeddings, labels)
    at = round(100 * ALIKE) + 100
    without, within = shown(embeddings, labels, -1), shown(embeddings, labels, ALIKE)
    return [
        name,
        f"{bound(every, same):.2f}",
        f"{same[at] / every[at]:.1%}",
        f"{same[at] / same[0]:.1%}",
        f"{without.same:.1%} of {without.number:.1f}",
        f"{within.same:.1%} of {within.number:.1f}",
        f"{within.strange:.1%}",
    ]


def page(rows: list[list[str]]) -> str:
    """The results as Markdown, with machine, date and commit."""
    head = ["bundle, images", f"{SHARE:.0%} from", "of one kind", "kept", "without a bound", "with it", "strange"]
    table = ["| " + " | ".join(row) + " |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    return EXPLAINED.format(measured.by("python -m benchmarks.alike"), "\n".join(table))


if __name__ == "__main__":
    main()
