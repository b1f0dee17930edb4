"""Where a training stands, on disk: after a kill at any moment the next run goes on from the last whole epoch.

The last two are kept, each with its own digest in front, so that one that the disk spoiled is noticed and the one
before it used. numpy's format, without pickle.
"""

import io
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.files import digest, write_bytes

logger = logging.getLogger(__name__)

KEPT = 2
DIGEST_BYTES = 64


class Checkpoint(NamedTuple):
    epochs: int  # done
    state: list[Any]  # of engine.Trainer
    history: list[dict[str, Any]]  # a row per epoch
    seconds: float  # of training so far


def save(folder: Path, key: str, checkpoint: Checkpoint) -> None:
    """Keep where training stands.

    Args:
        folder: of the checkpoints of one training.
        key: digest of all that the training depends on.
        checkpoint: after a whole epoch.
    """
    facts = {"key": key, "epochs": checkpoint.epochs, "seconds": checkpoint.seconds, "history": checkpoint.history}
    content = io.BytesIO()
    arrays = {f"array{number:04}": array for number, array in enumerate(checkpoint.state)}
    np.savez(content, facts=np.array(json.dumps(facts)), **arrays)
    write_bytes(folder / f"epoch{checkpoint.epochs:05}", digest(content.getvalue()).encode() + content.getvalue())
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def newest(folder: Path, key: str) -> Checkpoint | None:
    """The newest whole checkpoint of this training; those of another are removed, a broken one is set aside."""
    for path in _newest_first(folder):
        content = path.read_bytes()
        if digest(content[DIGEST_BYTES:]).encode() != content[:DIGEST_BYTES]:
            path.replace(path.with_name(f"broken.{path.name}"))
            logger.warning("train: the checkpoint %s is broken and set aside", path)
            continue
        with np.load(io.BytesIO(content[DIGEST_BYTES:]), allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            state = [arrays[name] for name in sorted(set(arrays.files) - {"facts"})]
        if facts["key"] == key:
            return Checkpoint(facts["epochs"], state, facts["history"], facts["seconds"])
        path.unlink()
    return None


def clear(folder: Path) -> None:
    """The training has ended, and its result is saved."""
    for path in folder.glob("*epoch*"):
        path.unlink()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch*"), reverse=True)
