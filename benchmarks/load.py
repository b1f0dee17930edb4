"""An open-loop load: requests leave when they are due, whatever has become of those before them.

Arrivals are random (Poisson), and latency is counted from the moment at which a request was due, so that a service that
stalls is charged for everybody who had to wait (https://www.youtube.com/watch?v=lJ8ydIuPFeU calls the other way
coordinated omission).
"""

import asyncio
import time
from collections import Counter
from typing import NamedTuple

import numpy as np

MOST_CONNECTIONS = 512
PATIENCE_S = 30.0
KEPT_S = 4.0  # a connection that lay idle for longer is not used again: the service may be hanging up
LOST = 0  # the status of a request that had no answer


class Measured(NamedTuple):
    """What came of a load."""

    seconds: float  # from the first arrival to the last answer
    statuses: Counter[int]
    latencies_ms: list[float]  # of those that were answered with 200

    @property
    def per_second(self) -> float:
        """Answers with 200."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds; infinite if nothing was answered."""
        return float(np.quantile(self.latencies_ms, share)) if self.latencies_ms else float("inf")

    @property
    def refused(self) -> float:
        """The share that was answered otherwise, or not at all."""
        return 1 - self.statuses[200] / max(1, self.statuses.total())


class Load:
    """A generator for one address.

    Args:
        port: on this machine.
        requests: each as it is sent; they are taken in turn.
        seed: of the arrivals.
    """

    def __init__(self, port: int, requests: list[bytes], seed: int = 7) -> None:
        self._port, self._requests = port, requests
        self._generator = np.random.default_rng(seed)
        self._free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []  # and since when
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def run(self, rate: float, seconds: float) -> Measured:
        """So many requests a second, for so long."""
        due = np.cumsum(self._generator.exponential(1 / rate, max(1, round(rate * seconds)))).tolist()
        statuses: Counter[int] = Counter()
        latencies: list[float] = []
        begun = time.perf_counter()

        async def one(at: float, request: bytes) -> None:
            status = await self._ask(request)
            statuses[status] += 1
            if status == 200:  # noqa: PLR2004 (HTTP's)
                latencies.append(1000 * (time.perf_counter() - begun - at))

        async with asyncio.TaskGroup() as group:
            for number, at in enumerate(due):
                if (early := begun + at - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                group.create_task(one(at, self._requests[number % len(self._requests)]))
        self._hang_up()
        return Measured(time.perf_counter() - begun, statuses, latencies)

    async def _ask(self, request: bytes) -> int:
        async with self._room:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    reader, writer = await self._connection()
                    writer.write(request)
                    status, keeps = await _answer(reader)
            except (OSError, TimeoutError, EOFError, ValueError):
                return LOST
            if keeps:
                self._free.append((time.monotonic(), reader, writer))
            else:
                writer.close()
            return status

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            since, reader, writer = self._free.pop()
            if time.monotonic() - since < KEPT_S and not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    def _hang_up(self) -> None:
        for _, _, writer in self._free:
            writer.close()
        self._free.clear()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Its status, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1]), b"connection: close" not in head
