"""The service under load, beside the rival of thirty lines: `make bench-service`, some minutes → benchmarks/service.md.

Both get the same pictures as forms and the same model (the float one: a rival would not choose; `--model BUNDLE` has
ours choose), client and service on one machine, in turn at each rate, so that whatever else the machine does falls on
both.
"""

import argparse
import asyncio
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks import measured
from benchmarks.load import Load, Measured

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/service.md"
RATES = (25, 50, 100, 150, 200, 300, 400, 600)
PHOTOGRAPHS = (10, 25, 50, 75, 100, 150)
LIMIT_MS, LIMIT_SHARE = 25.0, 0.99
TRIES = 2  # of a rate that is missed: the machine may have had other work
START_S = 120
LOAD = 300  # requests a second that it is made for
OVERLOAD = 5
LOOKS = 10  # at the memory
DARKEST = 20  # grey level of a garment in the examples
BOUNDARY = "----seamline"


class Contender(NamedTuple):
    """A service that runs."""

    name: str
    port: int
    process: subprocess.Popen[bytes]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each rate")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="requests a second")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds at 300 a second behind it: 600, 902")
    parser.add_argument("--model", type=Path, help="a file for both, or a bundle: ours then has its own precision")
    chosen = parser.parse_args()
    model = chosen.model or model_of_clone()
    shots, photographs = [form(shot(seed)) for seed in range(8)], [form(shot(seed, plain=False)) for seed in range(8)]
    with ours_running(model) as ours, _rival(model / "model.onnx" if model.is_dir() else model) as rival:
        rows = ladder([ours, rival], "product shots", shots, chosen.rates, chosen.seconds)
        lines = [*rows, *overload(ours, shots, chosen.seconds)]
        lines += ladder([ours, rival], "photographs", photographs, PHOTOGRAPHS, chosen.seconds)
        if chosen.soak:
            with memory(ours, chosen.soak) as sizes:
                lines.append(
                    row(ours.name, f"{LOAD}/s for {chosen.soak:.0f} s", measure(ours, shots, LOAD, chosen.soak))
                )
            lines.append(f"| {ours.name} | memory of service and workers, MiB: {', '.join(sizes)} |||||")
    text = page(lines, model, f" SOAK={chosen.soak:.0f}" if chosen.soak else "")
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


def model_of_clone() -> Path:
    """The newest export's float model, or the reference's where nothing was trained."""
    choices = (ROOT / "exports/bundle/model.onnx", ROOT / "seamline/reference/model.onnx")
    return next(path for path in choices if path.is_file())


def ladder(
    contenders: list[Contender], what: str, requests: list[bytes], rates: tuple[int, ...], seconds: float
) -> list[str]:
    """Each at each rate of such pictures, until it misses one TRIES times; the last line says how far it came."""
    rows, held, climbing = [], dict.fromkeys(contenders, 0), list(contenders)
    for one in contenders:
        measure(one, requests, rates[0], 2)  # warms up
    for rate in rates:
        for one in tuple(climbing):
            for _ in range(TRIES):
                measured = measure(one, requests, rate, seconds)
                rows.append(row(one.name, f"{what}, {rate}/s", measured))
                if measured.percentile(LIMIT_SHARE) <= LIMIT_MS and not measured.refused:
                    held[one] = rate
                    break
            else:
                climbing.remove(one)
    return rows + [
        f"| {one.name} | {what}, most with p99 ≤ {LIMIT_MS:.0f} ms | {held[one]}/s |||||" for one in contenders
    ]


def overload(one: Contender, requests: list[bytes], seconds: float) -> list[str]:
    """At five times the load that it is made for, and at five times what it answers in the best of times."""
    capacity = max(measure(one, requests, rate, seconds / 2).per_second for rate in (300, 500, 800))
    rows = []
    for what, usual in ((f"{LOAD}/s", LOAD), ("its capacity", capacity)):
        pressed = measure(one, requests, OVERLOAD * usual, seconds)
        rows.append(row(one.name, f"{OVERLOAD} × {what}: {pressed.per_second / usual:.0%} of {usual:.0f}/s", pressed))
    return rows


