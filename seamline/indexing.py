"""`seamline index`: a folder of pictures as an index to find likenesses in."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seamline import likeness, reading
from seamline.classifier import Classifier
from seamline.likeness import Index
from seamline.progress import Progress

BATCH = 64  # pictures that are embedded at a time
FILE = "index.safetensors"
INTERRUPTED = 130  # as a shell says it of SIGINT


def run(classifier: Classifier, chosen: Namespace) -> int:
    """Index a folder; 0: every picture is in the index, 1: some could not be read."""
    _require_place(chosen.out)
    refused: list[str] = []
    try:
        those = reading.found([chosen.folder])
        progress = Progress(len(those))

        def refuse(name: str, reason: str) -> None:
            refused.append(name)
            progress.say(reading.shown(f"{name}: {reason}"))

        index = build(classifier, chosen.folder, refuse, those, progress)
        likeness.write(chosen.out, index)
    except KeyboardInterrupt:
        print(f"\nInterrupted. {chosen.out} is as it was.", file=sys.stderr)
        return INTERRUPTED
    left_out = f", {len(refused):,} left out" if refused else ""
    print(f"{len(index):,} pictures{left_out}. What is like one: seamline similar PICTURE --index {chosen.out}")
    return 1 if refused else 0


def build(
    classifier: Classifier,
    folder: str | Path,
    refuse: Callable[[str, str], None],
    those: list[reading.Found] | None = None,
    progress: Progress | None = None,
) -> Index:
    """The pictures in a folder and the folders in it as an index, named by their paths from that folder.

    Args:
        classifier: whose embeddings say what is alike.
        folder: that holds them.
        refuse: is told the name of what cannot be read, and why.
        those: what `reading.found` found there, if that was asked already.
        progress: is told how many are done.

    Raises:
        ValueError: there is no picture that can be read.
        NotADirectoryError: it is no folder.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is no folder.")
    those = reading.found([str(folder)]) if those is None else those
    names: list[str] = []
    parts: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []
    for name, views in reading.images(those, refuse, progress or Progress(len(those), silent=True)):
        names.append(os.path.relpath(name, folder))
        waiting.append(views[0])
        if len(waiting) == BATCH:
            parts.append(classifier.embed(np.stack(waiting)))
            waiting.clear()
    if not names:
        raise ValueError(f"{folder}: no picture in it can be read ({', '.join(sorted(reading.SUFFIXES))}).")
    if waiting:
        parts.append(classifier.embed(np.stack(waiting)))
    return Index(names, np.concatenate(parts), classifier.digest)


def _require_place(out: Path) -> None:
    """Before an hour's work, not after it."""
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"Expected a file in a folder that exists. Received --out {out}.")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out.parent} cannot be written to. Name another place: --out FILE")
