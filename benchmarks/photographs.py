"""How many photographs a bundle names right: `make photographs PHOTOGRAPHS=DIR` → data/photographs.html.

DIR has a folder for each kind, as the public data set https://github.com/alexeygrigorev/clothing-dataset-small (CC0)
has them in its `train`, `validation` and `test`. Nothing is trained on them. The page shows each picture, what the
model saw and what it said.
"""

import argparse
import base64
import io
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from benchmarks import measured
from seamline import Classifier, decoding, pictures
from seamline.classifier import UNKNOWN
from tasks.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "data/photographs.html"
TEMPLATE = Path(__file__).with_name("photographs.html.jinja")
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
THUMBNAIL = 112  # pixels
RIGHT = {  # folder → what it may be called; nothing: a stranger, to be called unknown
    "t-shirt": {"T-shirt/top"},
    "pants": {"Trouser"},
    "longsleeve": {"Pullover"},
    "dress": {"Dress"},
    "outwear": {"Coat"},
    "shirt": {"Shirt"},
    "shoes": {"Sandal", "Sneaker", "Ankle boot"},
    "hat": set(),
    "shorts": set(),
    "skirt": set(),
}


class Shown(NamedTuple):
    """A photograph, and what came of it."""

    file: Path
    kind: str  # its folder
    views: NDArray[np.uint8]  # (v, 28, 28)
    likeliest: str
    said: str  # the likeliest, or "unknown"
    probability: float
    unweighed: str  # the likeliest, had the model no photograph_odds
    ms: float  # from the file's bytes to the answer

    @property
    def right(self) -> bool:
        """Of a stranger, whether it is called unknown; of a garment, whether the likeliest kind is its own."""
        return self.likeliest in RIGHT[self.kind] if RIGHT[self.kind] else self.said == UNKNOWN


def main() -> int:
    """Measure, print and write the page; the exit status."""
    parser = argparse.ArgumentParser(prog="make photographs", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder for each kind: " + ", ".join(RIGHT))
    parser.add_argument("--model", type=Path, help="a bundle or an ONNX file (the newest export)")
    chosen = parser.parse_args()
    files = list(found(chosen.folder))
    if not files:
        print(f"{chosen.folder} has no pictures in folders named {', '.join(RIGHT)}. Get them: git clone "
              "https://github.com/alexeygrigorev/clothing-dataset-small", file=sys.stderr)  # fmt: skip
        return 1
    classifier = Classifier(chosen.model)
    shown = [look(classifier, file) for file in track(files, "Looking", transient=True)]
    text = heading(classifier) + "\n" + table(shown, classifier.classes)
    print(text)
    write_page(shown, text)
    print(f"Each picture, what the model saw and what it said: {PAGE.relative_to(ROOT)}")
    return 0


def found(folder: Path) -> Iterator[Path]:
    """The pictures of the kinds that are known, in a stable order."""
    for kind in RIGHT:
        yield from sorted(
            path for path in (folder / kind).glob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"}
        )


def look(classifier: Classifier, file: Path) -> Shown:
    """Read and classify one, on one thread."""
    content = file.read_bytes()
    begun = time.perf_counter()
    views = pictures.from_picture(content)
    row = classifier.view_probabilities(views)
    ms = 1000 * (time.perf_counter() - begun)
    answer = classifier.best(row.tolist())
    likeliest = classifier.classes[int(row.argmax())]
    unweighed = classifier.classes[int(classifier.probabilities(views).mean(axis=0).argmax())]
    return Shown(file, file.parent.name, views, likeliest, answer.name, answer.probability, unweighed, ms)


def table(shown: list[Shown], classes: tuple[str, ...]) -> str:
    """Accuracy, unknowns and confusions of each kind, as Markdown."""
    known = [one for one in shown if RIGHT[one.kind]]
    strangers = [one for one in shown if not RIGHT[one.kind]]
    times = sorted(one.ms for one in shown)
    unweighed = f"{np.mean([one.unweighed in RIGHT[one.kind] for one in known]):.1%}" if known else "none"
    said = f"{np.mean([one.right and one.said != UNKNOWN for one in known]):.1%}" if known else "none"
    found_in = f"{statistics.median(times):.1f} ms a picture (95 %: {times[int(0.95 * len(times))]:.1f})"
    columns = ["photographed", "pictures", "right", "called unknown", *classes]
    lines = [
        f"**{share(known)} of {len(known)} photographs of known kinds are named right.**\n",
        f"{unweighed} without the model's photograph_odds.\n",
        f"{said} if those that are held back as unknown ({unknown(known)}) count as wrong.\n",
        f"{unknown(strangers)} of {len(strangers)} photographs of other kinds are called unknown.\n",
        f"{found_in} from the file's bytes on.\n",
        f"| {' | '.join(columns)} |",
        "|---|" + "---:|" * (len(columns) - 1),
    ]
    for kind, names in RIGHT.items():
        if these := [one for one in shown if one.kind == kind]:
            named = Counter(one.likeliest for one in these)
            cells = [f"{len(these)}", share(these) if names else "", unknown(these)]
            lines.append(f"| {kind} | " + " | ".join([*cells, *(str(named[name] or "") for name in classes)]) + " |")
    return "\n".join([*lines, ""])


def share(shown: list[Shown]) -> str:
    """How many are right."""
    return f"{np.mean([one.right for one in shown]):.1%}" if shown else "none"


def unknown(shown: list[Shown]) -> str:
    """How many are called unknown."""
    return f"{np.mean([one.said == UNKNOWN for one in shown]):.1%}" if shown else "none"


def heading(classifier: Classifier) -> str:
    """Which model, on which machine, when and at which commit."""
    said = f"model {classifier.digest[:12]}; unknown below {classifier.unknown_below:.1%}"
    return f"{measured.by('make photographs')}, of which one is used; {said}.\n"


def write_page(shown: list[Shown], text: str) -> None:
    """The sheet: mistakes first, kind by kind."""
    loader = FileSystemLoader([TEMPLATE.parent, ROOT / "tasks"])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    kinds = {kind: [one for one in shown if one.kind == kind] for kind in RIGHT}
    cards = {
        kind: [
            {
                "photograph": picture(decoding.decode(one.file.read_bytes()).colours),
                "seen": picture(Image.fromarray(one.views[0])),
                **one._asdict(),
                "right": one.right,
            }
            for one in sorted(these, key=lambda one: one.right)
        ]
        for kind, these in kinds.items()
        if these
    }
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    lead = [line.replace("**", "").replace("`", "") for line in text.splitlines() if line and not line.startswith("|")]
    content = environment.get_template(TEMPLATE.name).render(cards=cards, headings=lines[0], rows=lines[2:], lead=lead)
    write_text(PAGE, content)


def picture(image: Image.Image) -> str:
    """A picture as an address that holds it."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "PNG" if small.mode == "L" else "JPEG", quality=70)
    kind = "png" if small.mode == "L" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():  # numpy reads them when it is loaded
        again = [sys.executable, "-m", "benchmarks.photographs", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | ONE_THREAD)  # noqa: S606  # itself
    sys.exit(main())