def measure(one: Contender, requests: list[bytes], rate: float, seconds: float) -> Measured:
    """In a loop of its own."""

    async def run() -> Measured:
        return await Load(one.port, requests).run(rate, seconds)

    return asyncio.run(run())


def row(name: str, what: str, measured: Measured) -> str:
    """Of the table."""
    p50, p99, worst = (measured.percentile(share) for share in (0.5, LIMIT_SHARE, 1.0))
    statuses = ", ".join(f"{status or 'none'}: {count:,}" for status, count in sorted(measured.statuses.items()))
    line = f"| {name} | {what} | {measured.per_second:.0f}/s | {p50:.1f} | {p99:.1f} | {worst:.0f} | {statuses} |"
    print(line, file=sys.stderr, flush=True)
    return line


def shot(seed: int, *, plain: bool = True, side: int = 400) -> bytes:
    """A JPEG of one of the examples: on white, as shops have them, or on ground of many colours."""
    generator = np.random.default_rng(seed)
    names = sorted((ROOT / "examples").glob("*.png"))
    garment = Image.open(names[seed % len(names)]).convert("L").resize((side * 2 // 3,) * 2, Image.Resampling.BICUBIC)
    colours = generator.integers(80, 140, (side // 8, side // 8, 3), dtype=np.uint8)
    ground = Image.new("RGB", (side, side), "white") if plain else Image.fromarray(colours).resize((side, side))
    ground.paste(
        garment.point(lambda grey: 255 - grey).convert("RGB"),
        (side // 6,) * 2,
        garment.point(lambda grey: 255 * (grey > DARKEST)),
    )
    out = io.BytesIO()
    ground.save(out, "JPEG", quality=88)
    return out.getvalue()


def form(picture: bytes) -> bytes:
    """A request with a picture in the form that both take."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n'.encode()
    body = part + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextmanager
def ours_running(model: Path) -> Iterator[Contender]:
    with _started("seamline serve", ["-m", "seamline", "serve", "--model", str(model), "--port"]) as one:
        with urllib.request.urlopen(f"http://127.0.0.1:{one.port}/metrics", timeout=START_S) as answer:
            precision = re.findall(r'precision="(\w+)"', answer.read().decode())[0]
        yield one._replace(name=f"{one.name}, {precision}")


@contextmanager
def _rival(model: Path) -> Iterator[Contender]:
    with _started("FastAPI, float32", ["-m", "benchmarks.rival_service", str(model)]) as one:
        yield one


@contextmanager
def _started(name: str, arguments: list[str]) -> Iterator[Contender]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *arguments, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            yield Contender(name, port, process)
        finally:
            process.terminate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it answers."""
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if connection.recv(1):
                return
        time.sleep(0.2)
    raise RuntimeError(f"Expected a service on port {port} within {START_S} s. Received none.")


@contextmanager
def memory(one: Contender, seconds: float) -> Iterator[list[str]]:
    """Of service and workers in MiB, at the beginning and ten more times."""
    sizes: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while True:
            sizes.append(f"{memory_mib(one.process.pid):.0f}")
            if len(sizes) > LOOKS or ended.wait(seconds / LOOKS):
                return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield sizes
    finally:
        ended.set()
        looking.join()


def memory_mib(number: int) -> float:
    """Of a process and those that it has started."""
    children = Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii").split()
    sizes = [Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1] for one in (number, *children)]
    return sum(map(int, sizes)) * os.sysconf("SC_PAGESIZE") / 2**20


def page(rows: list[str], model: Path, options: str) -> str:
    """The results as Markdown, with machine, date and commit."""
    heading = (
        f"{measured.by(f'make bench-service{options}')} with the client on them, "
        f"Python {sys.version.partition(' ')[0]}; {os.getloadavg()[2]:.1f} processes were running.\n"
        "Arrivals at random, latency in ms from the moment at which a request was due. JPEG of 400 × 400 as a form.\n"
        f"The model is {measured.model(model)}, in the precision that each row names.\n"
    )
    table = ["| service | load | answered | p50 | p99 | worst | statuses |", "|---|---|---:|---:|---:|---:|---|"]
    return "\n".join(["# The service\n", heading, *table, *rows, ""])


if __name__ == "__main__":
    main()
