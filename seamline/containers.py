"""How many parts a picture file has: some are made of millions, and each costs its reader microseconds and memory.

A JPEG may also go over its picture in any number of scans of a few bytes, each of which costs as much as a decoding:
133 kB kept a processor busy for 6 s. So files are walked through here, before Pillow sees them. WebP needs no such
care: its reader is written in C, and fast with whatever was tried.
"""

import re
from collections.abc import Iterator

MOST_PARTS = 10_000
MOST_SCANS = 64  # progressive pictures have about ten
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # of a JPEG; neither filling nor a restart
START, END, SCAN, ALONE = 0xD8, 0xD9, 0xDA, 0x01
JPEG, PNG, GIF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF8"
GIF_EXTENSION = 0x21
GIF_HEADER_BYTES = 13


def require_few_parts(content: bytes) -> int:
    """Refuse a picture that would keep its reader busy for long.

    Returns:
        The scans of a JPEG; one keeps no more than a few lines of it in memory. 0 of others.

    Raises:
        ValueError: it has too many parts or scans.
    """
    walks = {JPEG: _jpeg, PNG: _png, GIF: _gif}
    walk = next((walk for start, walk in walks.items() if content.startswith(start)), None)
    scans = 0
    for number, kind in enumerate(walk(content) if walk else (), start=1):
        scans += walk is _jpeg and kind == SCAN
        if number > MOST_PARTS or scans > MOST_SCANS:
            raise ValueError(f"expected at most {MOST_PARTS:,} parts and {MOST_SCANS} scans. Received more.")
    return scans


def _jpeg(content: bytes) -> Iterator[int]:
    """The markers up to the picture's end; behind it telephones put films."""
    at, scanned = 0, False
    while found := MARKER.search(content, at):
        kind, at = found[1][0], found.end()
        yield kind
        if kind == END and scanned:
            return
        scanned |= kind == SCAN
        if kind not in {START, END, ALONE}:
            at += int.from_bytes(content[at : at + 2], "big")


def _png(content: bytes) -> Iterator[int]:
    at = len(PNG)
    while at < len(content):
        yield content[at]
        at += 12 + int.from_bytes(content[at : at + 4], "big")


def _gif(content: bytes) -> Iterator[int]:
    """The blocks before the first picture, and what they are made of."""
    at = GIF_HEADER_BYTES
    packed = content[at - 3] if len(content) >= at else 0
    at += 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0
    while content[at : at + 1] == bytes([GIF_EXTENSION]):
        at += 2
        while size := int.from_bytes(content[at : at + 1], "big"):
            yield size
            at += 1 + size
        yield 0
        at += 1
