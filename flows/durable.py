"""DVC's own files, readable after a kill: dvc.lock, and its note of who reads and writes what (.dvc/tmp/rwlock).

DVC 3.67 truncates both and writes them anew, 50 ms for dvc.lock after each stage. Half a dvc.lock mostly parses and
lacks stages, which then run again. Half a note has every later run fail; so does a whole one that names a process which
was killed, as soon as another process has its number.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

from tasks.files import write_json, write_text

NOTE = Path(".dvc/tmp/rwlock")


def write_lock_whole() -> None:
    """From now on the DVC of this process writes dvc.lock beside it and renames it."""
    from dvc.utils.serialize import _common

    def dump(path: str, data: Any, dumper: Any, fs: Any = None, **more: Any) -> None:  # noqa: ARG001  DVC gives it
        text = io.StringIO()
        dumper(data, text, **more)
        write_text(Path(path), text.getvalue())

    _common._dump_data = dump  # noqa: SLF001  pyproject.toml pins DVC, and tests/test_durable.py kills it at this call


def forget_the_killed(root: Path) -> None:
    """Take out of the note what earlier processes of this command left there; if it is torn, remove it.

    Only for who holds the lock of tasks/writer.py: then none of them lives.
    """
    from dvc.lock import make_lock

    note, own = root / NOTE, " ".join(sys.argv)  # as DVC names a process
    if not note.exists():
        return
    with make_lock(f"{note}.lock", wait=True):  # DVC's own, so that nobody is writing it
        try:
            held = json.loads(note.read_bytes())
        except ValueError:
            note.unlink()
            return
        write = {path: by for path, by in held.get("write", {}).items() if by["cmd"] != own}
        read = {path: [by for by in some if by["cmd"] != own] for path, some in held.get("read", {}).items()}
        write_json(note, {"write": write, "read": read})
