"""Broken and hostile pictures, the same ones every time, and a process that reads them.

    python -m tests.hostile --write FOLDER
    python -m tests.hostile FOLDER             # a line of JSON for each: what came of it, seconds, peak of memory

A name begins with what must come of it: `read-`, `refused-`, or `either-` where a reader may repair what is broken.
"""

import contextlib
import io
import json
import pickle
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
SEED = 20
MEGABYTE = 2**20


def write(folder: Path) -> list[str]:
    """Every picture as a file of its own; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, content in pictures():
        (folder / name).write_bytes(content)
        names.append(name)
    assert len(set(names)) == len(names), "two of one name"
    return names


def pictures() -> Iterator[tuple[str, bytes]]:
    """File names and contents."""
    whole = dict(ordinary())
    yield from ((f"read-{name}", content) for name, content in whole.items())
    generator = np.random.default_rng(SEED)
    for name, content in whole.items():
        yield from ((f"either-{what}-{name}", spoiled) for what, spoiled in spoilt(content, generator))
    yield from png_bombs()
    yield from gif_bombs()
    yield from jpeg_bombs()
    yield from webp_bombs()
    yield from shapes()
    yield from broken_exif()
    yield from other_files()
    yield from wrong_suffixes(whole)


def shot(size: tuple[int, int] = (90, 120)) -> Image.Image:
    """A garment on plain ground: something to find, whichever way it is turned."""
    picture = Image.new("RGB", size, (250, 248, 245))
    width, height = size
    picture.paste((40, 60, 120), (width // 4, height // 8, 3 * width // 4, 7 * height // 8))
    picture.paste((150, 40, 40), (width // 4, height // 8, width // 2, height // 4))
    return picture


def encoded(picture: Image.Image, kind: str, **otherwise) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **otherwise)
    return file.getvalue()


def ordinary() -> Iterator[tuple[str, bytes]]:
    """What people send, in every mode that its format has."""
    picture = shot()
    grey, clear = picture.convert("L"), picture.convert("RGBA")
    clear.putalpha(Image.eval(grey, lambda level: 255 if level < 240 else 0))
    frames = [shot(), shot().transpose(Image.Transpose.ROTATE_180)]
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    yield "baseline.jpg", encoded(picture, "JPEG")
    yield "progressive.jpg", encoded(picture, "JPEG", progressive=True, quality=95)
    yield "grey.jpg", encoded(grey, "JPEG")
    yield "cmyk.jpg", encoded(picture.convert("CMYK"), "JPEG")
    yield "turned.jpg", encoded(picture, "JPEG", exif=exif(6))
    yield "colour.png", encoded(picture, "PNG")
    yield "grey.png", encoded(grey, "PNG")
    yield "one-bit.png", encoded(picture.convert("1"), "PNG")
    yield "palette.png", encoded(picture.quantize(8), "PNG")
    yield "palette-clear.png", encoded(clear.quantize(8), "PNG")
    yield "clear.png", encoded(clear, "PNG")
    yield "grey-clear.png", encoded(clear.convert("LA"), "PNG")
    yield "16-bit.png", encoded(deep, "PNG")
    yield "animated.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "lossy.webp", encoded(picture, "WEBP")
    yield "clear.webp", encoded(clear, "WEBP", lossless=True)
    yield "animated.webp", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    yield "still.gif", encoded(picture, "GIF")
    yield "clear.gif", encoded(clear, "GIF")
    yield "animated.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0)


def spoilt(content: bytes, generator: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Cut short, flipped, without a piece, with a piece too many, twice over."""
    for part in range(12):
        yield f"cut-{part:02d}", content[: len(content) * part // 12 + part]
    for number in range(12):
        altered = bytearray(content)
        for place in generator.integers(0, len(content), 1 + 3 * number):
            altered[place] ^= 1 << int(generator.integers(8))
        yield f"flipped-{number:02d}", bytes(altered)
    for number in range(4):
        start, length = int(generator.integers(len(content))), int(generator.integers(1, 60))
        yield f"hole-{number}", content[:start] + content[start + length :]
        yield f"stuffed-{number}", content[:start] + generator.bytes(length) + content[start:]
    yield "headless", content[8:]
    yield "twice", content + content
    yield "trailer", content + b"<script>" * 1000


def png(*chunks: tuple[bytes, bytes], correct: bool = True) -> bytes:
    sums = ((kind, data, zlib.crc32(kind + data) ^ (not correct)) for kind, data in chunks)
    return PNG_START + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc) for kind, data, crc in sums
    )


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlaced: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def png_bombs() -> Iterator[tuple[str, bytes]]:
    zeros = zlib.compress(bytes(64 * MEGABYTE), 9)
    rows = (b"IDAT", zlib.compress((b"\0" + bytes(range(64))) * 64))
    end = (b"IEND", b"")
    small = header(64, 64)
    for edge in (50_000, 65_535, 2**31 - 1):
        yield f"refused-bomb-{edge}.png", png(header(edge, edge), (b"IDAT", zeros), end)
    yield "refused-bomb-wide.png", png(header(2**31 - 1, 1), (b"IDAT", zeros), end)
    yield "refused-no-width.png", png(header(0, 64), rows, end)
    yield "either-largest-blank.png", png(header(5_656, 5_656), (b"IDAT", zeros), end)
    yield "refused-too-large.png", png(header(5_657, 5_657), (b"IDAT", zeros), end)
    yield "either-largest-one-bit.png", png(header(5_656, 5_656, depth=1), (b"IDAT", zeros), end)
    yield "either-largest-colour.png", png(header(5_656, 5_656, 8, 6), (b"IDAT", zlib.compress(bytes(128 * MEGABYTE))))
    yield "either-largest-16-bit.png", png(header(5_656, 5_656, depth=16), (b"IDAT", zeros), end)
    yield "either-interlaced.png", png(header(4_096, 4_096, interlaced=1), (b"IDAT", zeros), end)
    yield "either-more-data-than-rows.png", png(small, rows, (b"IDAT", zeros), end)
    yield "either-text-bomb.png", png(small, (b"zTXt", b"k\0\0" + zeros), rows, end)
    yield "either-utf8-bomb.png", png(small, (b"iTXt", b"k\0\1\0\0\0" + zeros), rows, end)
    yield "either-profile-bomb.png", png(small, (b"iCCP", b"k\0\0" + zeros), rows, end)
    yield "either-100-text-bombs.png", png(small, *[(b"zTXt", b"k\0\0" + zlib.compress(bytes(MEGABYTE)))] * 100, rows)
    yield "refused-a-million-chunks.png", png(small, *[(b"abCd", b"")] * 10**6, rows, end)
    yield "refused-wrong-sums.png", png(small, rows, end, correct=False)
    yield "refused-no-header.png", png(rows, end)
    yield "refused-no-rows.png", png(small, end)
    yield "refused-nothing-but-a-header.png", png(small)
    yield "either-palette-without-one.png", png(header(64, 64, 8, 3), rows, end)
    yield "either-palette-of-one.png", png(header(64, 64, 8, 3), (b"PLTE", b"\1\2\3"), rows, end)
    yield "either-unknown-depth.png", png(header(64, 64, depth=7), rows, end)
    yield "either-unknown-colours.png", png(header(64, 64, 8, 5), rows, end)
    yield "either-two-headers.png", png(small, header(9_000, 9_000), rows, end)
    yield "either-header-of-one-byte.png", png((b"IHDR", b"\0"), rows, end)
    yield "either-4-billion-frames.png", png(small, (b"acTL", struct.pack(">II", 2**32 - 1, 0)), rows, end)
    yield (
        "either-frame-elsewhere.png",
        png(
            small,
            (b"acTL", b"\0\0\0\1\0\0\0\0"),
            (b"fcTL", struct.pack(">IIIIIHHBB", 0, 9_000, 9_000, 5, 5, 0, 0, 9, 9)),
            rows,
        ),
    )
    yield "either-transparency-of-nothing.png", png(small, (b"tRNS", b""), rows, end)
    yield "either-gamma-of-nothing.png", png(small, (b"gAMA", b""), (b"cHRM", b"\1"), (b"pHYs", b""), rows, end)
    yield "either-endless-chunk.png", png(small) + struct.pack(">I", 2**32 - 1) + b"IDAT" + rows[1]


