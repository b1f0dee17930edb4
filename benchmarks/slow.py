"""Clients that send a byte a second and come back when they are hung up: python -m benchmarks.slow PORT COUNT.

They come one after the other over as long as the service bears one of them, so that it hangs up on them one after the
other, too. A line is printed when all are there; then they go on until they are ended.
"""

import asyncio
import resource
import sys

SPREAD_S = 8.0  # the service gives a body that long
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"


async def slow(port: int, delay_s: float) -> None:
    """One client."""
    await asyncio.sleep(delay_s)
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
        try:
            while not await _hung_up(reader):
                writer.write(b"x")
        except OSError:
            pass
        writer.close()


async def _hung_up(reader: asyncio.StreamReader) -> bool:
    """Within the next second, or answered, which comes to the same."""
    try:
        async with asyncio.timeout(1):
            await reader.read(1)
    except TimeoutError:
        return False
    return True


async def main() -> None:
    """Until it is ended."""
    port, count = map(int, sys.argv[1:])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    async with asyncio.TaskGroup() as clients:
        for number in range(count):
            clients.create_task(slow(port, SPREAD_S * number / count))
        await asyncio.sleep(SPREAD_S + 1)
        print("all are there", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
