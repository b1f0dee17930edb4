"""How good and how fast likeness is: `python -m benchmarks.likeness`, some minutes → benchmarks/likeness.md.

Questions are validation images; the test images take no part. One thread; timings are medians over single questions.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import measured
from seamline import Classifier, likeness, lists
from seamline.likeness import Index
from tasks import splits
from tasks.arrays import CLASSES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/likeness.md"
NEIGHBOURS = 10
QUESTIONS = 200
LARGE, LARGER = 100_000, 300_000
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

Embeddings = NDArray[np.float32]


def main() -> None:
    """Measure, print and write."""
    classifier = Classifier()
    train, validation = (splits.read(ROOT / "data/normalised", name) for name in ("train", "validation"))
    items, asked = classifier.embed(train.images), classifier.embed(validation.images)
    kinds = same_kind(items, train.labels, asked, validation.labels)
    others = same_kind(asked, validation.labels, asked, validation.labels, itself=True)
    pixels = same_kind(plain(train.images), train.labels, plain(validation.images), validation.labels)
    rows = [
        (
            f"same kind, in an index of {len(items):,} training images",
            f"{kinds.mean():.1%}",
        ),
        (
            f"same kind, among the {len(asked) - 1:,} other validation images: all new to the model",
            f"{others.mean():.1%}",
        ),
        ("same kind, among training images by the cosine of their pixels, without a model", f"{pixels.mean():.1%}"),
    ]
    rows += [
        (f"same kind, among training images, {name}", f"{kinds[validation.labels == k].mean():.1%}")
        for k, name in enumerate(CLASSES)
    ]
    rows += speed(classifier, train.images, validation.images[:QUESTIONS])
    text = page(rows)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


def same_kind(
    items: Embeddings, labels: NDArray[np.uint8], asked: Embeddings, truth: NDArray[np.uint8], *, itself: bool = False
) -> NDArray[np.float64]:
    """The share of each question's nearest that are of its kind, (m,).

    Args:
        items: (n, d), in which is looked.
        labels: (n,), their kinds.
        asked: (m, d).
        truth: (m,), their kinds.
        itself: whether the questions are the items, so that the nearest is the question and does not count.
    """
    rows, _ = likeness.nearest(items, asked, NEIGHBOURS + itself)
    if itself:
        own = np.arange(len(rows))[:, None] == rows
        own[~own.any(axis=1), -1] = True  # one of many twins: then the last of them is left out
        rows = rows[~own].reshape(len(rows), NEIGHBOURS)
    share: NDArray[np.float64] = (np.asarray(labels)[rows] == np.asarray(truth)[:, None]).mean(axis=1)
    return share


def plain(images: NDArray[np.uint8]) -> Embeddings:
    """Pixels as rows of length 1."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    unit: Embeddings = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def speed(classifier: Classifier, images: NDArray[np.uint8], questions: NDArray[np.uint8]) -> list[tuple[str, str]]:
    """What questions take, and what an index weighs."""
    items = classifier.embed(many(images, LARGER))
    asked = classifier.embed(questions)
    index = Index([f"shop/{number:07}.jpg" for number in range(LARGE)], items[:LARGE], classifier.digest)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index"
        likeness.write(file, index)
        size = file.stat().st_size
        read = _median_ms(lambda _: likeness.read(file), range(5))
    large = Index([str(number) for number in range(LARGER)], items, classifier.digest)
    rows = [
        (f"a question among {LARGE:,}, exact", f"{_median_ms(index.nearest, asked):.1f} ms"),
        (
            "likewise from the picture's array on (`similar`)",
            f"{_median_ms(lambda one: classifier.similar(one, index), questions):.1f} ms",
        ),
        (f"size of an index of {LARGE:,}, names of 16 letters", f"{size / 1e6:.1f} MB"),
        ("reading it", f"{read:.0f} ms"),
        (
            f"a question among {LARGER:,}, exact",
            f"{_median_ms(lambda one: large.nearest(one, exact=True), asked):.1f} ms",
        ),
    ]
    return rows + _by_lists(large, items, asked)


def many(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many pictures: those that there are, their mirror images, and all of these moved by a pixel to either side."""
    mirrored = [images, images[:, :, ::-1]]
    moved = [np.roll(part, step, axis=2) for step in (1, -1) for part in mirrored]
    return np.concatenate([*mirrored, *moved])[:count]


def _by_lists(index: Index, items: Embeddings, asked: Embeddings) -> list[tuple[str, str]]:
    begun = time.perf_counter()
    try:
        made = lists.Lists(items)
    except ModuleNotFoundError:
        return [("likewise by faiss's lists", "not installed")]
    seconds = time.perf_counter() - begun
    exact, found = likeness.nearest(items, asked, NEIGHBOURS)[0], made.nearest(asked, NEIGHBOURS)[0]
    share = statistics.mean(
        len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(exact.tolist(), found.tolist(), strict=True)
    )
    return [
        ("likewise by faiss's lists", f"{_median_ms(index.nearest, asked):.2f} ms"),
        ("of the exact answer, they find", f"{share:.1%}"),
        ("making them, once for a process", f"{seconds:.1f} s"),
    ]


def _median_ms(call: Callable[[Any], object], questions: Iterable[Any]) -> float:
    """After one that warms up."""
    seconds = []
    for question in questions:
        begun = time.perf_counter()
        call(question)
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds[1:])


def page(rows: list[tuple[str, str]]) -> str:
    """The results as Markdown, with machine, date and commit."""
    heading = (
        f"{measured.by('python -m benchmarks.likeness')}, "
        f"of which one is used, Python {sys.version.partition(' ')[0]}.\n"
        f"Questions are validation images, shares of the {NEIGHBOURS} nearest, times medians; "
        f"{os.getloadavg()[1]:.1f} processes were running.\n"
    )
    table = [f"| {what} | {measured} |" for what, measured in rows]
    return "\n".join(["# Likeness\n", heading, "| what | measured |", "|---|---:|", *table, ""])


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():  # numpy reads them when it is loaded
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.likeness"], os.environ | ONE_THREAD)  # noqa: S606  # itself
    main()
