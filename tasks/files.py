"""Files that are whole or absent: written beside the target, synced, then renamed onto it.

The temporary name is fixed (`.tmp.NAME`), so that what a killed run left behind is overwritten by the next one.
"""

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; renamed onto `path` if the block ends well, removed if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp.{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename or not error.errno:
            raise
        # A failed write does not say of what; h5py's says it in five lines.
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time in a folder, which is made if it is absent; the lock ends with its process.

    Raises:
        DataError: another process has it, and it is not waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder} is in use by another run. Wait for its end, or end it.") from error
        yield


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """An array as a `.npy` file."""
    content = io.BytesIO()  # np.save itself overlooks a disk that fills up on the last block
    np.save(content, array, allow_pickle=False)
    write_bytes(path, content.getvalue())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is not JSON. (A missing file is an OSError, which `python -m tasks` words.)
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}). Delete it and run the stage that writes it.") from error


def digest(content: bytes | memoryview) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_json(content: Any) -> str:
    """SHA-256 of the content's canonical JSON: equal content, equal digest, whatever the order of keys."""
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
