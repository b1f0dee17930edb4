"""Pictures that somebody has put right, kept for the next training: FOLDER/ankle-boot/<SHA-256 of the file>.jpg.

The file is kept as it came, for whoever trains to look at; it is counted and limited, so that a stranger can neither
fill the disk nor drown what others have sent.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seamline import decoding, disk
from seamline.service.refusals import Refused

SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif"}
DAY_S = 86_400
TEMPORARY = ".arriving."


class Limits(NamedTuple):
    """How much is kept."""

    pictures: int = 20_000
    size_bytes: int = 2 * 2**30
    daily_pictures: int = 2_000
    daily_bytes: int = 512 * 2**20


class Kept(NamedTuple):
    """What is there already."""

    pictures: int
    size_bytes: int


LIMITS = Limits()


def folder_name(kind: str) -> str:
    """A class as the name of a folder.

    >>> folder_name("T-shirt/top"), folder_name("Ankle boot")
    ('t-shirt-top', 'ankle-boot')
    """
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")


def keep(folder: Path, picture: bytes, kind: str, limits: Limits = LIMITS) -> bool:
    """Write a picture under its kind, whole or not at all; False: it was there.

    Args:
        folder: of all corrections; made if it is absent.
        picture: the bytes of its file.
        kind: a class that the model has.
        limits: how much is kept.

    Raises:
        Refused: 422, it cannot be decoded; 429, today's share is used up; 507, so is the folder's or the disk.
    """
    try:
        decoding.decode(picture)
    except (ValueError, MemoryError) as error:
        raise Refused(422, f"The picture is not kept: {error or 'it takes too much memory'}") from error
    name = hashlib.sha256(picture).hexdigest() + _suffix(picture)
    place = folder / folder_name(kind)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with disk.alone(folder):
            if (place / name).exists():
                return False
            _require_room(folder, len(picture), limits)
            _write(place, name, picture)
    except OSError as error:
        raise Refused(507, f"The picture could not be kept: {error.strerror}.") from error
    return True


def _suffix(picture: bytes) -> str:
    return next(suffix for start, suffix in SUFFIXES.items() if picture.startswith(start))


def _require_room(folder: Path, size: int, limits: Limits) -> None:
    all_kept = list(_files(folder))
    every = Kept(len(all_kept), sum(one.st_size for one in all_kept))
    since = time.time() - DAY_S
    recent = [one.st_size for one in all_kept if one.st_mtime >= since]
    if every.pictures >= limits.pictures or every.size_bytes + size > limits.size_bytes:
        raise Refused(507, "No more corrections are kept: take those that are there first.")
    if len(recent) >= limits.daily_pictures or sum(recent) + size > limits.daily_bytes:
        raise Refused(429, "No more corrections are kept today.", {"Retry-After": str(DAY_S // 24)})


def _files(folder: Path) -> Iterator[os.stat_result]:
    """What is kept. What workers that were killed have left is removed: this one is alone here."""
    for place in os.scandir(folder):
        if place.is_dir(follow_symlinks=False):
            with os.scandir(place.path) as entries:
                for entry in entries:
                    if entry.name.startswith(TEMPORARY):
                        Path(entry.path).unlink()
                    else:
                        yield entry.stat(follow_symlinks=False)


def _write(place: Path, name: str, picture: bytes) -> None:
    temporary = place / f"{TEMPORARY}{name}"
    try:
        with temporary.open("wb") as file:
            file.write(picture)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(place / name)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    disk.sync(place)
    disk.sync(place.parent)
