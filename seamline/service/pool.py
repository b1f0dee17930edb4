"""The workers of one bundle: each a process that answers one question at a time, replaced when it ends or stalls.

Processes, not threads: a thread that is stuck in a picture cannot be ended, one that crashes ends everybody, and what
it decodes competes for the interpreter's lock with the loop that has to refuse the rest.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seamline.service import frames
from seamline.service.frames import Frame
from seamline.service.refusals import Gone, busy

PACKAGES = Path(__file__).resolve().parent.parent.parent
START_S = 60.0
ANSWER_S = 5.0  # for one question; the worst picture known takes 2 s
WAIT_S = 5.0  # in the queue
ALLOTTED = {
    "OPENBLAS_NUM_THREADS": "1",  # else one for each processor
    "MALLOC_TOP_PAD_": str(4 * 2**20),  # glibc gives no less than that back, to fetch it again for the next picture
}
FAILED_STARTS = 3  # in a row, after which there is no use in another one


class StartError(ValueError):
    """A worker that cannot serve: the model must not be used, or there is no memory."""


class Lost(Exception):  # noqa: N818 (what becomes of it, the caller decides)
    """A worker that ended or stalled over a question."""


class Command(NamedTuple):
    """What a worker works with."""

    model: str  # a bundle's folder, or an ONNX file
    index_file: str  # or, or ""
    corrections: str  # a folder, or ""


class Worker:
    """One process."""

    def __init__(self, process: Process, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._process = process

    @classmethod
    async def start(cls, command: Command) -> "Worker":
        """A worker that has proved its model.

        Raises:
            StartError: it could not, and says why.
        """
        paths = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH", "")]))
        environment = {name: value for name, value in os.environ.items() if name != "SEAMLINE_TOKEN"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "seamline.service.worker", *command),  # -P: nothing from where it was started
            stdin=PIPE,
            stdout=PIPE,
            env=environment | {"PYTHONPATH": paths} | ALLOTTED,
        )
        worker = cls(process, {})
        try:
            worker.facts = (await worker._read(START_S)).head
        except Lost as error:
            raise StartError("A worker ended before it could answer.") from error
        if "fault" in worker.facts:
            raise StartError(worker.facts["fault"])
        return worker

    async def ask(self, question: Frame) -> Frame:
        """Its answer.

        Raises:
            Lost: it ended, or took too long and was ended.
        """
        if self._process.stdin is None:
            raise Lost
        with suppress(ConnectionError, RuntimeError):  # that it has ended is seen as its answer is read
            self._process.stdin.write(frames.encode(question))
        return await self._read(ANSWER_S)

    async def _read(self, seconds: float) -> Frame:
        if self._process.stdout is None:
            raise Lost
        answered = False
        try:
            async with asyncio.timeout(seconds):
                head, body = frames.lengths(await self._process.stdout.readexactly(frames.LENGTHS.size))
                content = await self._process.stdout.readexactly(head + body)
            frame = Frame(frames.parsed(content[:head]), content[head:])
            answered = True
        except (TimeoutError, ValueError, ConnectionError, asyncio.IncompleteReadError) as error:
            raise Lost from error
        finally:
            if not answered:
                self.kill()
        return frame

    def kill(self) -> None:
        """At once, whatever it is doing."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """By closing its input; it ends as soon as it has answered."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()


class Pool:
    """Equal workers; `ask` waits for the next that is free.

    Args:
        command: what they work with.
        size: how many.
        broken: is called when none can be started any more.
    """

    def __init__(self, command: Command, size: int, broken: Callable[[str], None]) -> None:
        self.facts: dict[str, Any] = {}
        self.restarts = 0
        self.waiting = 0
        self._command, self._size, self._broken = command, size, broken
        self._idle: deque[Worker] = deque()
        self._free = asyncio.Semaphore(0)  # as many as are idle; unlike asyncio.Queue it lets nobody overtake
        self._restarting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """All of them, or none.

        Raises:
            StartError: the first one's reason.
        """
        started = await asyncio.gather(
            *(Worker.start(self._command) for _ in range(self._size)), return_exceptions=True
        )
        workers = [one for one in started if isinstance(one, Worker)]
        if faults := [one for one in started if isinstance(one, BaseException)]:
            await asyncio.gather(*(worker.stop() for worker in workers))
            raise faults[0]
        self.facts = workers[0].facts
        for worker in workers:
            self._give_back(worker)

    async def ask(self, question: Frame, gone: Callable[[], Awaitable[bool]]) -> Frame:
        """What the next free worker answers.

        Args:
            question: for it.
            gone: whether nobody waits for the answer any more; asked after waiting.

        Raises:
            Refused: 503, none was free for long.
            Gone: nobody waits.
            Lost: the worker ended over it; another takes its place.
        """
        worker = await self._next(gone)
        try:
            answer = await worker.ask(question)
        except BaseException:
            worker.kill()
            self._replace()
            raise
        self._give_back(worker)
        return answer

    async def close(self) -> None:
        """When each has answered what it was asked."""
        for task in self._restarting:
            task.cancel()
        for _ in range(self._size - len(self._restarting)):
            await self._free.acquire()
            await self._idle.popleft().stop()

    async def _next(self, gone: Callable[[], Awaitable[bool]]) -> Worker:
        if not self._free.locked():  # nor does anybody wait
            await self._free.acquire()
            return self._idle.popleft()
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError as error:
            raise busy("Everybody is busy.") from error
        finally:
            self.waiting -= 1
        if await gone():
            self._free.release()
            raise Gone
        return self._idle.popleft()

    def _give_back(self, worker: Worker) -> None:
        self._idle.append(worker)
        self._free.release()

    def _replace(self) -> None:
        task = asyncio.get_running_loop().create_task(self._restart())
        self._restarting.add(task)
        task.add_done_callback(self._restarting.discard)

    async def _restart(self) -> None:
        self.restarts += 1
        for attempt in range(FAILED_STARTS):
            try:
                self._give_back(await Worker.start(self._command))
            except (StartError, OSError) as error:
                reason = str(error)
                await asyncio.sleep(2.0**attempt)
            else:
                return
        self._size -= 1  # nobody waits for it any more
        self._broken(reason)