def gif_bombs() -> Iterator[tuple[str, bytes]]:
    content = encoded(shot().convert("L"), "GIF")
    first = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1))  # behind the palette
    picture = content[first:-1]
    comment = b"\x21\xfe" + b"\x01a" * 10**6 + b"\0"
    yield "read-a-million-frames.gif", content[:-1] + (b"\x21\xf9\4\0\1\0\0\0" + picture[:10] + b"\2\1\0\0") * 10**6
    yield "refused-a-comment-of-a-million-parts.gif", content[:first] + comment + content[first:]
    yield "refused-a-million-comments.gif", content[:first] + b"\x21\xfe\1a\0" * 10**6 + content[first:]
    yield "refused-bomb.gif", content[:6] + struct.pack("<HH", 65_535, 65_535) + content[10:]
    yield (
        "either-frame-larger-than-all.gif",
        content[: first + 5] + struct.pack("<HH", 5_000, 5_000) + content[first + 9 :],
    )
    yield "either-frame-outside.gif", content[: first + 1] + struct.pack("<HH", 60_000, 60_000) + content[first + 5 :]
    yield "refused-no-frame.gif", content[:first] + b";"
    yield "either-codes-of-99-bits.gif", content[: first + 10] + b"\x63" + content[first + 11 :]


def jpeg_bombs() -> Iterator[tuple[str, bytes]]:
    content = encoded(shot(), "JPEG")
    frame = content.index(b"\xff\xc0")
    blank = encoded(Image.new("L", (5_600, 5_600)), "JPEG", progressive=True)
    scan = blank[blank.rindex(b"\xff\xda") : -2]

    def sized(width: int, height: int) -> bytes:
        return content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]

    yield "refused-bomb.jpg", sized(65_535, 65_535)
    yield "refused-too-large.jpg", sized(8_945, 8_945)
    yield "either-largest.jpg", sized(8_944, 8_944)
    yield "either-one-column.jpg", sized(1, 65_500)
    yield "refused-no-height.jpg", sized(90, 0)
    yield "refused-10000-scans.jpg", blank[:-2] + scan * 10_000 + blank[-2:]
    yield "read-restart-markers.jpg", encoded(shot(), "JPEG", progressive=True, restart_marker_rows=1)
    for name, segment in (("app", b"\xff\xe5\0\2"), ("comment", b"\xff\xfe\0\2"), ("empty", b"\xff\x01")):
        yield f"refused-a-million-{name}-segments.jpg", content[:2] + segment * 10**6 + content[2:]
    yield "read-a-thousand-segments.jpg", content[:2] + b"\xff\xe5\0\2" * 1000 + content[2:]
    yield "either-segment-longer-than-all.jpg", content[:2] + b"\xff\xe5\xff\xff" + content[2:]
    yield "either-segment-of-no-length.jpg", content[:2] + b"\xff\xe5\0\0" + content[2:]
    yield (
        "either-profile-in-255-parts.jpg",
        content[:2]
        + b"".join(b"\xff\xe2\0\x14ICC_PROFILE\0" + bytes([part, 255, 1, 2]) for part in range(255))
        + content[2:],
    )
    yield "either-two-pictures-claimed.jpg", content[:2] + b"\xff\xe2\0\x10MPF\0MM\0*\0\0\0\x08\0\1" + content[2:]
    yield "either-99-components.jpg", content[: frame + 9] + b"\x63" + content[frame + 10 :]
    yield "either-12-bits.jpg", content[: frame + 4] + b"\x0c" + content[frame + 5 :]
    yield "either-lossless.jpg", content[: frame + 1] + b"\xc3" + content[frame + 2 :]
    yield "either-arithmetic.jpg", content[: frame + 1] + b"\xc9" + content[frame + 2 :]


