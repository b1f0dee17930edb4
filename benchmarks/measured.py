"""Where figures come from, in the same words on every page of them: command, date, commit, machine."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tasks import processor

ROOT = Path(__file__).resolve().parent.parent


def by(command: str, checkout: Path = ROOT) -> str:
    """Such as "`make bench` on 2026-11-22, commit 0123456789, Intel(R) Xeon(R), 2 cores"."""
    shown = ["git", "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(shown, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()
    return f"`{command}` on {datetime.now(UTC):%Y-%m-%d}, commit {commit}, {processor.name()}, {os.cpu_count()} cores"
