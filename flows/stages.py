"""The stages of dvc.yaml, seen from outside: their order, and bringing one up to date.

DVC runs in a process of its own that stays open for the whole flow (flows/repro.py); it runs each stage in another.
All of them are on a leash (flows/leash.py): a killed flow leaves nothing behind that writes for long.
"""

import difflib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from flows import leash, repro

ROOT = Path(__file__).resolve().parent.parent
BY_A_LIBRARY = "by a fault of a library, or because memory ran out"
CAUSES = {signal.SIGKILL: "most likely because memory ran out"}
CAUSES |= {signal.SIGILL: "by a library that was built for another processor"}
CAUSES |= dict.fromkeys((signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV), BY_A_LIBRARY)


class StageFailedError(Exception):
    """A stage refused or broke; the message is its last line."""


def names(root: Path = ROOT) -> list[str]:
    """The stages in the order of dvc.yaml, which is the order they run in."""
    return list(_stages(root))


class Dvc:
    """DVC, started when it is first needed and ended with all it started when the `with` block ends.

    Args:
        lock: the descriptor of the lock that what it starts is to hold, too (`tasks.writer`).
    """

    def __init__(self, root: Path = ROOT, lock: int | None = None) -> None:
        self._root, self._lock = root, lock
        self.ran: list[str] = []  # the stages that were not up to date
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def reproduce(self, stage: str) -> Iterator[str]:
        """Bring one stage up to date if anything that it reads, or wrote, has changed; its lines as they appear.

        Raises:
            StageFailedError: it refused or broke.
        """
        process = self._process = self._process or _start([sys.executable, "-m", "flows.repro"], self._root, self._lock)
        outcome, said, last = "", "", ""
        try:
            _write(process, stage)
            for line in _lines(process):
                if line.startswith(repro.END):
                    outcome = line.removeprefix(repro.END)
                    break
                said, last = _reason(stage, said, line), line
                yield line
        finally:
            if not outcome:  # it died, or the caller has had enough
                self._end()
        if outcome == repro.RAN:
            self.ran.append(stage)
        elif outcome == repro.CURRENT:
            yield f"{stage}: up to date"
        elif outcome.startswith(repro.STAGE_FAILED):
            raise StageFailedError(_named(stage, _ended_by(outcome) or said or outcome))
        else:
            reason = (outcome or last or "it was ended") + _nearest_recipe(outcome, self._root)
            raise StageFailedError(f"{stage}: DVC could not do it: {reason}. Mend this and run again.")

    def _end(self) -> None:
        if self._process:
            _end(self._process)
        self._process = None


def run_unrecorded(stage: str, root: Path = ROOT) -> Iterator[str]:
    """Run a stage's command as dvc.yaml has it, without DVC: for when its inputs are not recorded.

    Raises:
        StageFailedError: it refused or broke.
    """
    return run(stage, shlex.split(_stages(root)[stage]["cmd"]), root)


def run(name: str, command: list[str], root: Path = ROOT, lock: int | None = None) -> Iterator[str]:
    """Run a command that behaves like a stage: lines, the last one its reason, exit status.

    Raises:
        StageFailedError: it refused or broke.
    """
    process, last = _start(command, root, lock), ""
    try:
        for line in _lines(process):
            last = _reason(name, last, line)
            yield line
        if process.wait():
            outcome = f"exited with {process.returncode}"
            raise StageFailedError(_named(name, _ended_by(outcome) or last or outcome))
    finally:
        _end(process)


def _stages(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    stages: dict[str, Any] = content["stages"]
    return stages


def _start(command: list[str], root: Path, lock: int | None = None) -> subprocess.Popen[str]:
    """Start a command on a leash; its progress bar goes straight to the terminal, if there is one."""
    watched, held = sys.stderr.isatty(), () if lock is None else (lock,)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.Popen(
        leash.leashed(command, lock),
        cwd=root,
        env={**environment, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if watched else subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=held,
        start_new_session=True,  # so that a time-out or Ctrl-C ends the stage as well, not DVC alone
    )


def _write(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is None:
        raise ValueError("Expected a process with a pipe for its input. Received one without.")
    with suppress(BrokenPipeError):  # it has ended, which reading will show
        print(line, file=process.stdin, flush=True)


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    for line in process.stdout or ():
        yield line.rstrip()


def _reason(stage: str, last: str, line: str) -> str:
    """The line that says why a stage failed, so far: its own last one, not what others say after it."""
    return line if line.startswith(f"{stage}: ") or not last.startswith(f"{stage}: ") else last


def _ended_by(outcome: str) -> str:
    """What to say of a stage that a signal ended ("exited with -9", or 137 if a shell stands between); else nothing."""
    found = re.search(r"exited with (?:-|(?=\d{3}))(\d+)$", outcome)
    number = int(found[1]) % 128 if found else 0
    if number not in {known.value for known in signal.Signals}:
        return ""
    ended = signal.Signals(number)
    return f"ended by {ended.name}, {CAUSES.get(ended, 'from outside')}. Run again; what was there before is untouched."


def _nearest_recipe(outcome: str, root: Path) -> str:
    """What train.recipe was probably meant to name, if DVC found no file of that name."""
    found = re.search(r"'recipes/(.+)\.yaml' does not exist", outcome)
    if not found:
        return ""
    known = sorted(path.stem for path in (root / "recipes").glob("*.yaml"))
    near = difflib.get_close_matches(found[1], known, n=1) or known
    return f" (did you mean {' or '.join(near)}?)"


def _named(stage: str, reason: str) -> str:
    return reason if reason.startswith(f"{stage}: ") else f"{stage}: {reason}"


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and all it started, if it has not ended by itself."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
