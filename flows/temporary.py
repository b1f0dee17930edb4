"""Prefect's own server, which a command starts when no other is named, and which would outlive a kill of the command.

It bears the name of a file that the command locks. Whoever starts such a server next ends those whose lock is free.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from prefect.settings import get_current_settings

from flows import locked, stages
from flows.kept import marked

MARK = "SEAMLINE_COMMAND"  # in the environment of what the command starts
FOLDER = Path("data/.schedule/commands")


@contextmanager
def server() -> Iterator[None]:
    """Should this process be killed within the block, the next one ends its server; nothing if one is named."""
    with ExitStack() as until_the_end:
        if not get_current_settings().api.url:
            end_left(stages.ROOT)
            with suppress(OSError):  # a full disk: the run does its work all the same
                path = stages.ROOT / FOLDER / uuid4().hex
                until_the_end.enter_context(locked.file(path))
                until_the_end.callback(path.unlink, missing_ok=True)
                os.environ[MARK] = path.name
        yield


def end_left(root: Path) -> None:
    """End what killed commands have left."""
    for path in locked.free(root / FOLDER):
        for process in marked(f"{MARK}={path.name}"):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(process, signal.SIGTERM)
        path.unlink(missing_ok=True)