def webp_bombs() -> Iterator[tuple[str, bytes]]:
    def riff(*chunks: tuple[bytes, bytes]) -> bytes:
        body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body

    def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return b"VP8X", bytes([flags, 0, 0, 0]) + sides

    still = encoded(shot(), "WEBP", lossless=True)
    pixels = (b"VP8L", still[20 : 20 + int.from_bytes(still[16:20], "little")])
    loop = (b"ANIM", bytes(6))
    frame = (b"ANMF", bytes(6) + (89).to_bytes(3, "little") + (119).to_bytes(3, "little") + bytes(4))
    frame = (
        frame[0],
        frame[1] + pixels[0] + struct.pack("<I", len(pixels[1])) + pixels[1] + b"\0" * (len(pixels[1]) % 2),
    )
    blank = encoded(Image.new("RGB", (5_656, 5_656)), "WEBP", lossless=True, quality=0, method=0)
    yield "refused-bomb.webp", riff(canvas(2**24, 255), pixels)
    yield "refused-bomb-animated.webp", riff(canvas(60_000, 60_000, 2), loop, frame)
    yield "read-20000-frames.webp", riff(canvas(90, 120, 2), loop, *[frame] * 20_000)
    yield "either-a-million-chunks.webp", riff(canvas(90, 120), *[(b"XTRA", b"")] * 10**6, pixels)
    yield "either-largest-blank.webp", blank
    yield "either-profile.webp", riff(canvas(90, 120, 0x20), (b"ICCP", bytes(10 * MEGABYTE)), pixels)
    yield "refused-nothing.webp", riff()
    yield "refused-alpha-alone.webp", riff(canvas(90, 120, 0x10), (b"ALPH", b"\0" * 99))


