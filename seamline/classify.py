"""`seamline classify`: what pictures show, as a table, JSON or CSV."""

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from seamline import reading
from seamline.classifier import UNKNOWN, Answer, Classifier
from seamline.progress import Progress

FORMATS = ("table", "json", "csv")


class Answered(NamedTuple):
    """What was said of one picture."""

    file: str
    name: str  # of the likeliest kind, or "unknown"
    kinds: list[Answer]  # the likeliest first


def run(classifier: Classifier, chosen: Namespace) -> int:
    """Classify files, folders and standard input; 0: all were answered, 1: some could not be read."""
    those = reading.found(chosen.files)
    if not those:
        raise ValueError("No pictures there: " + ", ".join(map(reading.shown, chosen.files)))
    write = {"table": _table, "json": _json, "csv": _csv}[chosen.format]
    failures: list[str] = []
    write(_answers(classifier, those, chosen.top, failures), sys.stdout)
    return 1 if failures else 0


def _answers(
    classifier: Classifier, those: Sequence[reading.Found], top: int, failures: list[str]
) -> Iterator[Answered]:
    """Each picture with its likeliest kinds; what cannot be read is said on standard error and counted."""
    progress = Progress(len(those), silent=True)

    def refuse(name: str, reason: str) -> None:
        failures.append(name)
        progress.say(reading.shown(f"{name}: {reason}"))

    for name, views in reading.images(those, refuse, progress):
        row = classifier.view_probabilities(views).tolist()
        kinds = sorted(map(Answer, classifier.classes, row), key=lambda answer: -answer.probability)[:top]
        yield Answered(name, classifier.best(row).name, kinds)


def _table(answers: Iterator[Answered], out: TextIO) -> None:
    for answered in answers:
        unsure = "unknown; if anything: " if answered.name == UNKNOWN else ""
        kinds = ", ".join(f"{reading.shown(kind.name)} {kind.probability:.1%}" for kind in answered.kinds)
        print(f"{reading.shown(answered.file)}: {unsure}{kinds}", file=out)


def _json(answers: Iterator[Answered], out: TextIO) -> None:
    """One object a line, so that a million pictures need no more memory than one."""
    for file, name, best in answers:
        kinds = [{"name": kind.name, "probability": round(kind.probability, 6)} for kind in best]
        print(json.dumps({"file": file, "name": name, "kinds": kinds}, ensure_ascii=False), file=out)


def _csv(answers: Iterator[Answered], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "name", "rank", "kind", "probability"])
    for file, name, best in answers:
        writer.writerows(
            [file, name, rank, kind.name, f"{kind.probability:.6f}"] for rank, kind in enumerate(best, start=1)
        )
