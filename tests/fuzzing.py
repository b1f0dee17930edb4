"""Requests that are nearly right, the same ones every time, sent to a running service.

python -m tests.fuzzing 100000    # starts a service of its own; what came back, the slowest answer, memory
"""

import argparse
import asyncio
import io
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests import golden, serving

ROOT = Path(__file__).resolve().parent.parent
SLOWEST_S = 2.0  # from its first byte to its answer
PHOTOGRAPHS = 2
PHOTOGRAPHED = 0.05  # of the pictures; the others are the examples, which take much less time
PIXELS = (1200, 1600)
FINE = {200, 201, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 431, 503, 507}
BOUNDARY = b"----fuzz"


class Asked(NamedTuple):
    """A request."""

    route: str
    content: bytes
    framed: bool  # it is whole, so that it must be answered


class Found(NamedTuple):
    """What came of them all."""

    asked: int  # requests that were sent
    statuses: Counter  # of answers; several may come to a request whose length lies
    whole: Counter  # (route, status) of those that were whole
    slowest_s: float  # of those that were whole
    wrong: list[str]  # what should not have been answered so


def fuzz(host: str, port: int, count: int, seed: int, at_once: int) -> Found:
    """Send that many requests; a wrong answer is another status than a refusal, or none to a whole request."""
    return asyncio.run(
        _fuzz(host, port, list(requests(count, seed)) if count < 10_000 else requests(count, seed), at_once)
    )


async def _fuzz(host: str, port: int, those, at_once: int) -> Found:
    numbered, sent, statuses, whole, wrong, times = iter(enumerate(those)), [], Counter(), Counter(), [], [0.0]

    async def client() -> None:
        for number, asked in numbered:
            begun = time.monotonic()
            answer = await _answer(host, port, asked)
            sent.append(number)
            found = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
            statuses.update(found or [0])
            if asked.framed:
                times.append(max(times.pop(), time.monotonic() - begun))
                whole.update((asked.route, status) for status in found)
            if not set(found) <= FINE or (asked.framed and len(found) != 1):
                wrong.append(f"{number}: {found} {asked.content[:200]!r} → {answer[:300]!r}")

    await asyncio.gather(*(client() for _ in range(at_once)))
    return Found(len(sent), statuses, whole, times[0], wrong)


async def _answer(host: str, port: int, asked: Asked) -> bytes:
    """All that comes back. What is not whole is given a moment, then its end."""
    reader, writer = await asyncio.open_connection(host, port)
    received = b""
    try:
        writer.write(asked.content)
        await writer.drain()
        try:
            async with asyncio.timeout(30 if asked.framed else 0.05):
                received = await reader.read(2**20)
        except TimeoutError:
            writer.write_eof()
            async with asyncio.timeout(30):
                received = await reader.read(2**20)
    except (ConnectionError, OSError):
        pass
    finally:
        writer.close()
    return received


def requests(count: int, seed: int) -> Iterator[Asked]:
    """Requests of every route, some as they should be, most spoilt in their head, their body or their length."""
    generator = np.random.default_rng(seed)
    examples = [(b"image/png", path.read_bytes()) for path in sorted((ROOT / "examples").glob("*.png"))]
    taken = photographs()
    for _ in range(count):
        pictures = taken if generator.random() < PHOTOGRAPHED else examples
        path, kind, body = _route(generator, *pictures[generator.integers(len(pictures))])
        if generator.random() < 0.6:
            body = _spoilt(body, generator)
        head = _head(path, kind, len(body))
        if generator.random() < 0.6:
            yield Asked(path.decode(), head + body, framed=True)
        else:
            yield Asked(path.decode(), _spoilt(head, generator) + body, framed=False)


@cache
def photographs() -> list[tuple[bytes, bytes]]:
    """Content types and files: JPEG, WebP and GIF of two million pixels."""
    made = []
    for case in golden.photographs(PHOTOGRAPHS):
        with Image.open(io.BytesIO(case.content)) as seen:
            picture = seen.convert("RGB").resize(PIXELS)
        for kind in ("JPEG", "WEBP", "GIF"):
            file = io.BytesIO()
            picture.save(file, kind)
            made.append((b"image/" + kind.lower().encode(), file.getvalue()))
    return made


