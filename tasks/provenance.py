"""When, from which commit and on which machine something was made, for whoever reads a figure later."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tasks import processor

ROOT = Path(__file__).resolve().parent.parent


def commit(checkout: Path = ROOT) -> str:
    """That a checkout stands at; "" where there is no git, or no commit."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-C", str(checkout), "rev-parse", "--verify", "--quiet", "HEAD"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def here(checkout: Path = ROOT) -> str:
    """Such as "2026-11-22, commit 0123456789, Intel(R) Xeon(R) Processor, 2 cores"."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit(checkout)[:10] or 'unknown'}, "
        f"{processor.name()}, {os.cpu_count()} cores"
    )