def shapes() -> Iterator[tuple[str, bytes]]:
    sizes = [(1, 1), (1, 60_000), (60_000, 1), (2, 3), (27, 28), (28, 28), (29, 28), (511, 513), (3_000, 2_000)]
    for width, height in sizes:
        for kind, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif")):
            if kind == "WEBP" and max(width, height) > 16_383:
                continue
            told = "read" if min(width, height) > 20 else "either"
            yield f"{told}-{width}x{height}.{suffix}", encoded(shot((width, height)), kind)
    for colour in ("white", "black", "grey"):
        yield f"either-{colour}.png", encoded(Image.new("RGB", (64, 64), colour), "PNG")


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def broken_exif() -> Iterator[tuple[str, bytes]]:
    start = b"Exif\0\0"

    def table(*entries: tuple[int, int, int, bytes], after: int = 0) -> bytes:
        rows = b"".join(
            struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0") for tag, kind, count, value in entries
        )
        return start + b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + rows + struct.pack(">I", after)

    metadata = {
        "empty": start,
        "text": start + b"not a TIFF",
        "no-table": start + b"MM\0*\xff\xff\xff\xff",
        "orientation-0": table((0x0112, 3, 1, b"\0\0")),
        "orientation-9": table((0x0112, 3, 1, b"\0\x09")),
        "orientation-text": table((0x0112, 2, 4, b"six")),
        "orientation-two": table((0x0112, 3, 2, b"\0\6\0\6")),
        "orientation-float": table((0x0112, 11, 1, struct.pack(">f", 6))),
        "orientation-by-zero": table((0x0112, 5, 1, b"\0\0\0\x08")),
        "orientation-elsewhere": table((0x0112, 3, 2**31, b"\x7f\xff\xff\xff")),
        "4-billion-entries": table((0x9286, 7, 2**32 - 1, b"\0\0\0\0")),
        "loop": table((0x8769, 4, 1, b"\0\0\0\x08"), after=8),
        "unknown-kind": table((0x0112, 99, 1, b"\0\6")),
        "a-thousand-tables": table(*[(0x8769, 4, 1, b"\0\0\0\x08")] * 1000),
        "big": start + b"II+\0\x08\0\0\0" + b"\xff" * 40,
    }
    for name, content in metadata.items():
        yield f"read-exif-{name}.jpg", encoded(shot(), "JPEG", exif=content)
        yield f"read-exif-{name}.webp", encoded(shot(), "WEBP", exif=content)
        yield f"read-exif-{name}.png", encoded(shot(), "PNG", exif=content)
    raw = b"Raw profile type exif\0\nexif\n 9\nzz not hexadecimal"
    rows = (b"IDAT", zlib.compress((b"\0" + bytes(range(64))) * 64))
    yield "either-exif-as-text.png", png(header(64, 64), (b"tEXt", raw), rows, (b"IEND", b""))


