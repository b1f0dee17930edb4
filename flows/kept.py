"""A program that is kept running: started again when it has ended, ended with all that it started."""

import os
import signal
import subprocess
import time
import uuid
from contextlib import nullcontext, suppress
from pathlib import Path

from flows import leash, stages

MARK = "SEAMLINE_KEPT"  # in the environment of the program and of all that it starts, whoever adopts them
END_S = 30.0  # between a friendly end and a hard one
LONGEST_PAUSE_S = 60.0  # between the starts of what ends again and again


class Kept:
    """A command on a leash; what it says goes to a file, if one is named. Nothing runs before the first look."""

    def __init__(self, command: list[str], log: Path | None = None) -> None:
        self._command, self._log, self._mark = command, log, uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._pause_s = -LONGEST_PAUSE_S, 1.0

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def look(self) -> None:
        """Start it unless it runs; after an end soon after the start, not at once."""
        lasted = time.monotonic() - self._started
        if self.runs() or lasted < self._pause_s:
            return
        self._pause_s = 1.0 if lasted > LONGEST_PAUSE_S else min(2 * self._pause_s, LONGEST_PAUSE_S)
        environment = {**os.environ, MARK: self._mark}
        self._started = time.monotonic()
        with self._log.open("ab") if self._log else nullcontext() as said:
            self._process = subprocess.Popen(
                leash.leashed(self._command),
                cwd=stages.ROOT,
                env=environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def end(self) -> None:
        """End it and all that it ever started: asked first, then killed."""
        until, signalled = time.monotonic() + END_S, signal.SIGTERM
        for pid in self._started_by_it():
            _signal(pid, signalled)
        while left := self._started_by_it():
            if time.monotonic() > until:
                for pid in left:
                    _signal(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _started_by_it(self) -> set[int]:
        """Its own process by number, too: while that is being started it has no environment yet."""
        own = {self._process.pid} if self._process and self.runs() else set()
        return own | set(marked(f"{MARK}={self._mark}"))


def marked(variable: str) -> list[int]:
    """The processes of this user, zombies apart, that have this in their environment, such as "NAME=value"."""
    wanted = variable.encode()
    paths = Path("/proc").glob("[0-9]*/environ")
    return [int(path.parent.name) for path in paths if wanted in _environment(path).split(b"\0")]


def _environment(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # another user's, or gone
        return b""


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.kill(pid, number)
