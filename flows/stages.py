"""The stages of dvc.yaml, seen from outside: their order, whether one is up to date, and bringing it up to date.

Asking costs 0.1 s (DVC as a library); only a stage that has to run pays for the `dvc` command (1.4 s), which runs it in
a process of its own and records it.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


class StageFailedError(Exception):
    """A stage refused or broke; the message is its last line."""


def names(root: Path = ROOT) -> list[str]:
    """The stages in the order of dvc.yaml, which is the order they run in."""
    return list(_stages(root))


def is_current(stage: str, root: Path = ROOT) -> bool:
    """Whether nothing that the stage reads, and nothing it wrote, has changed since it ran."""
    from dvc.repo import Repo

    with Repo(str(root), _wait_for_lock=True) as repo:  # what `dvc --wait-for-lock` does
        return not repo.status(targets=[f"{root}/dvc.yaml:{stage}"])


def reproduce(stage: str, root: Path = ROOT) -> Iterator[str]:
    """Bring one stage up to date; its lines as they appear.

    Raises:
        StageFailedError: it refused or broke.
    """
    dvc = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", stage]
    return _lines(stage, dvc, root)


def run_unrecorded(stage: str, root: Path = ROOT) -> Iterator[str]:
    """Run a stage's command as dvc.yaml has it, without DVC: for when its inputs are not recorded."""
    return _lines(stage, shlex.split(_stages(root)[stage]["cmd"]), root)


def _stages(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))
    stages: dict[str, Any] = content["stages"]
    return stages


def _lines(stage: str, command: list[str], root: Path) -> Iterator[str]:
    """The lines of a command; its progress bar goes straight to the terminal, if there is one."""
    watched = sys.stderr.isatty()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    process = subprocess.Popen(
        command,
        cwd=root,
        env={**environment, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"},
        stdout=subprocess.PIPE,
        stderr=None if watched else subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that a time-out or Ctrl-C ends the stage as well, not DVC alone
    )
    last = ""
    try:
        for line in process.stdout or ():
            text = line.rstrip()
            last = text if text.startswith(f"{stage}: ") or not last.startswith(f"{stage}: ") else last
            yield text
        if process.wait():
            reason = last or f"ended with exit status {process.returncode}"
            raise StageFailedError(reason if reason.startswith(f"{stage}: ") else f"{stage}: {reason}")
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and all it started, if it has not ended by itself."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    if process.stdout:
        process.stdout.close()