def _head(path: bytes, kind: bytes, length: int) -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", b"Content-Length: %d" % length]
    return b"\r\n".join([*lines, kind]) + b"\r\n\r\n"


def _route(generator: np.random.Generator, media_type: bytes, picture: bytes) -> tuple[bytes, bytes, bytes]:
    numbers = generator.integers(0, 256, 784).tolist()
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28]}
    binary = json.dumps({"inputs": [image | {"parameters": {"binary_data_size": 784}}]}).encode()
    form = b"Content-Type: multipart/form-data; boundary=" + BOUNDARY
    infer = b"/v2/models/seamline/infer"
    routes = [
        (b"/v1/classify", b"Content-Type: " + media_type, picture),
        (b"/v1/classify", form, _form(picture)),
        (b"/v1/similar?k=3", b"Content-Type: " + media_type, picture),
        (b"/v1/corrections", form, _form(picture, b"Bag")),
        (infer, b"Content-Type: application/json", json.dumps({"inputs": [image | {"data": numbers}]}).encode()),
        (infer, b"Inference-Header-Content-Length: %d" % len(binary), binary + bytes(numbers)),
    ]
    return routes[generator.integers(len(routes))]


def _form(picture: bytes, kind: bytes = b"") -> bytes:
    parts = [b'Content-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + picture]
    parts += [b'Content-Disposition: form-data; name="kind"\r\n\r\n' + kind] if kind else []
    return b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


def _spoilt(content: bytes, generator: np.random.Generator) -> bytes:
    """Bytes flipped, cut out, repeated, stuffed or made large."""
    spoilt = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        at, length = generator.integers(0, len(spoilt) + 1), generator.integers(1, 40)
        match generator.integers(0, 6):
            case 0 if spoilt:
                spoilt[at % len(spoilt)] ^= 1 << generator.integers(8)
            case 1:
                del spoilt[at : at + length]
            case 2:
                spoilt[at:at] = spoilt[at : at + length]
            case 3:
                spoilt[at:at] = generator.bytes(length)
            case 4:
                words = (b"\r\n", b"\0", b"NaN", b"1e999", b"-1", b'"', b"[" * 50, b"\xff\xfe", b"99999999999", b"{}")
                spoilt[at:at] = words[generator.integers(len(words))]
            case _:
                del spoilt[at:]
    return bytes(spoilt)


def main() -> None:
    """By hand: as many as are asked for, in a service of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as service:
        before = resident_mib(service)
        begun = time.monotonic()
        found = fuzz(service.host, service.port, chosen.count, seed=7, at_once=8)
        after = resident_mib(service)
        print(f"{found.asked:,} requests in {time.monotonic() - begun:.0f} s; slowest answer {found.slowest_s:.2f} s")
        print(f"statuses {dict(sorted(found.statuses.items()))}, of whole ones {dict(sorted(found.whole.items()))}")
        print(f"memory (service, workers) {before} → {after} MiB; {service.log or 'nothing logged'}")
        print(f"workers that crashed or stalled: {service.metric('seamline_worker_restarts'):.0f}")
        print("\n".join(found.wrong[:20]) or "none was wrong")


def running(folder: Path) -> AbstractContextManager[serving.Running]:
    """The service with everything switched on; what it keeps is in the folder."""
    index = serving.index_of_examples(folder / "index.safetensors")
    return serving.running("--model", golden.REFERENCE, "--index", index, "--corrections", folder / "kept")


def resident_mib(service: serving.Running) -> list[int]:
    """Of the service and its workers."""
    files = [Path(f"/proc/{number}/status") for number in (service.process.pid, *service.workers())]
    lines = [line.split() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [int(words[1]) // 1024 for words in lines if words[0] == "VmRSS:"]


if __name__ == "__main__":
    main()
