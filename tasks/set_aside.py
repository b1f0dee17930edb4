"""Pictures that are not admitted: a list with the reason of each, and copies by reason, for people to look at."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any, TypeAlias

from seamline.pictures import LARGEST_BYTES
from seamline.reading import shown
from tasks.candidates import Candidate
from tasks.files import write_text

Reasons: TypeAlias = dict[int, tuple[str, str]]  # number of the picture → the reason in a word, and in a sentence
REASONS = "reasons.csv"
LONGEST_NAME = 50  # characters of a copy's name


def write(folder: Path, incoming: Path, those: list[Candidate], reasons: Reasons) -> None:
    """The list, and a copy of each file that could be read.

    Not a link, which DVC would make read-only and keep in its cache.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for number, (word, sentence) in reasons.items():
        one = those[number]
        copy = folder / word / (shown(one.kind)[:LONGEST_NAME] or "none") / _safe(one)
        copied = _copied(incoming / one.path, copy) if one.digest or one.fault == "empty" else False
        rows.append([shown(one.path), one.digest, word, sentence, str(copy.relative_to(folder)) if copied else ""])
    write_text(folder / REASONS, as_csv(["file", "sha256", "reason", "why", "copy"], sorted(rows)))


def _safe(one: Candidate) -> str:
    """A name that any file system takes; digests keep equal ones apart."""
    return f"{one.digest[:12] or 'empty'}-{shown(Path(one.path).name)[-LONGEST_NAME:]}".replace("\\", "_")


def _copied(source: Path, target: Path) -> bool:
    if source.stat().st_size > LARGEST_BYTES:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return True


def as_csv(heading: list[str], rows: list[list[Any]]) -> str:
    """Rows under a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return text.getvalue()