def other_files() -> Iterator[tuple[str, bytes]]:
    """Nothing that is tried, whatever its name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("picture.png", bytes(10 * MEGABYTE))
    picture = shot()
    yield "refused-nothing.png", b""
    yield "refused-zeros.jpg", bytes(4096)
    yield "refused-larger-than-allowed.png", PNG_START + bytes(33 * MEGABYTE)
    yield "refused-noise.png", np.random.default_rng(SEED).bytes(100_000)
    yield "refused-text.jpg", b"Nur ein Text\n" * 100
    yield "refused-page.jpg", b"<!doctype html><html><body><img src=x onerror=alert(1)></body></html>"
    yield "refused-vector.png", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield (
        "refused-entities.png",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'bbb'><!ENTITY c '&b;&b;'>]><svg>&c;</svg>",
    )
    yield "refused-document.png", b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\ntrailer << /Root 1 0 R >>"
    yield (
        "refused-program.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) (r) file\nshowpage\n",
    )
    yield "refused-hdf5.png", b"\x89HDF\r\n\x1a\n" + bytes(2048)
    yield "refused-zip.png", archive.getvalue()
    yield "refused-pickle.png", pickle.dumps({"picture": list(range(1000))})
    yield "refused-array.png", b"\x93NUMPY\x01\x00v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"
    yield "refused-elf.png", b"\x7fELF\2\1\1" + bytes(200)
    yield "refused-onnx.png", b"\x08\x08\x12\x07seamline" + bytes(100)
    yield "refused-mp4.jpg", b"\0\0\0\x18ftypmp42\0\0\0\0" + bytes(500)
    yield "refused-heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)
    yield "refused-icon.png", b"\0\0\1\0\1\0\0\0\0\0\1\0 \0" + b"\xff" * 40
    yield "refused-portable.png", b"P6 99999 99999 255\n" + bytes(99)
    yield "refused-photoshop.png", b"8BPS\0\1" + bytes(6) + b"\0\3\0\xff\xff\xff\0\xff\xff\xff\0\x08\0\3"
    for kind in ("BMP", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "JPEG2000", "PDF", "EPS", "ICNS"):
        with contextlib.suppress(OSError, KeyError):  # a Pillow that cannot write it
            yield f"refused-{kind.lower()}.png", encoded(picture, kind)
    modes = ("1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
    for mode in modes:
        made = Image.new(mode, (40, 40)) if mode in {"LAB", "I;16"} else picture.convert("L").convert(mode)
        yield f"refused-{mode.lower().replace(';', '-')}.tiff", encoded(made, "TIFF")
    for number, entry in enumerate(
        ((256, 4, 1, 2**31 - 1), (273, 4, 2**31, 8), (258, 3, 2**30, 9), (330, 13, 2**30, 8))
    ):
        yield f"refused-absurd-tags-{number}.tiff", b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", *entry) + bytes(4)


def wrong_suffixes(whole: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The content says what a file is, not its name."""
    for name in ("baseline.jpg", "colour.png", "lossy.webp", "still.gif"):
        for suffix in ("txt", "exe", "onnx", "tiff"):
            yield f"read-{name.replace('.', '-')}.{suffix}", whole[name]


def read_all(folder: Path) -> None:
    """Read each file as `seamline classify` does; a line of JSON for each: what came of it and how long it took."""
    from seamline import pictures as reader

    for path in sorted(folder.iterdir()):
        print(json.dumps({"file": path.name}), flush=True)  # so that a crash has a name
        began = time.monotonic()
        try:
            image = reader.read(path)
            came = f"{image.dtype} {image.shape}"
        except ValueError as error:
            came = f"refused: {error}"
        took = time.monotonic() - began
        print(json.dumps({"file": path.name, "came": came, "s": took, "peak_mib": peak_mib()}), flush=True)


def peak_mib() -> int:
    """The most memory that this process has held; ru_maxrss would begin with its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    *options, place = sys.argv[1:]
    (write if options == ["--write"] else read_all)(Path(place))
