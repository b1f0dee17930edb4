"""Releases as git tags, by gto's conventions: `seamline@v3.0.0` a version, `seamline#live#7` what is live since then.

A run does not commit, so that HEAD seldom has the release's dvc.lock. The tags point to a commit of their own, HEAD's
child, that has the files which the run was made of; it is made with an index of its own. HEAD, its branch, the index
and the working tree are not touched, and nothing is pushed. https://dvc.org/doc/gto/user-guide
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import how_ended

NAME, STAGE = "seamline", "live"
ALONE = ("-c", "core.hooksPath=/dev/null", "-c", "tag.gpgSign=false", "-c", "commit.gpgSign=false", "-c", "gc.auto=0")
UNSEEN = "--no-optional-locks"  # the owner's index is not locked, not even for a moment, which a kill makes for ever
MAKER = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Seamline"), ("EMAIL", "seamline@localhost"))
}
TIMEOUT_S = 60
HELD_S = 5.0  # how long a lock of git's may be there: what it stands for takes milliseconds


class GitError(Exception):
    """Git is not there, this is no repository, or it could not do it; a release goes on without."""


def head(root: Path) -> dict[str, Any]:
    """The commit of a checkout, and whether tracked files are otherwise than it has them.

    Raises:
        GitError: there is none.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD^{commit}")
    return {"commit": commit, "changed": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}


def record(root: Path, version: int) -> str:
    """A commit with the files that a run was made of; HEAD, if that has them.

    Args:
        root: the checkout's folder, with dvc.lock.
        version: for the commit's subject.

    Raises:
        GitError: it cannot be made.
    """
    with tempfile.TemporaryDirectory() as scratch:
        own = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _git(root, "read-tree", "HEAD", **own)
        _git(root, "update-index", "--add", "--remove", "-z", "--stdin", said="\0".join(made_of(root)), **own)
        tree = _git(root, "write-tree", **own)
    if tree == _git(root, "rev-parse", "HEAD^{tree}"):
        return _git(root, "rev-parse", "HEAD")
    return _git(root, "commit-tree", tree, "-p", "HEAD", "-m", f"Release {NAME} {version}")


def made_of(root: Path) -> list[str]:
    """The files of a run that git keeps, by dvc.lock: code, numbers, recipe, metrics, and what names the data."""
    stages = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    named = {entry["path"] for stage in stages for entry in (*stage.get("deps", []), *stage.get("outs", []))}
    named |= {file for stage in stages for file in stage.get("params", {})} | {"dvc.yaml", "params.yaml"}
    listed = _git(root, "ls-files", "-z", "--", *sorted(named)).split("\0")
    return sorted({"dvc.lock", *filter(None, listed)})


def announce(root: Path, version: int, commit: str, why: str) -> list[str]:
    """Tag a version, and that it is live, unless both is said already; the tags that were made.

    Raises:
        GitError: they cannot be made.
    """
    made, tagged = [], known(root, version)
    if not tagged:
        made.append(_tag(root, _version(version), commit, f"Release {version}"))
    commit = tagged or commit
    numbers = {int(tag.rpartition("#")[2]): tag for tag in _stage_tags(root)}
    last = numbers.get(max(numbers, default=0))
    if not last or _git(root, "rev-parse", f"{last}^{{commit}}") != commit:
        made.append(_tag(root, f"{NAME}#{STAGE}#{max(numbers, default=0) + 1}", commit, why))
    return made


def _stage_tags(root: Path) -> Iterable[str]:
    tags = _git(root, "tag", "--list", f"{NAME}#{STAGE}#*").splitlines()
    return [tag for tag in tags if tag.rpartition("#")[2].isdecimal()]


def known(root: Path, version: int) -> str:
    """The commit of a version that is tagged; "": it is not.

    Raises:
        GitError: it cannot be said.
    """
    name = _version(version)
    return _git(root, "rev-parse", f"{name}^{{commit}}") if _git(root, "tag", "--list", name) else ""


def _version(number: int) -> str:
    return f"{NAME}@v{number}.0.0"


def _tag(root: Path, name: str, commit: str, message: str) -> str:
    _forget_lock(root, name)
    _git(root, "tag", "--annotate", "--message", message, name, commit)
    return name


def _forget_lock(root: Path, name: str) -> None:
    """Remove what a git that was killed left of this tag: every later one would give up before it.

    One that works may be at it for a moment; no other run makes tags meanwhile (`releases.alone`).
    """
    lock = root / _git(root, "rev-parse", "--git-path", f"refs/tags/{name}.lock")
    until = time.monotonic() + HELD_S
    while lock.exists() and time.monotonic() < until:
        time.sleep(0.1)
    with suppress(OSError):  # it is not there, or git says why
        lock.unlink()


def _git(root: Path, *arguments: str, said: str = "", **own: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a hook that calls us
    command = ["git", UNSEEN, *ALONE, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=kept | MAKER | own,
            input=said,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git: {getattr(error, 'strerror', '') or error}") from error
    if done.returncode:
        raise GitError((done.stderr.strip().splitlines() or [f"git: {how_ended(done.returncode)}"])[-1])
    return done.stdout.strip()
