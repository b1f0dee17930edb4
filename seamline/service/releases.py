"""Which bundle serves, and the change to a new one: proved by workers of its own before a request reaches it.

A bundle is read and verified once, into a private folder that its workers load from, so that they all have the same
one and a worker that is replaced gets it, too, whatever has become of the files since. Each request stays with the
workers that it was given to: no answer mixes two models, and none is dropped.
"""

import asyncio
import shutil
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seamline import bundle, slots
from seamline.reading import shown
from seamline.service import copies
from seamline.service.copies import Copy
from seamline.service.pool import Command, Pool, StartError

POLL_S = 2.0


class Source(NamedTuple):
    """Where bundles come from."""

    model: Path | None  # a bundle's folder, a link to one, or an ONNX file; None: the slots, or what came along
    slots: Path
    public_key: bytes | None
    index_file: Path | None
    corrections: Path | None

    def candidates(self) -> list[Path]:
        """What may serve, the best first."""
        if self.model is not None:
            return [self.model]
        if (self.slots / slots.STATE).exists():
            state = slots.read(self.slots)
            return [self.slots / name for name in (state.serving, state.previous) if name]
        return [bundle.own()]

    def on_trial(self, path: Path) -> bool:
        """Whether it is an update that its first answer confirms; not what serves in place of a broken one."""
        return self.model is None and path == self.candidates()[0] and path.parent == self.slots

    def stamp(self) -> object:
        """Something that differs once a file does; None: it cannot be looked at right now."""
        try:
            paths = [*self.candidates(), *([self.index_file] if self.index_file else [])]
            return [
                _stamp(file)
                for path in paths
                for file in ([path, *sorted(path.iterdir())] if path.is_dir() else [path])
            ]
        except (OSError, ValueError):
            return None


class Releases:
    """The pool that serves, and its successors.

    Args:
        source: where bundles come from.
        workers: of each pool.
        broken: is called with a reason when nothing can serve any more.
    """

    def __init__(self, source: Source, workers: int, broken: Callable[[str], None]) -> None:
        self.restarts_before = 0  # of pools that have served
        self.again = asyncio.Event()  # look at once (SIGHUP)
        self.changes = 0
        self._source, self._workers, self._broken = source, workers, broken
        self._pool: Pool | None = None
        self._copy: Copy | None = None
        self._seen: object = None
        self._on_trial = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def pool(self) -> Pool:
        """That serves.

        Raises:
            RuntimeError: nothing was started.
        """
        if self._pool is None:
            raise RuntimeError("Expected a service that was started. Received one that was not.")
        return self._pool

    async def start(self) -> None:
        """The first of what may serve that can.

        Raises:
            ValueError: nothing can, with each reason.
        """
        copies.sweep()
        self._seen = self._source.stamp()
        reasons = []
        for path in self._source.candidates():
            try:
                return await self._serve(path)
            except (ValueError, OSError) as error:
                reasons.append(str(error))
        raise StartError(" ".join(reasons))

    def answered(self) -> None:
        """A picture was answered: an update on trial stays (seamline/slots.py)."""
        if self._on_trial:
            self._on_trial = False
            self._keep(asyncio.to_thread(_confirm, self._source.slots))

    async def watch(self) -> None:
        """Take each new bundle, for ever; one that must not be used leaves the old one serving."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self.again.wait()
            except TimeoutError:
                pass
            asked, stamp = self.again.is_set(), await asyncio.to_thread(self._source.stamp)
            self.again.clear()
            if stamp is not None and (asked or stamp != self._seen):
                self._seen = stamp
                await self._renew()

    async def close(self) -> None:
        """Every pool, when its questions are answered."""
        await asyncio.gather(*self._closing)
        if self._pool is not None and self._copy is not None:
            await self._end(self._pool, self._copy)

    async def _renew(self) -> None:
        try:
            path = self._source.candidates()[0]
            await self._serve(path)
        except (ValueError, OSError) as error:
            _say(f"{error} It is not used: version {self.pool.facts['version']} serves on.")
        else:
            self.changes += 1
            _say(f"Version {self.pool.facts['version']} serves from {path}.")

    async def _serve(self, path: Path) -> None:
        copy = Copy()
        try:
            model = await asyncio.to_thread(_kept, path, copy.folder, self._source.public_key)
            command = Command(str(model), str(self._source.index_file or ""), str(self._source.corrections or ""))
            pool = Pool(command, self._workers, self._broken)
            await pool.start()
        except BaseException:
            copy.remove()
            raise
        if pool.facts["without_index"] and self._source.index_file:
            _say(pool.facts["without_index"])
        before, self._pool, self._copy = (self._pool, self._copy), pool, copy
        self._on_trial = self._source.on_trial(path)
        if before[0] is not None and before[1] is not None:
            self.restarts_before += before[0].restarts
            self._keep(self._end(before[0], before[1]))

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        """Have it done beside everything else, and before the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @staticmethod
    async def _end(pool: Pool, copy: Copy) -> None:
        await pool.close()
        copy.remove()


def _confirm(folder: Path) -> None:
    with suppress(OSError, ValueError):  # a disk that cannot be written: it stays on trial
        slots.confirm(folder)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    facts = path.stat()
    return str(path.resolve()), facts.st_mtime_ns, facts.st_ino, facts.st_size


def _kept(path: Path, folder: Path, public_key: bytes | None) -> Path:
    """A copy of what was verified, which nobody else can change."""
    if not path.is_dir():
        if public_key is not None:
            raise bundle.BundleError(f"{path} is no bundle: a bare file cannot be signed.")
        if not path.is_file():
            raise bundle.BundleError(f"There is no model at {path}.")
        return Path(shutil.copy(path, folder / bundle.MODEL))
    found = bundle.read(path, public_key)
    for name, content in (found.files | {bundle.MANIFEST: found.signed}).items():
        (folder / name).write_bytes(content)
    return folder


def _say(line: str) -> None:
    print(shown(line), file=sys.stderr, flush=True)
