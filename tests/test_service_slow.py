"""Clients that send byte by byte, and what they cost those who do not."""

import resource
import signal
import time

import numpy as np
import pytest

from seamline.service import protocol
from tests.conftest import ROOT
from tests.serving import everything, request, running, status

pytest_plugins = ["tests.serving"]
REFERENCE = ROOT / "seamline/reference"
SNEAKER = (ROOT / "examples/sneaker.png").read_bytes()
CHUNKED = (
    b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PATIENCE_S = protocol.REQUEST_S + 1.5  # a slow client is ended within, as docs/service.md says, on a busy machine
TELLING = """
import sys
from seamline.service.limits import Share
add = Share.add
Share.add = lambda share, size: (print("part of", size, file=sys.stderr, flush=True), add(share, size))
"""
COUNTING = """
import gc, signal
signal.signal(signal.SIGUSR1, lambda *_: (gc.collect(), gc.disable(), print("begun", flush=True)))
signal.signal(signal.SIGUSR2, lambda *_: print(gc.collect(), flush=True))
"""


@pytest.mark.slow
def test_thousand_slow_clients_are_ended_in_time_and_hold_nobody_up(service):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    starts = [
        b"",
        b"POST /v1/classify HTTP/1.1\r\nHost: loc",
        request("/v1/classify", b"x", length=1000),
        CHUNKED + b"5\r\nhe",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v2 HT",
    ]
    begun = time.monotonic()
    clients, begins = [], []
    try:
        for number in range(1000):
            clients.append(service.connect())
            clients[-1].sendall(starts[number % len(starts)])
            begins.append(time.monotonic())
        times = []
        while time.monotonic() - begun < protocol.REQUEST_S - 2:
            for client in clients[1::50]:
                client.sendall(b"x")  # byte by byte
            asked = time.monotonic()
            assert service.post("/v1/classify", SNEAKER).status_code == 200
            times.append(time.monotonic() - asked)
        ends = []
        for client in clients:
            client.settimeout(60)
            everything(client)
            ends.append(time.monotonic())
    finally:
        for client in clients:
            client.close()

    waited = np.subtract(ends, begins)
    assert waited.max() <= PATIENCE_S
    assert sorted(times)[len(times) // 2] < 1
    assert service.metric('seamline_turned_away_total{reason="slow"}') >= 800  # the fifth kind has had an answer


@pytest.mark.slow
def test_body_that_comes_byte_by_byte_wakes_its_request_once():
    with running("--model", REFERENCE, code=TELLING) as found, found.connect() as connection:
        connection.sendall(request("/v1/classify", b"", "Connection: close", length=len(SNEAKER)))
        for byte in SNEAKER[:200]:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)
        connection.sendall(SNEAKER[200:])
        answer = everything(connection)

        assert status(answer) == 200
        assert [line for line in found.log if line != "part of 0\n"] == [f"part of {len(SNEAKER)}\n"]


def test_large_body_is_passed_on_in_parts():
    """So that what is held is known while it comes."""
    content = b"x" * 2**20
    with running("--model", REFERENCE, code=TELLING) as found:
        answer = found.raw(request("/v1/classify", content, "Connection: close"))

        parts = [int(line.split()[-1]) for line in found.log]
        assert status(answer) == 422
        assert (sum(parts), len(parts) > 1) == (len(content), True)


def test_requests_leave_nothing_to_the_collector_of_cycles():
    """Which may then look so rarely that nobody waits for it: answered, refused, broken off, and too slow ones."""

    def told(how):
        found.process.send_signal(how)
        return found.process.stdout.readline()

    with running("--model", REFERENCE, code=COUNTING) as found:
        found.post("/v1/classify", SNEAKER)
        assert told(signal.SIGUSR1) == "begun\n"
        for _ in range(20):
            assert found.post("/v1/classify", SNEAKER).status_code == 200
            assert found.post("/v1/classify", b"no picture").status_code == 422
            assert found.get("/v1/classify").status_code == 405
            assert status(found.raw(b"nonsense\r\n\r\n")) == 400
            with found.connect() as connection:
                connection.sendall(request("/v1/classify", b"x", length=1000))
        with found.connect() as connection:
            connection.sendall(request("/v1/classify", b"x", length=1000))
            assert status(everything(connection)) == 408

        assert int(told(signal.SIGUSR2)) < 20
