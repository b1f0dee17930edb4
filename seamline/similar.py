"""`seamline similar`: what a shop has that is like a picture, as a table, JSON or CSV."""

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from seamline import likeness, reading
from seamline.classifier import Classifier
from seamline.likeness import Index, Neighbour
from seamline.progress import Progress

ALIKE = 0.86  # the least cosine of pictures that are alike: benchmarks/alike.md; kiosk/likeness.js has the same


def run(classifier: Classifier, chosen: Namespace) -> int:
    """Look pictures up; 0: all were answered, 1: some could not be read."""
    try:
        index = likeness.read(chosen.index)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no index at {chosen.index}. Make one: seamline index FOLDER") from error
    those = reading.found(chosen.files)
    if not those:
        raise ValueError("No pictures there: " + ", ".join(map(reading.shown, chosen.files)))
    progress, failures = Progress(len(those), silent=True), []

    def refuse(name: str, reason: str) -> None:
        failures.append(name)
        progress.say(reading.shown(f"{name}: {reason}"))

    write = {"table": _table, "json": _json, "csv": _csv}[chosen.format]
    write(_answers(classifier, index, chosen.k, reading.images(those, refuse, progress)), sys.stdout)
    return 1 if failures else 0


def _answers(
    classifier: Classifier, index: Index, k: int, images: Iterator[tuple[str, NDArray[np.uint8]]]
) -> Iterator[tuple[str, list[Neighbour]]]:
    """Exactly, however large the index: making lists pays for many questions, not for one."""
    for name, views in images:
        yield name, classifier.similar(views[0], index, k, exact=True)[0]


def _table(answers: Iterator[tuple[str, list[Neighbour]]], out: TextIO) -> None:
    for name, nearest in answers:
        print(reading.shown(name), file=out)
        for one in nearest:
            doubt = "" if one.likeness >= ALIKE else "  (not alike)"
            print(f"  {one.likeness:6.3f}  {reading.shown(one.name)}{doubt}", file=out)


def _json(answers: Iterator[tuple[str, list[Neighbour]]], out: TextIO) -> None:
    for name, nearest in answers:
        similar = [
            {"name": one.name, "likeness": round(one.likeness, 6), "alike": one.likeness >= ALIKE} for one in nearest
        ]
        print(json.dumps({"file": name, "similar": similar}, ensure_ascii=False), file=out)


def _csv(answers: Iterator[tuple[str, list[Neighbour]]], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "rank", "name", "likeness", "alike"])
    for name, nearest in answers:
        for rank, one in enumerate(nearest, start=1):
            alike = str(one.likeness >= ALIKE).lower()
            writer.writerow([name, rank, one.name, f"{one.likeness:.6f}", alike])
