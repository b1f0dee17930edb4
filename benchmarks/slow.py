"""The service beside a thousand slow clients: python -m benchmarks.slow, three minutes → benchmarks/slow.md.

The same rates without and with them, in turn, three times: one measurement of ten seconds is a matter of luck.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measured, service
from benchmarks.service import Contender

RESULTS = service.ROOT / "benchmarks/slow.md"
RATES, TIMES, SECONDS, SLOW_CLIENTS = (50, service.LOAD), 3, 10.0, 1000


def main() -> None:
    """Measure, print and write."""
    shots = [service.form(service.shot(seed)) for seed in range(8)]
    lines = ["| requests a second | p99 without, ms | p99 beside, ms | medians | ratio |", "|---:|---|---|---|---:|"]
    model = service.model_of_clone()
    with service.ours_running(model) as ours:
        for rate in RATES:
            without, beside = measure(ours, shots, rate)
            middle, pressed = statistics.median(without), statistics.median(beside)
            each = (", ".join(f"{one:.1f}" for one in ones) for ones in (without, beside))
            lines.append(f"| {rate} | {' | '.join(each)} | {middle:.1f} → {pressed:.1f} | {pressed / middle:.1f} |")
    where = measured.by("python -m benchmarks.slow")
    text = (
        f"# The service beside {SLOW_CLIENTS:,} slow clients\n\n{where} with all clients on them.\n"
        "Each slow client sends a byte a second and comes back when it is hung up.\n"
        f"The model is {measured.model(model)}, in float32.\n\n" + "\n".join([*lines, ""])
    )
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


def measure(one: Contender, requests: list[bytes], rate: float) -> tuple[list[float], list[float]]:
    """p99 in milliseconds, without slow clients and beside them, so often in turn."""
    without, beside = [], []
    for _ in range(TIMES):
        without.append(p99(one, requests, rate))
        with slow_clients(one.port, SLOW_CLIENTS):
            beside.append(p99(one, requests, rate))
    return without, beside


def p99(one: Contender, requests: list[bytes], rate: float) -> float:
    """Of those that were answered; infinite if one was not."""
    found = service.measure(one, requests, rate, SECONDS)
    return float("inf") if found.refused else found.percentile(service.LIMIT_SHARE)


@contextmanager
def slow_clients(port: int, count: int) -> Iterator[None]:
    """A process of clients whose requests are well begun, and of whose bodies a byte comes each second."""
    command = [sys.executable, "-m", "benchmarks.slow_clients", str(port), str(count)]
    with subprocess.Popen(command, cwd=service.ROOT, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("Expected slow clients. Received none.")
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
