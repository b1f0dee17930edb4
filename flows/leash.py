"""A command on a leash: it ends, with all that it started, when whoever asked for it has ended or been killed.

    python -I flows/leash.py PARENT DESCRIPTORS COMMAND…      # what flows/stages.py starts; DESCRIPTORS: 5,6 or -

What is handed down by descriptor, a lock, is held until the last process of the command has gone: the leash is the
leader of their group and goes last. The kernel's PR_SET_PDEATHSIG would not do: it watches a thread, not a process.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

LOOK_AGAIN_S = 0.5
GRACE_S = 10.0  # between SIGTERM and SIGKILL


def leashed(command: list[str], lock: int | None = None) -> list[str]:
    """The command, on a leash that this process holds; `lock`: a descriptor to hand down."""
    return [sys.executable, "-I", __file__, str(os.getpid()), "-" if lock is None else str(lock), *command]


def main(parent: int, held: list[int], command: list[str]) -> int:
    """Run the command in this process's group; its exit status, 128 + n if signal n ended it."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)  # unlike one that is ignored, a handler is not handed down
    process = subprocess.Popen(command, pass_fds=held)
    while True:
        try:
            status = process.wait(LOOK_AGAIN_S)
        except subprocess.TimeoutExpired:
            if ended or os.getppid() != parent:
                _end_others()
        else:
            if ended:
                _end_others()
            return status if status >= 0 else 128 - status


def _end_others() -> None:
    """End all others of this group: asked first, then killed."""
    until = time.monotonic() + GRACE_S
    os.killpg(0, signal.SIGTERM)
    while others := _others():
        if time.monotonic() > until:
            for pid in others:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _others() -> list[int]:
    """The processes of this group at work, but for this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, (state, _, group) = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(group) == os.getpgrp() and state != "Z" and pid != os.getpid():
            found.append(pid)
    return found


if __name__ == "__main__":
    descriptors = [int(number) for number in sys.argv[2].split(",") if number != "-"]
    sys.exit(main(int(sys.argv[1]), descriptors, sys.argv[3:]))
