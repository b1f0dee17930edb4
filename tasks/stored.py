"""What DVC keeps of a run: every file's bytes checked, mended from the remote where they are spoilt, and pushed.

DVC takes a read-only file in its cache for what its name says and never reads it again, so that rotten bytes would be
pushed and released. Here each file that dvc.lock names is read.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tasks.errors import ReleaseError, how_ended

CHUNK = 2**20
LONGEST_REASON = 400  # characters of DVC's
FOLDER = ".dir"  # ending of the digest of a folder, whose file lists what is in it
ASIDE = ".tmp."
DVC, PUSH = ("dvc", "--wait-for-lock"), ("tasks.pushing",)  # modules, with arguments


class Store(NamedTuple):
    """Where DVC keeps things."""

    root: Path  # the checkout
    cache: Path  # of MD5 digests
    remote: str | None  # the default one's name

    def place(self, md5: str) -> Path:
        return self.cache / md5[:2] / md5[2:]


def found(root: Path) -> Store | None:
    """DVC's store of a checkout; None: there is no DVC here.

    Raises:
        ReleaseError: DVC cannot say.
    """
    if not (root / ".dvc").is_dir():
        return None
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Store(root, Path(repo.cache.local.path), repo.config["core"].get("remote"))
    except DvcException as error:
        raise ReleaseError(f"not released: DVC: {' '.join(str(error).split())}") from error


def outputs(store: Store) -> dict[str, str]:
    """Path → MD5 of everything that dvc.lock names and the cache keeps; metrics and the like are git's."""
    content = yaml.safe_load((store.root / "dvc.lock").read_text(encoding="utf-8"))
    described = yaml.safe_load((store.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    entries = [entry for stage in described for key in ("outs", "metrics", "plots") for entry in stage.get(key, [])]
    gits = {path for entry in entries if isinstance(entry, dict)
            for path, facts in entry.items() if facts.get("cache") is False}  # fmt: skip
    named = {out["path"]: out["md5"] for stage in content["stages"].values() for out in stage.get("outs", [])}
    return {path: md5 for path, md5 in named.items() if path not in gits}


def spoilt(store: Store) -> list[str]:
    """The digests of files that are absent from the cache, or are not what their names say."""
    return sorted({md5 for top in outputs(store).values() for md5 in _spoilt(store, top)})


def _spoilt(store: Store, md5: str) -> Iterator[str]:
    if not _whole(store, md5):
        yield md5
    else:
        yield from (one for one in kept_by(store, md5) - {md5} if not _whole(store, one))


def kept_by(store: Store, md5: str) -> set[str]:
    """The digests of an output's files in the cache: its own and, if it is a folder, those in its list."""
    listed = json.loads(store.place(md5).read_bytes()) if md5.endswith(FOLDER) else []
    return {md5, *(entry["md5"] for entry in listed)}


def _whole(store: Store, md5: str) -> bool:
    return _md5(store.place(md5)) == md5.removesuffix(FOLDER)


def _md5(path: Path) -> str:
    """Of a file; "" of one that cannot be read."""
    whole = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                whole.update(block)
    except OSError:
        return ""
    return whole.hexdigest()


def require_same(store: Store, path: str, folder: Path) -> None:
    """Refuse a folder that is not the one that dvc.lock names.

    Args:
        store: the checkout's.
        path: of the output, as dvc.yaml has it.
        folder: where it lies.

    Raises:
        ReleaseError: it has other files, or dvc.lock does not name it.
    """
    md5 = outputs(store).get(path, "")
    listed = json.loads(store.place(md5).read_bytes()) if md5 else []
    named = {entry["relpath"]: entry["md5"] for entry in listed}
    if named != {file.name: _md5(file) for file in folder.iterdir()}:
        raise ReleaseError(f"not released: {folder} is not what dvc.lock names. Run `dvc repro`.")


def mend(store: Store, timeout_s: float) -> list[str]:
    """Bring files that are spoilt back from the remote; their digests.

    Raises:
        ReleaseError: that does not help, or there is no remote. What was there is there still.
    """
    _put_back(store)
    mended: list[str] = []
    while bad := [md5 for md5 in spoilt(store) if md5 not in mended]:  # a folder's list comes before its files
        said = _fetched(store, bad, timeout_s)
        if still := [md5 for md5 in bad if not _whole(store, md5)]:
            raise ReleaseError(f"not released: {_named(store, still)} spoilt in DVC's cache{said}")
        mended += bad
    return mended


def _put_back(store: Store) -> None:
    """What a run that was killed as it mended had set aside."""
    for aside in store.cache.glob(f"??/{ASIDE}*"):
        place = aside.with_name(aside.name.removeprefix(ASIDE))
        aside.unlink() if place.exists() else aside.replace(place)


def _fetched(store: Store, bad: list[str], timeout_s: float) -> str:
    """Fetch these files anew; why that could not be done, as the end of a sentence."""
    if not store.remote:
        return ", and there is no remote to bring it back from. Bring it back: dvc repro --force"
    places = {md5: store.place(md5) for md5 in bad}
    aside = {md5: place.with_name(ASIDE + place.name) for md5, place in places.items() if place.exists()}
    for md5, path in aside.items():
        places[md5].replace(path)
    said = _said(store, timeout_s, *DVC, "fetch")
    for md5, path in aside.items():
        path.unlink() if _whole(store, md5) else path.replace(places[md5])
    return (
        f", and the remote {store.remote!r} has no good one either ({said or 'spoilt there, too'}). dvc repro --force"
    )


def _named(store: Store, bad: list[str]) -> str:
    """Which outputs these are part of."""
    tops = [path for path, md5 in outputs(store).items() if set(bad) & {md5, *_spoilt(store, md5)}]
    return f"{', '.join(tops)} {'is' if len(tops) == 1 else 'are'}"


def push(store: Store, timeout_s: float) -> None:
    """Bring what the remote lacks to it.

    Raises:
        ReleaseError: it is away, read-only or full, or takes too long.
    """
    if said := _said(store, timeout_s, *PUSH):
        raise ReleaseError(f"not released: the remote {store.remote!r} took it not: {said} Mend it, then run again.")


def _said(store: Store, timeout_s: float, *module: str) -> str:
    """Run a module of DVC, or one that does; its reason if it fails, else nothing."""
    command = [sys.executable, "-m", *module]
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=store.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {timeout_s:g} s."
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reasons = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[-1:]
    reason = next(iter(reasons), how_ended(done.returncode))  # the first says most
    return f"{reason[:LONGEST_REASON].rstrip('.')}." if done.returncode else ""
