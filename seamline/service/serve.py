"""`seamline serve`: binds, starts its workers, says where it listens, and ends with what it has begun."""

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from argparse import Namespace
from contextlib import suppress
from ipaddress import ip_address

import uvicorn

from seamline import bundle, slots
from seamline.service import app, cycles
from seamline.service.app import Service
from seamline.service.guard import Rules
from seamline.service.pool import ANSWER_S, WAIT_S
from seamline.service.protocol import REQUEST_S, LimitedProtocol
from seamline.service.releases import Releases, Source

TOKEN = "SEAMLINE_TOKEN"  # noqa: S105 (the name of a variable)
OPEN_FILES = 8192
GRACE_S = int(REQUEST_S + WAIT_S + ANSWER_S) + 2  # the longest that a request which has begun may take
IDLE_S = 8  # between two requests on a connection; clients that keep theirs do so for 5 s, as httpx does
BACKLOG = 2048


class Server(uvicorn.Server):
    """Says that it is no longer ready for a while before it stops listening; ends with status 0."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_s: float) -> None:
        super().__init__(config)
        self.fault = ""
        self._service, self._drain_s, self._ending_since = service, drain_s, 0.0

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 (uvicorn's interface)
        """The first signal drains, the second one stops at once."""
        if self._ending_since:
            self.should_exit = self.force_exit = True
        self._service.draining = True
        self._ending_since = self._ending_since or time.monotonic()

    def end(self, fault: str) -> None:
        """Because nothing can serve any more: whatever started the service may start it again."""
        self.fault = self.fault or fault
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"Version {self._service.releases.pool.facts['version']} serves on http://{shown}:{port}", flush=True)

    async def on_tick(self, counter: int) -> bool:
        if self._ending_since and time.monotonic() - self._ending_since >= self._drain_s:
            self.should_exit = True
        return await super().on_tick(counter)


def run(chosen: Namespace) -> int:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ValueError: no model may serve, or a wrong option.
        OSError: the address is taken.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until uvicorn takes over: clean up, then end
    key = bundle.public_key(chosen.key) if chosen.key else None
    if chosen.model is None and (chosen.slots / slots.STATE).exists():
        slots.start(chosen.slots, key)  # counts this start, and takes an update back that was never confirmed
    if chosen.corrections is not None:
        chosen.corrections.mkdir(parents=True, exist_ok=True)
    with suppress(ValueError, OSError):  # 1,000 slow clients must not use up what is left for the others
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    source = Source(chosen.model, chosen.slots, key, chosen.index, chosen.corrections)
    family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
    loops = uvicorn.Config("", loop="auto").get_loop_factory()
    with (
        socket.create_server((chosen.host, chosen.port), family=family, backlog=BACKLOG) as listening,
        asyncio.Runner(loop_factory=loops) as runner,
    ):
        return runner.run(_serve(source, chosen, listening))


async def _serve(source: Source, chosen: Namespace, listening: socket.socket) -> int:
    servers: list[Server] = []

    def end(fault: str) -> None:
        for server in servers:
            server.end(fault)

    releases = Releases(source, chosen.workers, end)
    try:
        await releases.start()
        cycles.look_rarely()
        kept, token = chosen.corrections is not None, bool(os.environ.get(TOKEN))
        server = _server(Service(releases, chosen.queue, corrections=kept, token=token), chosen)
        servers.append(server)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, releases.again.set)
        watching = asyncio.get_running_loop().create_task(releases.watch())
        await server.serve([listening])
        watching.cancel()
    finally:
        await releases.close()
    if server.fault:
        raise bundle.BundleError(server.fault)
    return 0


def _server(service: Service, chosen: Namespace) -> Server:
    rules = Rules(os.environ.get(TOKEN, ""), chosen.origin, any_host=not _is_loopback(chosen.host))
    if rules.any_host and not rules.token:
        print(f"Whoever reaches {chosen.host} may ask: {TOKEN} is not set.", file=sys.stderr)
    LimitedProtocol.turned_away = service.metrics.turned_away
    config = uvicorn.Config(
        app.made(service, rules),
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,  # what a bug raises goes to standard error; nothing that a client sends is logged
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config, service, chosen.drain)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
