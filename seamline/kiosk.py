"""`seamline kiosk`: the page that classifies in the browser, and the bundle it runs, on this machine.

The standard library's server is enough: files alone, from folders that are named at the start, to one screen. It takes
no package, so that a device serves its own page. Connections and bytes are bounded and each wait ends; every file has
its type and the headers that keep a browser from running or framing anything else. For many visitors a web server
serves the folder that `--out` writes: docs/kiosk.md.
"""

import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from functools import cached_property
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from seamline import bundle
from seamline.site import INDEX, LISTED, NEEDED, PICTURES, TYPES, Site, listed, write

HTTP_PORT = 80
CONNECTIONS = 64
PATIENCE_S = 10.0  # for the next bytes of a request, or until a MiB of the answer is taken
REQUEST_S = 20.0  # for all of a request
LARGEST_FORM_BYTES = 33 * 2**20
LARGEST_REPLY_BYTES = 2**20
CHUNK_BYTES = 2**20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PASSED_ON = {("POST", "/v1/corrections"), ("GET", "/v2/health/ready")}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)  # index.html has the same, for hosts that send no headers
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Server(ThreadingHTTPServer):
    """The site, to at most CONNECTIONS at a time; who comes beyond them is not let in."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.site = site
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, Handler)

    @cached_property
    def hosts(self) -> set[str] | None:
        """What a request may call this server, None: anything. A strange name is another site that points here."""
        host, port = self.server_address[0], self.server_address[1]
        return {name for own in LOOPBACK for name in _names_of(own, port)} if host in LOOPBACK else None

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # a client that went away is no error


def _names_of(host: str, port: int) -> Iterator[str]:
    shown = f"[{host}]" if ":" in host else host
    yield f"{shown}:{port}"
    if port == HTTP_PORT:
        yield shown


class Incoming(io.RawIOBase):
    """What a client sends: each wait for it ends, and all of a request has to be there by `ends`."""

    def __init__(self, connection: socket.socket) -> None:
        self.ends = 0.0
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left = min(PATIENCE_S, self.ends - time.monotonic())
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(PATIENCE_S)  # for what is sent


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "seamline", ""
    timeout = PATIENCE_S
    disable_nagle_algorithm = (
        True  # head and body are sent one after the other: else a browser waits 40 ms for each file
    )

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.ends = time.monotonic() + REQUEST_S
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Nothing: what somebody looked at is nobody's business."""

    def _answer(self) -> None:
        try:
            address = urlsplit(self.path)
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST)
        if self.server.hosts is not None and self.headers.get("Host", "").lower() not in self.server.hosts:
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        if (self.command, address.path) in PASSED_ON:
            return self._pass_on(address.path)
        if self.command == "POST":
            return self._refuse(HTTPStatus.NOT_FOUND)
        path = unquote(address.path).removeprefix("/")
        if path == LISTED:
            return self._reply(json.dumps(listed(self.server.site.page)).encode(), TYPES[".json"])
        file = self.server.site.file(path)
        return self._send(file) if file else self._refuse(HTTPStatus.NOT_FOUND)

    def _send(self, file: Path) -> None:
        with file.open("rb") as content:
            facts = os.fstat(content.fileno())
            tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
            if self.headers.get("If-None-Match") == tag:
                self._head(HTTPStatus.NOT_MODIFIED, {"ETag": tag})
                return
            kind = (TYPES | PICTURES)[file.suffix.lower()]
            self._head(HTTPStatus.OK, {"Content-Type": kind, "Content-Length": str(facts.st_size), "ETag": tag})
            left = facts.st_size
            while self.command == "GET" and left and (part := content.read(min(CHUNK_BYTES, left))):
                self.wfile.write(part)
                left -= len(part)
            self.close_connection |= self.command == "GET" and left > 0  # the file became shorter meanwhile

    def _pass_on(self, path: str) -> None:
        """To the service, and its answer back: so the page needs to reach nothing but the server that it came from."""
        service, body = self.server.site.service, self._form()
        if service is None or body is None:
            return self._refuse(HTTPStatus.NOT_FOUND if service is None else HTTPStatus.FORBIDDEN)
        connection = HTTPConnection(service.hostname or "", service.port or HTTP_PORT, timeout=PATIENCE_S)
        try:
            kept = {name: self.headers[name] for name in ("Content-Type",) if name in self.headers}
            connection.request(self.command, service.path.rstrip("/") + path, body, kept | _token())
            answer = connection.getresponse()
            content = answer.read(LARGEST_REPLY_BYTES)
        except (OSError, HTTPException):
            return self._refuse(HTTPStatus.BAD_GATEWAY)
        finally:
            connection.close()
        return self._reply(content, answer.headers.get_content_type(), HTTPStatus(answer.status))

    def _form(self) -> bytes | None:
        """The body; None if another site's page sent it, or if it is too long or of no known length."""
        length = self.headers.get("Content-Length", "0")
        if self._is_foreign() or not re.fullmatch(r"\d{1,9}", length) or "Transfer-Encoding" in self.headers:
            return None
        return self.rfile.read(int(length)) if int(length) <= LARGEST_FORM_BYTES else None

    def _is_foreign(self) -> bool:
        origin = self.headers.get("Origin")
        try:
            return origin is not None and urlsplit(origin).netloc != self.headers.get("Host")
        except ValueError:
            return True

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # a body may be left unread
        self._reply(f"{status.value} {status.phrase}\n".encode(), "text/plain; charset=utf-8", status)

    def _reply(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (HEADERS | headers).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _token() -> dict[str, str]:
    token = os.environ.get("SEAMLINE_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def run(chosen: Namespace) -> int:
    """Serve the page until SIGTERM, or write it as a folder."""
    site = _site(chosen)
    if chosen.out:
        write(site, chosen.out)
        print(f"{chosen.out}: the page with its bundle, for any web server. Its headers: docs/kiosk.md")
        return 0
    with Server((chosen.host, chosen.port), site) as server:
        ended = lambda *_: threading.Thread(target=server.shutdown).start()  # noqa: E731  shutdown waits for this thread
        signal.signal(signal.SIGTERM, ended)
        host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        print(f"http://{host}:{server.server_address[1]}/ shows the page. End it with Ctrl-C.", flush=True)
        server.serve_forever(poll_interval=0.2)
    return 0


def _site(chosen: Namespace) -> Site:
    """What the command line names, looked at before anybody comes.

    Raises:
        ValueError: the bundle must not be used, the service's address is none, or the index has another suffix.
        FileNotFoundError: the page or a part of it is absent.
    """
    page = chosen.page or Path(__file__).parent.parent / "kiosk"
    if missing := next((name for name in NEEDED if not (page / name).is_file()), None):
        raise FileNotFoundError(
            f"There is no {page / missing}. `make kiosk` in Seamline's folder makes the page whole; an installed wheel "
            "has none: write it there with `seamline kiosk --out FOLDER`, and name it here with --page FOLDER."
        )
    service = urlsplit(chosen.service) if chosen.service else None
    if service and (service.scheme != "http" or not service.hostname or service.port == 0):
        raise ValueError(f"Expected the service's address, http://HOST:PORT. Received {chosen.service!r}.")
    if chosen.index and chosen.index.suffix.lower() != Path(INDEX).suffix:
        raise ValueError(f"Expected an index named ….safetensors. Received {chosen.index}: rename it.")
    for given in (chosen.index, chosen.stock):
        if given and not given.exists():
            raise FileNotFoundError(f"There is no {given}.")
    site = Site(page, chosen.bundle, chosen.slots, chosen.index, chosen.stock, service)
    bundle.read(site.bundle_folder(), bundle.public_key(chosen.key) if chosen.key else None)
    return site
