"""Signs of life of flow runs that no worker runs: those that a person started by hand, beside `make schedule`.

Their process locks a file, and the runs bear its name as a tag from the moment at which Prefect knows them: a sign
cannot be stale. `make schedule` removes the file once it has told Prefect (flows/reconciliation.py).
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from prefect import tags
from prefect.settings import get_current_settings

from flows import locked, stages, temporary

FOLDER = Path("data/.schedule/processes")
TAG = "process "


@contextmanager
def shown() -> Iterator[None]:
    """Flow runs within the block are seen to live. Without a server that outlives them nobody asks."""
    with temporary.server(), ExitStack() as until_the_end:
        if get_current_settings().api.url:
            with suppress(OSError):  # a full disk: the run does its work all the same
                path = stages.ROOT / FOLDER / uuid4().hex
                until_the_end.enter_context(locked.file(path))
                until_the_end.enter_context(tags(TAG + path.name))
        yield


def lost(root: Path) -> set[str]:
    """The names of signs whose processes have ended, or have no flow run any more."""
    return {path.name for path in locked.free(root / FOLDER)}


def ended(bears: Iterable[str], lost: set[str]) -> bool:
    """Whether a flow run with these tags was run by a process that has ended."""
    return any(tag.startswith(TAG) and tag.removeprefix(TAG) in lost for tag in bears)


def forget(root: Path, names: set[str]) -> None:
    """Remove signs that are lost."""
    for name in names:
        (root / FOLDER / name).unlink(missing_ok=True)
