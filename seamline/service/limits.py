"""Bodies: of what kind, how large, and how much of them all together is held in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from seamline.service.forms import FORM
from seamline.service.refusals import Gone, Refused, busy

LARGEST_BODY_BYTES = 16 * 2**20  # a telephone's photograph has 2 to 12 MB
HELD_BYTES = 256 * 2**20  # of all bodies that are being received or answered
PICTURES = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/octet-stream")
URLENCODED = "application/x-www-form-urlencoded"


class Budget:
    """Bytes that are held at the moment."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self.held = 0
        self._most = most

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """What one request holds, given back at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.size

    def take(self, size: int) -> None:
        """Hold more.

        Raises:
            Refused: 503, too much is held.
        """
        if self.held + size > self._most:
            raise busy("Too many pictures are on their way.")
        self.held += size


class Share:
    """Of the budget: one request's."""

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self._budget = budget

    def add(self, size: int) -> None:
        """Hold more; see `Budget.take`."""
        self._budget.take(size)
        self.size += size


def require_media_type(request: Request, *allowed: str) -> str:
    """The Content-Type of a request, with its parameters.

    Raises:
        Refused: 415, it is another or compressed.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise Refused(415, "Expected a body that is not compressed. Received a Content-Encoding.")
    content_type = request.headers.get("content-type", "")
    received = content_type.partition(";")[0].strip().lower()
    if received not in allowed:
        other = f"{URLENCODED}, which curl says unless told" if received == URLENCODED else "another"
        raise Refused(415, f"Expected a Content-Type among {', '.join(filter(None, allowed))}. Received {other}.")
    return content_type


def require_picture(request: Request) -> str:
    """Likewise, of a picture as it is or in a form."""
    return require_media_type(request, *PICTURES, FORM)


async def body(request: Request, share: Share) -> bytes:
    """All of a request's body.

    Raises:
        Refused: 400, it is empty; 413, it is too large; 503, too much is held already.
        Gone: the client has hung up.
    """
    _require_length(request)
    parts = []
    received = 0
    try:
        async for part in request.stream():
            received += len(part)
            if received > LARGEST_BODY_BYTES:
                raise _too_large()
            share.add(len(part))
            parts.append(part)
    except ClientDisconnect as error:
        raise Gone from error
    if not received:
        raise Refused(400, "Expected a body. Received none.")
    return b"".join(parts)


def _require_length(request: Request) -> None:
    """Before a byte of it is read, where it is said."""
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said) > LARGEST_BODY_BYTES:
        raise _too_large()


def _too_large() -> Refused:
    return Refused(413, f"Expected at most {LARGEST_BODY_BYTES:,} bytes. Received more.")
