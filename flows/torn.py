"""What DVC 3.67 writes in place, and a kill may leave torn: dvc.lock, and its note of who reads and writes what.

A torn note has every later run fail. A torn dvc.lock can be read and lacks stages, more often than not: they run again
for nothing. It takes DVC 50 ms to write, after each stage.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tasks.files import write_bytes

LOCK, NOTE = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
BEFORE = Path(".dvc/tmp/dvc.lock.before")  # dvc.lock as it was, while DVC may write it


@contextmanager
def mended(root: Path) -> Iterator[None]:
    """Around what has DVC write: what a block that was killed has left torn is as before that block.

    Only for who holds the lock of tasks/writer.py: then no other block is at work.
    """
    if (root / BEFORE).exists():
        recorded, before = _recorded(root / LOCK), _recorded(root / BEFORE)
        if before is not None and (recorded is None or not before <= recorded):
            (root / BEFORE).replace(root / LOCK)
    if (root / NOTE).exists() and not _is_json((root / NOTE).read_bytes()):
        (root / NOTE).unlink()  # DVC makes another
    if (root / LOCK).exists():
        write_bytes(root / BEFORE, (root / LOCK).read_bytes())
    try:
        yield
    finally:  # which a kill leaves out
        (root / BEFORE).unlink(missing_ok=True)


def _recorded(lock: Path) -> set[tuple[str, str]] | None:
    """The stages and paths that a dvc.lock knows, None if it is none."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        content = yaml.load(lock.read_bytes(), yaml.CSafeLoader)  # the safe one in C, eight times as fast
        stages = COMPILED_LOCKFILE_SCHEMA(content).get("stages", {})
    except (OSError, ValueError, yaml.YAMLError, Invalid):
        return None
    paths = ((name, kind, stage) for name, stage in stages.items() for kind in ("deps", "outs"))
    return {(name, one["path"]) for name, kind, stage in paths for one in stage.get(kind, ())}


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
