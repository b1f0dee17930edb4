"""Disks of a test's own, which are full: a tmpfs in a mount namespace, or, for several processes at once, one for all."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SMALL = "64m"
FULL = f"""
cp -a "$0/." "$1" && mount -t tmpfs -o size={SMALL} tmpfs "$0" && cp -a "$1/." "$0" && rm -r "$1" && cd "$2" || exit 3
cat /dev/zero > "$0/filler" 2>/dev/null
folder=$0 copy=$1; shift 2; "$@"; status=$?
rm "$folder/filler"; cp -a "$folder/." "$copy"; exit $status
"""


def full_within(folder: Path, copy: Path, at: Path) -> tuple[str, ...]:
    """What a command begins with that finds the disk of a folder full.

    Args:
        folder: with what it has, on a disk of its own.
        copy: what will be in it afterwards.
        at: where the command is run.
    """
    copy.mkdir()
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, str(folder), str(copy), str(at))


@contextmanager
def small(folder: Path) -> Iterator[Path]:
    """A small disk at an empty folder, for every process of this machine; only root can do it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(filler: BinaryIO) -> None:
    """Write until there is no room; the file is not buffered."""
    with suppress(OSError):
        while True:
            filler.write(bytes(4096))
