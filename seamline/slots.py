"""Where a device keeps its model: two slots, of which one serves. What fails while it is replaced leaves it serving.

    SLOTS/a, SLOTS/b     a bundle each; the one that does not serve is the spare
    SLOTS/state.json     which one serves; replaced by one rename, which is the moment of the switch

An update is on trial until `confirm`: begun three times without it, the one before serves again.
"""

import json
import os
import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from seamline import bundle, check, disk
from seamline.bundle import Bundle, BundleError
from seamline.classifier import Classifier

STATE = "state.json"
NAMES = ("a", "b")
STARTS = 3  # of an update that nobody confirmed; then the one before serves again


class State(NamedTuple):
    """What state.json says."""

    serving: str = ""  # a, b, or none yet
    previous: str = ""  # what a rollback goes back to, if there is something
    newest: int = 0  # version that was ever installed: older ones are refused
    starts: int = 0  # since the update, without a confirmation
    confirmed: bool = True


def install(slots: Path, source: Path, public_key: bytes | None = None) -> Bundle:
    """Put a bundle into the spare slot, prove it there, and let it serve.

    Args:
        slots: the folder with both slots; made if it is absent.
        source: the bundle's folder.
        public_key: 32 bytes; if given, the bundle must be signed with its private key.

    Raises:
        BundleError: it must not be used. What serves goes on serving.
        OSError: the disk is full or read-only. Likewise.
    """
    with _lock(slots):
        state = read(slots)
        found = bundle.read(source, public_key, max(1, state.newest))
        spare = NAMES[1] if state.serving == NAMES[0] else NAMES[0]
        if state.previous:
            _write(slots, state._replace(previous=""))  # it is about to be overwritten
        try:
            _fill(slots / spare, source, found)
            _prove(slots / spare, public_key)
        except BaseException:
            shutil.rmtree(slots / spare, ignore_errors=True)
            raise
        _write(slots, State(spare, state.serving, found.version, 0, confirmed=False))
        return found


def rollback(slots: Path, public_key: bytes | None = None) -> int:
    """Let the bundle before the last update serve again; its version.

    Args:
        slots: the folder with both slots.
        public_key: 32 bytes; if given, that bundle must be signed with its private key, too: a revoked one is not
            gone back to.

    Raises:
        BundleError: there is none, or it is broken. What serves goes on serving.
    """
    with _lock(slots):
        state = read(slots)
        if not state.previous:
            raise BundleError(f"{slots}: there is no bundle to go back to.")
        found = bundle.read(slots / state.previous, public_key)
        _write(slots, State(state.previous, "", state.newest))
        return found.version


def start(slots: Path, public_key: bytes | None = None, threads: int = 1) -> Classifier:
    """The classifier that serves. An update that was started three times and never confirmed is taken back first.

    Raises:
        BundleError: no slot holds a bundle that may be used.
    """
    with _lock(slots):
        state = read(slots)
        if not state.confirmed:
            if state.starts >= STARTS and _may_serve(slots, state.previous, public_key):
                state = State(state.previous, "", state.newest)
            else:
                state = state._replace(starts=state.starts + 1)
            _write_if_possible(slots, state)
    reasons = []
    for name in filter(None, (state.serving, state.previous)):
        try:
            return Classifier(slots / name, threads, public_key)
        except (ValueError, OSError) as error:
            reasons.append(str(error))
    raise BundleError(f"{slots} has no model that may serve. {' '.join(reasons)} Install one: seamline update BUNDLE")


def confirm(slots: Path) -> None:
    """The update works: it stays, however often the device is restarted."""
    with _lock(slots):
        state = read(slots)
        if not state.confirmed:
            _write(slots, state._replace(starts=0, confirmed=True))


def read(slots: Path) -> State:
    """Which slot serves; nothing is installed: the empty state.

    Raises:
        BundleError: state.json is not as this module writes it.
    """
    path = slots / STATE
    if not path.exists():
        return State()
    broken = f"{path} is broken. Remove it and install a bundle: seamline update BUNDLE"
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleError(broken) from error
    typed = all(type(found) is type(wanted) for found, wanted in zip(state, State(), strict=True))
    if not typed or not {state.serving, state.previous} <= {*NAMES, ""}:
        raise BundleError(broken)
    return state


def _may_serve(slots: Path, name: str, public_key: bytes | None) -> bool:
    """Whether there is a bundle to go back to: whole, and signed with the key that counts today."""
    try:
        return bool(name) and bundle.read(slots / name, public_key).version >= 1
    except (BundleError, OSError):
        return False


def _fill(slot: Path, source: Path, found: Bundle) -> None:
    shutil.rmtree(slot, ignore_errors=True)
    slot.mkdir(parents=True)
    contents = found.files | {bundle.MANIFEST: found.signed}
    if (source / bundle.SIGNATURE).is_file():
        contents[bundle.SIGNATURE] = bundle.read_plain(source, bundle.SIGNATURE, bundle.LARGEST_MANIFEST_BYTES)
    for name, content in contents.items():
        _synced(slot / name, content)
    disk.sync(slot)
    disk.sync(slot.parent)


def _prove(slot: Path, public_key: bytes | None) -> None:
    """The bytes on the disk, on this processor."""
    classifier = Classifier(slot, 1, public_key)
    failures = check.golden_failures(classifier, check.serving_golden(classifier, bundle.read(slot, public_key)))
    if failures:
        raise BundleError(f"not installed: {'; '.join(failures)}.")


def _write(slots: Path, state: State) -> None:
    temporary = slots / f".tmp.{STATE}"
    _synced(temporary, (json.dumps(state._asdict(), indent=2) + "\n").encode())
    temporary.replace(slots / STATE)
    disk.sync(slots)


def _write_if_possible(slots: Path, state: State) -> None:
    """A device whose disk is full or read-only still serves; only its starts are not counted."""
    try:
        _write(slots, state)
    except OSError:
        with suppress(OSError):
            (slots / f".tmp.{STATE}").unlink()


def _synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _lock(slots: Path) -> AbstractContextManager[None]:
    if not slots.is_dir():
        slots.mkdir(parents=True)
    return disk.alone(slots)
