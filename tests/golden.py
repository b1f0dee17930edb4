"""Cases that every place where pictures are prepared must answer alike: Python, the page in Node.js and in Chromium.

    python -m tests.golden FOLDER      cases.json, cases.bin and pictures/*.png, from nothing but this repository

What Python prepares is written beside each case, so that the page's modules are compared with Python as it is here and
now; tests/contract.py compares the answers.
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from seamline import bundle, pictures

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "seamline/reference"
IMAGES = 1000
PHOTOGRAPHS = 60
SEED = 11
Images = npt.NDArray[np.uint8]


class Case(NamedTuple):
    name: str
    kind: str  # "plain": a product shot, transparent or 28 × 28; "photograph"
    content: bytes  # PNG, so that every reader decodes the same pixels


def garments() -> Images:
    """Twenty-two garments of Fashion-MNIST, uint8 (28, 28): the examples, and the reference bundle's golden images."""
    examples = [np.asarray(Image.open(path).convert("L")) for path in sorted((ROOT / "examples").glob("*.png"))]
    return np.stack([*examples, *bundle.golden(bundle.read(REFERENCE)).images])


def images(count: int = IMAGES) -> Images:
    """Garments shifted, mirrored, lightened, mixed and roughened: uint8 (count, 28, 28), all different."""
    generator, those = np.random.default_rng(SEED), garments().astype(float)
    made = []
    for _ in range(count):
        one, other = those[generator.integers(len(those), size=2)]
        mixed = one + (other - one) * generator.choice([0, 0, 0.3])
        moved = np.roll(mixed[:, :: generator.choice([-1, 1])], generator.integers(-2, 3, 2), (0, 1))
        rough = moved * generator.uniform(0.6, 1.2) + generator.normal(0, generator.choice([0, 6]), moved.shape)
        made.append(rough.round().clip(0, 255).astype(np.uint8))
    return np.stack(made)


def plain() -> Iterator[Case]:
    """Product shots: every ground, size and shape; transparent ones; 28 × 28."""
    generator = np.random.default_rng(SEED + 1)
    for number, garment in enumerate(garments()):
        yield Case(f"own-{number}", "plain", png(Image.fromarray(garment).convert("RGB")))
        large = enlarged(garment, int(generator.integers(60, 900)))
        colour = tuple(int(level) for level in generator.integers(0, 256, 3))
        for ground in (255, 0, int(generator.integers(0, 256))):
            yield Case(f"ground-{number}-{ground}", "plain", png(shot(large, colour, ground, generator)))
        clear = shot(large, colour, 255, generator).convert("RGBA")
        clear.putalpha(padded(large, clear.size).point(lambda level: min(255, level * 3)))
        yield Case(f"clear-{number}", "plain", png(clear))


def photographs(count: int = PHOTOGRAPHS) -> Iterator[Case]:
    """Garments on grounds with grain, folds and one-sided light, as a telephone sees them."""
    generator, those = np.random.default_rng(SEED + 2), garments()
    for number in range(count):
        width, height = (int(side) for side in generator.integers(150, 900, 2))
        garment = those[generator.integers(len(those))]
        ground = textured(width, height, generator)
        large = enlarged(garment, int(min(width, height) * generator.uniform(0.6, 1.0)))
        mask = padded(large, (width, height)).point(lambda level: 255 if level > 24 else 0)
        colour = generator.integers(0, 256, 3)
        cloth = np.asarray(padded(large, (width, height)))[..., None] / 255 * 0.5 + 0.5
        cloth = (cloth * colour + generator.normal(0, 6, (height, width, 1))).clip(0, 255).astype(np.uint8)
        seen = Image.composite(Image.fromarray(cloth), ground, mask.filter(ImageFilter.GaussianBlur(1)))
        yield Case(f"photograph-{number}", "photograph", png(seen))


def textured(width: int, height: int, generator: np.random.Generator) -> Image.Image:
    colours = generator.integers(40, 240, (2, 3))
    ramp = np.linspace(-1, 1, width)[None, :, None] + np.linspace(-1, 1, height)[:, None, None]
    field = np.where((np.arange(width) < width * generator.uniform(0.3, 1.5))[None, :, None], *colours)
    grain = generator.normal(0, generator.uniform(4, 20), (height, width, 1))
    return Image.fromarray((field * (1 + 0.15 * ramp) + grain).clip(0, 255).astype(np.uint8))


def shot(large: Image.Image, colour: tuple[int, ...], ground: int, generator: np.random.Generator) -> Image.Image:
    """A garment of one colour on plain ground, off the middle."""
    width, height = (int(side * generator.uniform(1.05, 1.6)) + 4 for side in large.size)
    size = (width, height)
    picture = Image.new("RGB", size, (ground,) * 3)
    picture.paste(Image.new("RGB", size, colour), mask=padded(large, size))
    ImageDraw.Draw(picture).point((size[0] // 2, size[1] // 2), fill=(ground ^ 0x80,) * 3)
    return picture


def enlarged(garment: Images, side: int) -> Image.Image:
    return Image.fromarray(garment).resize((side, side), Image.Resampling.BICUBIC)


def padded(large: Image.Image, size: tuple[int, int]) -> Image.Image:
    canvas = Image.new("L", size)
    canvas.paste(large, ((size[0] - large.width) // 2, (size[1] - large.height) // 2))
    return canvas


def png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()


def prepared(content: bytes) -> Images:
    """The views of a picture; none, if it is refused: a garment of its ground's colour, for one."""
    try:
        return pictures.from_picture(content)
    except ValueError:
        return np.zeros((0, 28, 28), np.uint8)


def write(folder: Path, photographs_too: int = PHOTOGRAPHS) -> None:
    """The pictures, decoded, and how Python prepares them."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    blobs, told = bytearray(), []
    for case in [*plain(), *photographs(photographs_too)]:
        (folder / "pictures" / f"{case.name}.png").write_bytes(case.content)
        with Image.open(io.BytesIO(case.content)) as opened:
            rgba = np.asarray(opened.convert("RGBA"))
        views = prepared(case.content)
        place = {"at": len(blobs), "height": rgba.shape[0], "width": rgba.shape[1], "views": len(views)}
        told.append({"name": case.name, "kind": case.kind, **place})
        blobs += rgba.tobytes() + views.tobytes()
    (folder / "cases.bin").write_bytes(blobs)
    (folder / "cases.json").write_text(json.dumps({"pictures": told}), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
