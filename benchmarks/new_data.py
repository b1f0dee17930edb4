"""What admitted photographs are worth: `python -m benchmarks.new_data PHOTOGRAPHS`, some ten minutes.

PHOTOGRAPHS has `train` and `validation` of https://github.com/alexeygrigorev/clothing-dataset-small (CC0). `train` is
put into a folder as data/incoming has it and goes through `admit`. A narrow `swift` is then trained twice, with the
same seed and epochs: on Fashion-MNIST alone, and with what was admitted. Both name the validation photographs.
"""

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import measured
from benchmarks.photographs import RIGHT, found
from seamline import pictures
from tasks import admit, fitting, normalise, params, recipes, splits, trained
from tasks.__main__ import ENVIRONMENT
from tasks.arrays import CLASSES, Split

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {  # of the photographs → of data/incoming; the others are no single kind of ours and keep their names
    "t-shirt": "t-shirt-top",
    "pants": "trouser",
    "longsleeve": "pullover",
    "outwear": "coat",
}


class Arm(NamedTuple):
    """What a model makes of the pictures."""

    right: NDArray[np.bool_]  # of each validation photograph of a known kind
    accuracy: float  # on Fashion-MNIST's validation images
    seconds: float  # of training


def main() -> int:
    """Admit, train twice, print; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.new_data", description=__doc__)
    parser.add_argument("photographs", type=Path, help="a folder with train and validation")
    parser.add_argument("--width", type=int, default=8, help="of the net (8; the recipe has 24)")
    parser.add_argument("--epochs", type=int, default=4, help="of each training (4)")
    parser.add_argument("--views", type=int, help="training images of a photograph (admit.views of params.yaml)")
    chosen = parser.parse_args()
    numbers = params.load(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        put = put_there(chosen.photographs / "train", Path(folder) / "incoming")
        took = time.perf_counter()
        admitted = admitted_from(Path(folder), numbers, chosen.views)
        admitting = time.perf_counter() - took
        print((Path(folder) / "admit.md").read_text(encoding="utf-8").partition("| | expectation")[0])
        print(f"{put} pictures put there in {took - begun:.1f} s, looked at in {admitting:.1f} s: "
              f"{1000 * admitting / put:.0f} ms each.\n", flush=True)  # fmt: skip
        arms = [train(chosen, more, numbers.train.seed, Path(folder)) for more in (_only(admitted, 0), admitted)]
    print(heading(chosen, len(admitted.labels)) + table(*arms))
    return 0


def put_there(photographs: Path, incoming: Path) -> int:
    """Copy the photographs into folders named as data/incoming has them; how many."""
    for kind in RIGHT:
        shutil.copytree(photographs / kind, incoming / FOLDERS.get(kind, kind))
    return sum(path.is_file() for path in incoming.rglob("*"))


def admitted_from(folder: Path, numbers: params.Params, views: int | None) -> Split:
    section = numbers.admit.model_copy(update={"views": views or numbers.admit.views})
    outputs = [folder / name for name in ("admitted", "set-aside", "admission.json", "admit.md")]
    admit.run(section, ROOT / "data/raw", folder / "incoming", *outputs)
    return splits.read(outputs[0], admit.ADMITTED)


def _only(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


def train(chosen: argparse.Namespace, more: Split, seed: int, folder: Path) -> Arm:
    """Train on Fashion-MNIST and more, and look at the photographs."""
    normalised = ROOT / "data/normalised"
    images, validation = (splits.read(normalised, name) for name in ("train", "validation"))
    both = normalise.joined(images, more)
    pixels = normalise.pixel_stats(both.images)
    recipe = recipes.load(ROOT / "recipes/swift.yaml")
    recipe = recipe.model_copy(update={"epochs": chosen.epochs, "size": {"width": chosen.width, "blocks": 1}})
    fitting.set_up("auto", seed)
    model = trained.build(recipe.model, recipe.size, *pixels, seed)
    key = f"{len(more.labels)}"
    seconds = fitting.fit(model, both, validation, recipe, seed, folder / "checkpoints" / key, key).seconds
    right = [
        CLASSES[int(trained.probabilities(model, pictures.from_picture(file)).mean(axis=0).argmax())]
        in RIGHT[file.parent.name]
        for file in found(chosen.photographs / "validation")
        if RIGHT[file.parent.name]
    ]
    accuracy = fitting.measure(model, validation)["accuracy"]
    return Arm(np.array(right), accuracy, seconds)


def heading(chosen: argparse.Namespace, count: int) -> str:
    loaded = statistics.mean(os.getloadavg())
    return (
        f"{measured.by('python -m benchmarks.new_data')}, "
        f"load {loaded:.1f}; `swift` of width {chosen.width}, {chosen.epochs} epochs; "
        f"{count:,} admitted images.\n\n"
    )


def table(without: Arm, with_them: Arm) -> str:
    """Both models as Markdown, and whether the difference may be chance (McNemar's exact test)."""
    gained, lost = ((one.right & ~other.right).sum() for one, other in ((with_them, without), (without, with_them)))
    pairs = int(gained + lost)
    tail = sum(math.comb(pairs, count) for count in range(min(gained, lost) + 1)) / 2**pairs
    rows = [
        f"| {name} | {arm.right.mean():.1%} of {len(arm.right)} | {arm.accuracy:.2%} | {arm.seconds:.0f} s |"
        for name, arm in (("Fashion-MNIST alone", without), ("with what was admitted", with_them))
    ]
    lines = ["| trained on | photographs named right | validation images | training |", "|---|---:|---:|---:|", *rows]
    return "\n".join([*lines, f"\n{gained} photographs gained, {lost} lost; p = {min(1.0, 2 * tail):.2g}.\n"])


if __name__ == "__main__":
    if not ENVIRONMENT.items() <= os.environ.items():  # TensorFlow reads them when it is loaded
        again = [sys.executable, "-m", "benchmarks.new_data", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | ENVIRONMENT)  # noqa: S606  # itself
    sys.exit(main())
