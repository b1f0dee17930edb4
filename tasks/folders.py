"""Folders that are exchanged whole: readers see the one before or the new one, never a mixture.

The new one is filled and synced beside the target, then the two trade names in one system call. What a killed run left
behind is removed by the next one.
"""

import ctypes
import errno
import os
import shutil
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS}


def fill(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder and sync them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(folder)


def replace(target: Path, files: dict[str, bytes]) -> None:
    """Put a folder with these files in the target's place."""
    new = target.with_name(f".tmp.{target.name}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        fill(new, files)
        if target.exists():
            exchange(new, target)
        else:
            new.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Two folders trade names at one moment; where the file system cannot, in two steps.

    Raises:
        OSError: they cannot be renamed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in NOT_SUPPORTED:
        raise OSError(number, os.strerror(number), str(other))
    aside = other.with_name(f".tmp.aside.{other.name}")
    shutil.rmtree(aside, ignore_errors=True)
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
