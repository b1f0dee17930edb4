"""How the service and its workers speak over pipes: a JSON head and a body of bytes, each behind its length.

Not pickle, so that a worker that a hostile picture has taken over can answer nonsense, but run nothing in the service.
"""

import json
import struct
from typing import Any, BinaryIO, NamedTuple

LENGTHS = struct.Struct("<II")  # bytes of the head, bytes of the body
LARGEST_HEAD_BYTES = 2**20
LARGEST_BODY_BYTES = 64 * 2**20


class Frame(NamedTuple):
    """A question or an answer."""

    head: dict[str, Any]
    body: bytes = b""


def encode(frame: Frame) -> bytes:
    """A frame as it is written."""
    head = json.dumps(frame.head).encode()
    return LENGTHS.pack(len(head), len(frame.body)) + head + frame.body


def lengths(content: bytes) -> tuple[int, int]:
    """Of head and body, by the first bytes of a frame.

    Raises:
        ValueError: no frame is so long.
    """
    head, body = LENGTHS.unpack(content)
    if head > LARGEST_HEAD_BYTES or body > LARGEST_BODY_BYTES:
        raise ValueError(f"Expected at most {LARGEST_HEAD_BYTES:,} + {LARGEST_BODY_BYTES:,} bytes. Received more.")
    return head, body


def read(file: BinaryIO) -> Frame | None:
    """The next frame; None: the other end has closed."""
    start = file.read(LENGTHS.size)
    if len(start) < LENGTHS.size:
        return None
    head, body = lengths(start)
    return Frame(json.loads(file.read(head)), file.read(body))


def write(file: BinaryIO, frame: Frame) -> None:
    """Write a frame at once."""
    file.write(encode(frame))
    file.flush()


def parsed(head: bytes) -> dict[str, Any]:
    """The head of a frame.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(head)
    if not isinstance(found, dict):
        raise ValueError("Expected a JSON object. Received something else.")  # noqa: TRY004 (its reader's fault)
    return found
