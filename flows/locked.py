"""Files that a process locks as long as it lives: the kernel lets go of the lock when it ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file(path: Path) -> Iterator[None]:
    """A new file that others see from the moment at which it is locked; it stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp.{path.name}")
    with temporary.open("wb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        temporary.replace(path)
        yield


def free(folder: Path) -> list[Path]:
    """The files of a folder whose processes have ended."""
    return [path for path in folder.glob("[!.]*") if not _is_held(path)]


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its process has ended, and removed it, meanwhile
        return False
    return False
