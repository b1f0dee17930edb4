"""Signs of life of flow runs that no worker runs: those that a person started by hand, beside `make schedule`.

Their process locks a file, and the runs bear its name as a tag from the moment at which Prefect knows them. The kernel
lets go of the lock when the process ends, however it ends: a sign cannot be stale. `make schedule` removes the file
once it has told Prefect (flows/reconciliation.py).
"""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from prefect import tags
from prefect.settings import get_current_settings

from flows import stages

FOLDER = Path("data/.schedule/processes")
TAG = "process "


@contextmanager
def shown() -> Iterator[None]:
    """Flow runs within the block are seen to live. Without a server that outlives them nobody asks."""
    with ExitStack() as until_the_end:
        if get_current_settings().api.url:
            with suppress(OSError):  # a full disk: the run does its work all the same
                path = stages.ROOT / FOLDER / uuid4().hex
                until_the_end.enter_context(_locked(path))
                until_the_end.enter_context(tags(TAG + path.name))
        yield


def lost(root: Path) -> set[str]:
    """The names of signs whose processes have ended, or have no flow run any more."""
    return {path.name for path in (root / FOLDER).glob("[!.]*") if not _is_held(path)}


def ended(bears: Iterable[str], lost: set[str]) -> bool:
    """Whether a flow run with these tags was run by a process that has ended."""
    return any(tag.startswith(TAG) and tag.removeprefix(TAG) in lost for tag in bears)


def forget(root: Path, names: set[str]) -> None:
    """Remove signs that are lost."""
    for name in names:
        (root / FOLDER / name).unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """A file that others see from the moment at which it is locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp.{path.name}")
    with temporary.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        temporary.replace(path)
        yield file


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
