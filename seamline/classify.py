"""`seamline classify`: what pictures show, as a table, JSON or CSV."""

import csv
import io
import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from seamline import pictures
from seamline.classifier import Answer, Classifier

SUFFIXES = {".gif", ".jpeg", ".jpg", ".png", ".webp"}
STDIN = "-"
BAR_FROM = 20  # pictures that take long enough for a progress bar
FORMATS = ("table", "json", "csv")


def run(classifier: Classifier, chosen: Namespace) -> int:
    """Classify files, folders and standard input; 0: all were answered, 1: some could not be read."""
    names = list(found(chosen.files))
    if not names:
        print("No pictures there: " + ", ".join(map(str, chosen.files)), file=sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is no UTF-8 stops nothing
    write = {"table": _table, "json": _json, "csv": _csv}[chosen.format]
    failures: list[str] = []
    write(_answers(classifier, names, chosen.top, failures), sys.stdout)
    return 1 if failures else 0


def found(files: Sequence[str]) -> Iterator[str]:
    """The files, and the pictures in the folders among them, in their order."""
    for name in files:
        if name != STDIN and Path(name).is_dir():
            yield from sorted(
                str(path) for path in Path(name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
            )
        else:
            yield name


def _answers(
    classifier: Classifier, names: Sequence[str], top: int, failures: list[str]
) -> Iterator[tuple[str, list[Answer]]]:
    """Each picture with its likeliest kinds; what cannot be read is said on standard error and counted."""
    for number, name in enumerate(names):
        _progress(number, len(names))
        try:
            image = (
                pictures.read_bytes(sys.stdin.buffer.read(pictures.LARGEST_BYTES + 1))
                if name == STDIN
                else pictures.read(name)
            )
        except (OSError, ValueError, ModuleNotFoundError) as error:
            failures.append(name)
            print(f"{name}: {error}" if name not in str(error) else error, file=sys.stderr)
            continue
        row = classifier.probabilities(image)[0].tolist()
        yield name, sorted(map(Answer, classifier.classes, row), key=lambda answer: -answer.probability)[:top]
    _progress(len(names), len(names))


def _progress(done: int, total: int) -> None:
    """A bar where a person watches and the answers go elsewhere."""
    if total < BAR_FROM or not sys.stderr.isatty() or sys.stdout.isatty():
        return
    filled = 30 * done // total
    print(
        f"\r{'━' * filled}{'─' * (30 - filled)} {done:,}/{total:,}", end="" if done < total else "\n", file=sys.stderr
    )


def _table(answers: Iterator[tuple[str, list[Answer]]], out: TextIO) -> None:
    for name, best in answers:
        print(f"{name}: " + ", ".join(f"{answer.name} {answer.probability:.1%}" for answer in best), file=out)


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
