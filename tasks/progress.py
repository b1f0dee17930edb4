"""A progress bar for long work: on standard error, and only where a person is looking."""

import sys

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar that vanishes when done; log lines on standard output say the same to a file."""
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def step_aside(progress: Progress) -> None:
    """Take the bar away before a line is logged, which another process may print; `progress.start()` brings it back."""
    if not progress.disable:
        progress.stop()
