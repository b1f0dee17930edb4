"""`dvc push`, and a look at what has come of it: `python -m tasks.pushing`, which tasks/stored.py runs.

DVC takes a folder's list in the remote as proof that all its files are there. A list is made empty under its own name
for a moment where the remote is a folder of this machine: a push that is killed then leaves a list that every later
push stumbles over. A file that is lost, or half of what it was, is never missed. So sizes are compared, one question
for each file (digests would mean to read the whole remote); a list that proves nothing is removed and pushed again.
"""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from dvc.cli import main as dvc
from dvc.repo import Repo
from dvc_data.hashfile.db import get_index

from tasks import stored
from tasks.stored import Store

PUSH = ["--wait-for-lock", "push"]


def main() -> int:
    """Push, and once more if the remote had something that must not be believed; DVC's exit status."""
    status: int = dvc(PUSH)
    return dvc(PUSH) if forget(Path.cwd()) else status


def forget(root: Path) -> list[str]:
    """Remove lists from the remote that lack files, and files of theirs that are not as long as ours; their digests."""
    store = stored.found(root)
    with Repo(str(root)) as repo:
        remote = repo.cloud.get_remote(command="push")
        if not store or remote.worktree or remote.fs.version_aware:  # such a remote has files and no lists
            return []
        removed = sorted({md5 for top in stored.outputs(store).values() for md5 in _unproved(store, remote.odb, top)})
        for md5 in removed:
            remote.fs.remove(remote.odb.oid_to_path(md5))
        if removed:
            with closing(get_index(remote.odb)) as seen:  # DVC's own note of what is there
                seen.clear()
    return removed


def _unproved(store: Store, remote: Any, top: str) -> list[str]:
    """What is to be removed of a list that is there: nothing if all that it lists is there, too."""
    ours = {md5: store.place(md5).stat().st_size for md5 in stored.kept_by(store, top)}
    theirs = {md5: _size(remote, md5) for md5 in ours}
    if not top.endswith(stored.FOLDER) or theirs[top] is None or ours == theirs:
        return []
    return [md5 for md5 in ours if md5 == top or theirs[md5] not in {None, ours[md5]}]


def _size(remote: Any, md5: str) -> int | None:
    """Of a file in the remote; None: there is none."""
    try:
        size: int = remote.fs.size(remote.oid_to_path(md5))
    except FileNotFoundError:
        return None
    return size


if __name__ == "__main__":
    sys.exit(main())
