"""The releases of a checkout, by version, and which of them is live.

    RELEASES/3/               bundle/, dvc.lock, params.yaml, metrics.json, challenge.json, challenge.md, release.json
    RELEASES/live → 3         a relative link, replaced by one rename, which is the moment of the switch
    RELEASES/previous → 2     what `rollback` goes back to
    RELEASES/history.json     what was switched to what, when, why

A release is never written again. Before a switch a note says what is about to happen; whoever comes next finishes what
a kill has left undone (`mend`), so that the two links and the history need not change at the same moment.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from seamline import disk
from tasks.errors import DataError
from tasks.files import digest, lock, read_json, write_json

LIVE, PREVIOUS, HISTORY, NOTE, ABOUT = "live", "previous", "history.json", ".switch.json", "release.json"
RELEASED, PROMOTED, ROLLED_BACK = "released", "promoted", "rolled back"
LONGEST_HISTORY = 1000  # events


class Standing(NamedTuple):
    """Versions; None: there is none."""

    live: int | None
    previous: int | None


class Switch(NamedTuple):
    """What is about to happen."""

    live: int
    previous: int | None
    new: bool  # the release itself has just been written, and has no other reason to be there
    event: Mapping[str, Any]  # for the history


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time changes what is here, and finds it whole."""
    with lock(folder):
        mend(folder)
        try:
            yield
        except BaseException:
            with suppress(OSError):  # the disk that broke it may not let anything be removed either
                mend(folder)
            raise


def standing(folder: Path) -> Standing:
    """Which release is live and which was before, also if the last switch was killed half-way; nothing is written.

    Raises:
        DataError: a link leads to no release.
    """
    links = Standing(_version(folder, LIVE), _version(folder, PREVIOUS))
    note = _note(folder)
    return Standing(links.live, note.previous) if note and note.live == links.live else links


def versions(folder: Path) -> list[int]:
    """Those that are kept, the oldest first."""
    return sorted(int(path.name) for path in folder.glob("[1-9]*") if path.name.isdecimal() and path.is_dir())


def history(folder: Path) -> list[dict[str, Any]]:
    """What was switched, the oldest first."""
    path = folder / HISTORY
    found: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    return found


def withdrawn(folder: Path) -> dict[int, dict[str, Any]]:
    """Version → the event, of those that a person has replaced by an older one: no run brings them back by itself."""
    found: dict[int, dict[str, Any]] = {}
    for event in history(folder):
        if event["what"] != RELEASED and (event["before"] or 0) > event["version"]:
            found[event["before"]] = event
        found.pop(event["version"], None)
    return found


def switch(folder: Path, change: Switch, new: Path | None = None) -> None:
    """Let a release be live. Killed at any moment, the one before is live or this one is; `mend` does the rest.

    Args:
        folder: the releases.
        change: which is to be live.
        new: where it has been written, if it is not among the releases yet.
    """
    write_json(folder / NOTE, change._asdict())
    disk.sync(folder)
    if new:
        new.rename(folder / str(change.live))
        disk.sync(folder)
    _point(folder, LIVE, change.live)
    _finish(folder, change)


def mend(folder: Path) -> None:
    """Finish or undo what a kill has left half done, and remove what it had begun to write."""
    note, live = _note(folder), _version(folder, LIVE)
    if note and note.live == live:
        _finish(folder, note)
    elif note and note.new:
        discard(folder, note.live)  # written, never live
    (folder / NOTE).unlink(missing_ok=True)
    for path in folder.glob(".tmp.*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def discard(folder: Path, version: int) -> None:
    """Remove a release; a kill leaves the whole of it or nothing that counts.

    Raises:
        DataError: it is live, or the one before.
    """
    if version in {_version(folder, LIVE), _version(folder, PREVIOUS)}:
        raise DataError(f"{folder / str(version)} is in service or the one before: it stays.")
    gone = folder / f".tmp.gone.{version}"
    with suppress(FileNotFoundError):
        (folder / str(version)).rename(gone)
        disk.sync(folder)
        shutil.rmtree(gone)


def collect(folder: Path, keep: int) -> list[int]:
    """Remove all but the newest `keep` releases, the live one and the one before; what was removed."""
    found, now = versions(folder), standing(folder)
    old = [version for version in found[: max(0, len(found) - keep)] if version not in now]
    for version in old:
        discard(folder, version)
    return old


def described(release: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a release but of `release.json`, which has them."""
    files = sorted(path for path in release.rglob("*") if path.is_file() and path != release / ABOUT)
    contents = {str(path.relative_to(release)): path.read_bytes() for path in files}
    return {name: {"bytes": len(content), "sha256": digest(content)} for name, content in contents.items()}


def damage(release: Path) -> list[str]:
    """What of a release is not as it was written; nothing: it is whole."""
    if not release.is_dir():
        return [f"{release} is absent"]
    try:
        promised = read_json(release / ABOUT)["files"]
    except (OSError, DataError, KeyError, TypeError):
        return [f"{release / ABOUT} cannot be read"]
    found = described(release)
    return [f"{release / name} is not as it was released" for name in sorted(promised | found)
            if promised.get(name) != found.get(name)]  # fmt: skip


def _finish(folder: Path, change: Switch) -> None:
    _point(folder, PREVIOUS, change.previous)
    events = history(folder)
    if events[-1:] != [change.event]:
        write_json(folder / HISTORY, [*events, change.event][-LONGEST_HISTORY:])
    (folder / NOTE).unlink()
    disk.sync(folder)


def _point(folder: Path, name: str, version: int | None) -> None:
    if version is None:
        (folder / name).unlink(missing_ok=True)
    elif _version(folder, name) != version:
        temporary = folder / f".tmp.{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(str(version))
        temporary.rename(folder / name)
    disk.sync(folder)


def _version(folder: Path, name: str) -> int | None:
    path = folder / name
    if not os.path.lexists(path):
        return None
    target = path.readlink().name if path.is_symlink() else ""
    if not target.isdecimal():
        raise DataError(f"{path} is no link to a release. Remove it, then: python -m flows.release promote VERSION")
    return int(target)


def _note(folder: Path) -> Switch | None:
    """What was about to happen when a run was killed; a note that cannot be read counts as none."""
    try:
        return Switch(**read_json(folder / NOTE))
    except (FileNotFoundError, DataError, TypeError):
        return None
