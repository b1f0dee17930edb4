"""`seamline classify`: what pictures show, as a table, JSON or CSV."""

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TextIO

from seamline import reading
from seamline.classifier import Answer, Classifier
from seamline.progress import Progress

FORMATS = ("table", "json", "csv")


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
) -> Iterator[tuple[str, list[Answer]]]:
    """Each picture with its likeliest kinds; what cannot be read is said on standard error and counted."""
    progress = Progress(len(those), silent=True)

    def refuse(name: str, reason: str) -> None:
        failures.append(name)
        progress.say(reading.shown(f"{name}: {reason}"))

    for name, image in reading.images(those, refuse, progress):
        row = classifier.probabilities(image)[0].tolist()
        yield name, sorted(map(Answer, classifier.classes, row), key=lambda answer: -answer.probability)[:top]


def _table(answers: Iterator[tuple[str, list[Answer]]], out: TextIO) -> None:
    for name, best in answers:
        print(
            f"{reading.shown(name)}: " + ", ".join(f"{answer.name} {answer.probability:.1%}" for answer in best),
            file=out,
        )


def _json(answers: Iterator[tuple[str, list[Answer]]], out: TextIO) -> None:
    """One object a line, so that a million pictures need no more memory than one."""
    for name, best in answers:
        kinds = [{"name": answer.name, "probability": round(answer.probability, 6)} for answer in best]
        print(json.dumps({"file": name, "kinds": kinds}, ensure_ascii=False), file=out)


def _csv(answers: Iterator[tuple[str, list[Answer]]], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "rank", "name", "probability"])
    for name, best in answers:
        writer.writerows([name, rank, *_cells(answer)] for rank, answer in enumerate(best, start=1))


def _cells(answer: Answer) -> tuple[str, str]:
    return answer.name, f"{answer.probability:.6f}"
