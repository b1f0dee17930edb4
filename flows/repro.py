"""A `dvc repro --single-item` that stays open: `python -m flows.repro`, a stage's name per line of standard input.

Starting DVC costs 1.2 s, bringing a stage up to date with it 0.1 s. What the stage prints appears as it is printed;
when it has ended, one line follows that starts with END: RAN, CURRENT or why it failed.
"""

import logging
import sqlite3
import sys
from pathlib import Path

from flows import durable
from tasks import incoming

END = "\x04"  # which no stage prints
RAN, CURRENT = "ran", "current"
READS_INCOMING = "admit"
INCOMING, UNREADABLE = Path("data/incoming"), Path("data/unreadable")
STAGE_FAILED = "failed to run: "  # DVC's words for a command that ended with another exit status than 0


def main() -> None:
    """Bring up to date what is asked for, until standard input ends."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # what `dvc --quiet` does
    durable.write_lock_whole()
    durable.forget_the_killed(Path())
    for line in sys.stdin:
        try:
            if line.strip() == READS_INCOMING:
                _sweep()
            with Repo(_wait_for_lock=True) as repo:  # what `dvc --wait-for-lock` does
                outcome = RAN if repo.reproduce(line.strip(), single_item=True) else CURRENT
        except (DvcException, OSError, sqlite3.Error) as error:
            outcome = " ".join(str(error.__cause__ or error).split())
        print(f"{END}{outcome}", flush=True)


def _sweep() -> None:
    """What people leave in data/incoming may be something that DVC would wait at for ever."""
    for sentence in incoming.sweep(INCOMING, UNREADABLE):
        print(sentence, flush=True)


if __name__ == "__main__":
    main()
