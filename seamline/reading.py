"""The pictures that a command line names: found, and read one after another; what cannot be read holds nothing up.

In a folder only plain files are opened, and links to them: a pipe may never end, and a link to a folder may lead back.
A file that is named itself is opened whatever it is, so that a shell's `<(…)` can be read.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seamline import pictures
from seamline.progress import Progress

SUFFIXES = {".gif", ".jpeg", ".jpg", ".png", ".webp"}
STDIN = "-"


class Found(NamedTuple):
    """Something that should be a picture."""

    name: str
    fault: str = ""  # why it is not even opened


def found(files: Sequence[str]) -> list[Found]:
    """The files, and the pictures in the folders among them, in their order."""
    all_found: list[Found] = []
    for name in files:
        folder = name != STDIN and stat.S_ISDIR(_mode(name))
        all_found += sorted(_within(name)) if folder else [Found(name)]
    return all_found


def images(
    those: Sequence[Found], refuse: Callable[[str, str], None], progress: Progress
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Each picture's name, and its views, uint8 (v, 28, 28), the likeliest first.

    What cannot be read is given to `refuse`, with the reason.
    """
    for number, one in enumerate(those):
        progress.show(number)
        try:
            views = _read(one)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            refuse(one.name, reason.removeprefix(f"{one.name}: "))
            continue
        yield one.name, views
    progress.show(len(those))


def shown(text: str) -> str:
    r"""A text on one line and without what a terminal would obey: a file's name may hold anything but / and NUL.

    >>> print(shown("a\nb \x1b[2J \u202e \udcff é"))
    a\nb \x1b[2J \u202e \udcff é
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _within(folder: str) -> Iterator[Found]:
    """Not by os.walk: until Python 3.12 it calls itself for each folder in a folder."""
    folders = [folder]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif Path(entry.name).suffix.lower() in SUFFIXES:
                        mode = stat.S_IFREG if entry.is_file(follow_symlinks=False) else _mode(entry.path)
                        if not stat.S_ISDIR(mode):
                            yield Found(str(Path(entry.path)), _fault(mode))
        except OSError as error:
            yield Found(here, f"the folder cannot be read: {error.strerror}")


def _fault(mode: int) -> str:
    return "" if stat.S_ISREG(mode) else "not a plain file" if mode else "a link that leads nowhere"


def _mode(path: str) -> int:
    """What kind of file it is, or what a link leads to; 0: nothing."""
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def _read(one: Found) -> NDArray[np.uint8]:
    if one.fault:
        raise ValueError(one.fault)
    if one.name == STDIN:
        return pictures.from_picture(sys.stdin.buffer.read(pictures.LARGEST_BYTES + 1))
    return pictures.from_picture(one.name)
