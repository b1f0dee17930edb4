"""A running `seamline serve`: a process of its own, on a free port, asked over real sockets."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests

from seamline import Classifier, likeness, pictures

ROOT = Path(__file__).resolve().parent.parent
START_S = 120
HEADERS = {"Content-Type": "application/octet-stream"}


def index_of_examples(file: Path) -> Path:
    """As `seamline index examples` makes it, by the bundle in git."""
    classifier, paths = Classifier(ROOT / "seamline/reference"), sorted((ROOT / "examples").glob("*.png"))
    embeddings = classifier.embed(np.stack([pictures.read(path) for path in paths]))
    likeness.write(file, likeness.Index([path.stem for path in paths], embeddings, classifier.digest))
    return file


class Running:
    """The process, and where it listens."""

    def __init__(self, process: subprocess.Popen[str], said: str) -> None:
        found = re.search(r"http://(?P<host>[\d.]+|\[::1\]):(?P<port>\d+)", said)
        assert found, f"{said!r} names no address"
        self.process = process
        self.host, self.port = found["host"], int(found["port"])
        self.url = found[0]
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.process.stderr as file:
            self.log += file  # until it ends

    def close(self) -> None:
        self._reader.join(60)
        self.process.stdout.close()

    def post(self, path: str, content: bytes, **headers: str) -> requests.Response:
        return requests.post(self.url + path, data=content, headers=HEADERS | headers, timeout=60)

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=60)

    def metric(self, name: str) -> float:
        """Of /metrics; with its labels, as it stands there."""
        lines = self.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=60)

    def raw(self, content: bytes, *, then: bytes = b"") -> bytes:
        """All that comes back until the service hangs up."""
        with self.connect() as connection:
            connection.sendall(content)
            if then:
                time.sleep(0.2)
                connection.sendall(then)
            return everything(connection)

    def workers(self) -> list[int]:
        """The process numbers of what answers."""
        return [
            int(word) for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        self._reader.join(60)
        return code


def everything(connection: socket.socket) -> bytes:
    """Until the other end hangs up, properly or not."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


@contextmanager
def running(*arguments: object, cwd: Path = ROOT, code: str = "", **environment: str) -> Iterator[Running]:
    """`seamline serve` with these arguments, ready; ended at the end. `code`: is run in it first."""
    begin = f"{code}\nimport sys; from seamline.__main__ import main; sys.exit(main())"
    command = [sys.executable, *(["-c", begin] if code else ["-m", "seamline"])]
    command += ["serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    found = None
    try:
        said = process.stdout.readline()
        assert said, process.stderr.read()
        timer.cancel()
        found = Running(process, said)
        yield found
    finally:
        timer.cancel()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if found is not None:
            found.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """With the bundle in git, and no option."""
    with running("--model", ROOT / "seamline/reference") as found:
        yield found


def request(path: str, content: bytes, *headers: str, length: int | None = None, method: str = "POST") -> bytes:
    """A request as it is sent, with a Content-Length that may lie."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/octet-stream",
        f"Content-Length: {len(content) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def status(answer: bytes) -> int:
    """Of the last answer among those that came back."""
    return int(re.findall(rb"HTTP/1\.1 (\d{3})", answer)[-1])
