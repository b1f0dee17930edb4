"""What lies in data/incoming: a folder for each kind, in which people and kiosks leave pictures.

Anything may lie there, and nothing of it is deleted. Names that begin with a dot are somebody's unfinished work.

DVC reads the folder before a stage can look at it, and stumbles: it waits at a pipe for ever, and breaks off at a link
that leads nowhere and at a name that is no UTF-8. `sweep` moves such things away before DVC starts.
"""

import difflib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seamline.pictures import LARGEST_BYTES
from seamline.reading import shown
from tasks.arrays import CLASSES

README = "README.md"
SHORTEST = 3  # letters of a name that is looked for in longer ones


def _safe(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower())


FOLDERS = {_safe(name): label for label, name in enumerate(CLASSES)}  # t-shirt-top → 0


class Found(NamedTuple):
    """A file in the folder, or something that is none."""

    path: str  # below the folder
    fault: str = ""  # why it is not opened

    @property
    def kind(self) -> str:
        """The folder that it lies in; none: ""."""
        return self.path.partition("/")[0] if "/" in self.path else ""


def found(folder: Path) -> list[Found]:
    """Everything in the folder, in the order of its names; what begins with a dot and the README left out."""
    entries = (entry for entry in _within(folder) if _below(entry, folder) != README)
    return sorted(Found(_below(entry, folder), _fault(entry)) for entry in entries)


def read(path: Path) -> bytes:
    """A file's content, one byte more than a picture may have at most.

    Raises:
        OSError: it cannot be read, or is a link by now.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(LARGEST_BYTES + 1)


def sweep(folder: Path, aside: Path) -> list[str]:
    """Move what DVC cannot read from a folder to another one beside it; a sentence for each."""
    moved = []
    for path, reason in [(path, reason) for path in _within(folder) if (reason := _stumbling_block(path))]:
        target = aside / _below(path, folder)
        target = next(place for place in _places(target) if not os.path.lexists(place))
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # its owner was quicker
            path.rename(target)
        moved.append(f"{shown(str(path))} is {reason}, which DVC cannot read: moved to {shown(str(target))}.")
    return moved


def no_kind(folder: str) -> str:
    """Why a folder's name is refused, with the name that was probably meant."""
    if not folder:
        return f"it lies in no kind's folder (known: {', '.join(FOLDERS)})"
    name = _safe(folder)
    longer = [known for known in FOLDERS if len(name) >= SHORTEST and name in known]
    near = longer or difflib.get_close_matches(name, FOLDERS, n=1)
    meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(FOLDERS)}"
    return f"{shown(folder)} is no kind ({meant})"


def _within(folder: Path) -> Iterator[Path]:
    """Everything but folders that can be read; not by os.walk, which calls itself for each until Python 3.12."""
    folders = [folder] if folder.is_dir() else []
    while folders:
        try:
            entries = [entry for entry in os.scandir(folders.pop()) if not entry.name.startswith(".")]
        except OSError as error:
            yield Path(error.filename)
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            else:
                yield Path(entry.path)


def _below(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def _fault(path: Path) -> str:
    try:
        about = path.lstat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISLNK(about.st_mode):
        return "a link; put the picture itself there"
    if stat.S_ISDIR(about.st_mode):
        return "a folder that cannot be read"
    if not stat.S_ISREG(about.st_mode):
        return "not a plain file"
    return "" if about.st_size else "empty"


def _stumbling_block(path: Path) -> str:
    """What it is that DVC cannot read; nothing if it can."""
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        return "a name that is no UTF-8"
    except OSError:
        return "a link that leads nowhere" if path.is_symlink() else "not readable"
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "not a plain file"
    return "" if path.is_symlink() or os.access(path, os.R_OK) else "not readable"


def _places(target: Path) -> Iterator[Path]:
    yield target
    number = 1
    while True:
        number += 1
        yield target.with_name(f"{target.name}.{number}")
