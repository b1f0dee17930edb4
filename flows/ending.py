"""An orderly end on SIGTERM, which Python alone does not give: a scheduler's, a container's, `kill`'s."""

import signal
import subprocess
import sys
import threading


def exit_on_sigterm() -> None:
    """From now on SIGTERM ends this process as sys.exit does, and so Prefect's own server, if it started one."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Processes:
    """Commands that threads of this process run and wait for; ended together, after which none begins.

    Python waits for its threads, so that one which waits for a command of an hour keeps an ended run alive.
    """

    def __init__(self) -> None:
        self._lock, self._running, self._ended = threading.Lock(), set[subprocess.Popen[str]](), False

    def start(self, command: list[str], cwd: str, environment: dict[str, str]) -> subprocess.Popen[str]:
        """Start a command, standard output and standard error together.

        Raises:
            InterruptedError: the run has been ended.
        """
        with self._lock:
            if self._ended:
                raise InterruptedError("not begun: the run was ended")
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._running.add(process)
            return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """End one if it still runs, and forget it."""
        if process.poll() is None:
            process.terminate()
        self._running.discard(process)

    def end_all(self) -> None:
        """End those that run; no other begins."""
        with self._lock:
            self._ended = True
        for process in tuple(self._running):
            self.end(process)


# Those of this process. A task that a cluster runs says `ending.processes`: Prefect sends a task's own names by value,
# which a lock does not survive, and modules by name.
processes = Processes()
