"""One writer: whoever changes data, trains or publishes holds this lock, whatever a scheduler believes.

The kernel holds it and lets go of it when the last process that has the file open ends, however it ends: a lock cannot
be stale. What the file says is for people; nothing is decided by it.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from tasks.errors import BusyError

FILE = Path("data/.writer.lock")
WAIT_S = 20.0  # for another writer; what a killed run left behind ends sooner
LOOK_AGAIN_S = 0.2
LONGEST_NOTE = 1000  # bytes


@contextmanager
def one_writer(root: Path, what: str, *, wait_s: float = 0.0) -> Iterator[int]:
    """Hold the lock of a checkout.

    Args:
        root: the checkout's folder.
        what: is being done, for whoever comes in between, such as "retraining, started by schedule".
        wait_s: seconds to wait for another writer's end, ≥ 0.

    Yields:
        The lock's file descriptor. A child that must keep the lock should this process die gets it (`pass_fds`).

    Raises:
        BusyError: another process still writes after that time.
    """
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        _take(file, time.monotonic() + wait_s)
        with suppress(OSError):  # a full disk: the lock is held all the same
            file.truncate(0)
            file.write(json.dumps({"process": os.getpid(), "what": what}).encode())
        yield file.fileno()


def _take(file: FileIO, until: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise BusyError(f"{_holder(file)} Wait for its end, or end it.") from error
            time.sleep(LOOK_AGAIN_S)
        else:
            return


def _holder(file: FileIO) -> str:
    file.seek(0)
    try:
        note = json.loads(file.read(LONGEST_NOTE))
        return f"Another run writes here: {note['what']}, process {note['process']}."
    except (ValueError, KeyError, TypeError):
        return "Another run writes here."


def main(arguments: Sequence[str]) -> int:
    """`python -m tasks.writer WHAT COMMAND …`: run a command as the one writer, which the Makefile does; its status."""
    what, *command = arguments
    try:
        with one_writer(Path(), what, wait_s=WAIT_S) as lock:
            return subprocess.run(command, pass_fds=[lock], check=False).returncode
    except BusyError as error:
        print(f"{what}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
