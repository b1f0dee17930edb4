"""Pictures that show no garment, to count how many of them a model calls unknown.

No training shows it digits, only strokes that now and then look like one (tasks/augment.py).
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tasks.arrays import SIDE, Images, Probabilities

COUNT = 1000  # of each kind
LARGE = 4 * SIDE  # digits are drawn at this size
CUTTING = 12  # pixels of a garment that fill the picture


def kinds(garments: Images, seed: int) -> dict[str, Images]:
    """Strangers by kind, uint8 (≤ 1000, 28, 28) each.

    Args:
        garments: uint8 (n, 28, 28), n ≥ 1, that some are made of.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    own = garments[rng.permutation(len(garments))[:COUNT]]
    noise = rng.integers(0, 256, (COUNT, SIDE, SIDE), dtype=np.uint8)
    blank = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, SIDE, SIDE))
    return {
        "noise": noise,
        "blank": blank,
        "inverted": 255 - own,
        "digits": digits(COUNT, rng),
        "cuttings": np.stack([_cutting(image, rng) for image in own]),
    }


def digits(count: int, rng: np.random.Generator) -> Images:
    """Printed digits, bright on black, in the faces that matplotlib brings, turned a little."""
    folder = Path(mpl.get_data_path()) / "fonts/ttf"
    faces = sorted(path for path in folder.glob("*.ttf") if path.name.startswith(("DejaVu", "STIXGeneral")))
    faces = [face for face in faces if "Display" not in face.name]  # those have a few signs, and no digits
    return np.stack([_digit(number % 10, faces[rng.integers(len(faces))], rng) for number in range(count)])


def _digit(digit: int, face: Path, rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = Image.new("L", (LARGE, LARGE))
    centre = tuple(LARGE / 2 + 5 * rng.standard_normal(2))
    font = ImageFont.truetype(face, int(rng.integers(80, 110)))
    ImageDraw.Draw(picture).text(centre, str(digit), fill=255, font=font, anchor="mm")
    turned = picture.rotate(10 * rng.standard_normal(), Image.Resampling.BICUBIC)
    return np.asarray(turned.resize((SIDE, SIDE), Image.Resampling.BOX))


def _cutting(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    top, left = rng.integers(4, SIDE - CUTTING - 3, 2)
    part = Image.fromarray(image[top : top + CUTTING, left : left + CUTTING])
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def refused(probabilities: Probabilities, limit: float) -> float:
    """The share of pictures whose likeliest class, (n, 10), stays below a probability."""
    return float((probabilities.max(axis=1) < limit).mean())
