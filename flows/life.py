"""Signs of life of flow runs that no worker runs: those that a person started by hand, beside `make schedule`.

Such a run locks a file that is named like it. The kernel lets go of the lock when the run's process ends, however it
ends: a sign cannot be stale. `make schedule` removes the file once it has told Prefect (flows/reconciliation.py).
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from flows import stages

FOLDER = Path("data/.schedule/runs")
WORKER_S = "PREFECT__FLOW_RUN_ID"  # in the environment of what a worker runs

_signs: list[BinaryIO] = []  # open, and so locked, as long as this process lives: Prefect notes a run's end after it


def show() -> None:
    """Say that this flow run is alive until its process ends. Without a server that outlives it nobody asks."""
    name = flow_run.id
    if not name or WORKER_S in os.environ or not get_current_settings().api.url:
        return
    path = stages.ROOT / FOLDER / name
    temporary = path.with_name(f".tmp.{path.name}")
    with suppress(OSError):  # a full disk: the run does its work all the same
        path.parent.mkdir(parents=True, exist_ok=True)
        sign = temporary.open("wb")
        _signs.append(sign)
        fcntl.flock(sign, fcntl.LOCK_EX)
        temporary.replace(path)  # seen by others once it is locked


def lost(root: Path) -> list[str]:
    """The flow runs that showed a sign and whose processes have ended."""
    return [path.name for path in sorted((root / FOLDER).glob("[!.]*")) if not _held(path)]


def forget(root: Path, name: str) -> None:
    """Remove a sign that is lost."""
    (root / FOLDER / name).unlink(missing_ok=True)


def _held(path: Path) -> bool:
    with path.open("rb") as sign:
        try:
            fcntl.flock(sign, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
