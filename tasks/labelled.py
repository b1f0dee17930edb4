"""Labelled pictures in a folder for each kind, and how many of them a model names right. They decide nothing.

A kind's folder has its name in letters that every file system takes: `ankle-boot`, `t-shirt-top`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from seamline import Classifier, reading
from seamline.classifier import UNKNOWN
from seamline.progress import Progress
from tasks.arrays import CLASSES, Images

MOST = 5000  # pictures: ten minutes, at some 0.1 s each


class Pictures(NamedTuple):
    """What was found in a folder."""

    folder: str
    views: list[Images]  # of each picture, (v, 28, 28)
    kinds: list[str]  # its class
    skipped: list[str]  # folders of no kind that is known
    unreadable: int


class Seen(NamedTuple):
    """What a model says of them."""

    pictures: int
    right: int  # the likeliest class is the picture's own
    unknown: int  # below the probability from which on an answer counts
    by_kind: Mapping[str, tuple[int, int]]  # pictures and right ones


def slug(name: str) -> str:
    """A class's folder.

    >>> slug("T-shirt/top")
    't-shirt-top'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def read(folder: Path) -> Pictures:
    """The pictures of a folder, the first 5,000; none if it is absent."""
    kinds = {slug(name): name for name in CLASSES}
    places = sorted(path for path in folder.glob("*") if path.is_dir())
    those = [
        (found, kinds[path.name]) for path in places if path.name in kinds for found in reading.found([str(path)])
    ][:MOST]
    of, refused = {found.name: kind for found, kind in those}, set[str]()
    progress = Progress(len(those), silent=True)
    answers = reading.images([found for found, _ in those], lambda name, _: refused.add(name), progress)
    views = dict(answers)
    others = [path.name for path in places if path.name not in kinds]
    return Pictures(str(folder), list(views.values()), [of[name] for name in views], others, len(refused))


def look(classifier: Classifier, pictures: Pictures) -> Seen:
    """What a model says of them."""
    rows = [classifier.probabilities(views).mean(axis=0) for views in pictures.views]
    named = [classifier.classes[int(row.argmax())] for row in rows]
    by_kind = {
        kind: (pictures.kinds.count(kind), sum(a == b == kind for a, b in zip(named, pictures.kinds, strict=True)))
        for kind in CLASSES
        if kind in pictures.kinds
    }
    unknown = sum(classifier.best(row.tolist()).name == UNKNOWN for row in rows)
    return Seen(len(rows), sum(right for _, right in by_kind.values()), unknown, by_kind)
