"""Connections that may not cost much: uvicorn's own, with limits on number, time and bytes.

uvicorn 0.54 ends a connection that is idle between two requests and no other: one that sends its head or its body byte
by byte, or never reads its answer, would stay for good, and a head may have any length. Here a request has to be there
whole within REQUEST_S of its first byte, and its answer has to be taken within as long.
"""

import asyncio
from asyncio import TimerHandle
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seamline.service.limits import LARGEST_BODY_BYTES

REQUEST_S = 8.0
LARGEST_HEAD_BYTES = 32 * 2**10
MOST_PIPELINED = 16  # each costs kilobytes, and is a few bytes on the line
LARGEST_RAW_BYTES = 2 * LARGEST_BODY_BYTES + 2**20  # of a request as it is sent: chunks have heads and trailers
WORTH_WAKING_BYTES = 16 * 2**10  # of a body: until then, or its end, nobody is woken for it
LONG_HEAD = (
    "head",
    "431 Request Header Fields Too Large",
    f"Expected a head of at most {LARGEST_HEAD_BYTES:,} bytes. Received more.",
)
REPLY = "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n{}"


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        most: how many there may be at once.
        turned_away: counts those that were ended, by reason.
    """

    most = 2048
    turned_away: Counter

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._deadline: TimerHandle | None = None
        self._taking: TimerHandle | None = None
        self._raw_bytes, self._head_bytes = 0, 0
        self._broken_because = ""
        self._in_head, self._in_request, self._is_last = True, False, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._turn_away("connections", "503 Service Unavailable", "Too many connections.", "retry-after: 1\r\n")
        else:
            self._give_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_the_clock()
        if self._taking is not None:
            self._taking.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        self._raw_bytes += len(data)
        if self._deadline is None and not self._in_request:
            self._give_time()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._raw_bytes > LARGEST_HEAD_BYTES:
            self._turn_away(*LONG_HEAD)
        elif self._raw_bytes > LARGEST_RAW_BYTES:
            self._turn_away("bytes", "413 Content Too Large", "The request is too long.")

    def send_400_response(self, msg: str) -> None:
        if self._head_bytes > LARGEST_HEAD_BYTES:
            self._turn_away(*LONG_HEAD)
        else:
            self._turn_away("broken", "400 Bad Request", self._broken_because or msg)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            self._broken_because = f"Expected at most {MOST_PIPELINED} requests before an answer. Received more."
            raise ValueError(self._broken_because)
        super().on_message_begin()
        self._in_head, self._in_request, self._head_bytes = True, True, 0
        if self._deadline is None:
            self._give_time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if self._head_bytes > LARGEST_HEAD_BYTES:  # it came in one piece
            raise ValueError(LONG_HEAD)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        self.cycle.keep_alive &= not self._is_last

    def on_body(self, body: bytes) -> None:
        """A body that comes byte by byte costs little: its request is woken for parts that are worth it."""
        if self.cycle.response_complete or len(self.cycle.body) + len(body) >= WORTH_WAKING_BYTES:
            super().on_body(body)
        else:
            self.cycle.body += body

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop_the_clock()
        self._raw_bytes, self._in_head, self._in_request = 0, True, False
        if self.cycle.response_complete:  # refused before its body was there, which was passed over
            self._unset_keepalive_if_required()
            wait = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = wait

    def shutdown(self) -> None:
        """The service ends. A request whose head is half sent is answered, too; uvicorn would hang up."""
        if self._in_request and self._in_head and (self.cycle is None or self.cycle.response_complete):
            self._is_last = True
        else:
            super().shutdown()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_taking()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_taking()

    def _give_time(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_S, self._late)

    def _stop_the_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._turn_away("slow", "408 Request Timeout", f"The request was not there within {REQUEST_S:.0f} s.")

    def _watch_taking(self) -> None:
        """An answer that lies here has to be taken."""
        if self._taking is None and self.transport.get_write_buffer_size():
            self._taking = self.loop.call_later(REQUEST_S, self._not_taken)

    def _not_taken(self) -> None:
        self._taking = None
        if self.transport.get_write_buffer_size():
            self.turned_away.labels("unread").inc()
            self.transport.abort()

    def _turn_away(self, reason: str, status: str, sentence: str, headers: str = "") -> None:
        """Say why if no answer has begun, and hang up."""
        self._stop_the_clock()
        self.turned_away.labels(reason).inc()
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            content = f'{{"error": "{sentence}"}}'
            self.transport.write(REPLY.format(status, len(content), headers, content).encode("ascii"))
        self.transport.close()
        self._watch_taking()
