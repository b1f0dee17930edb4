"""Time swift against what else could be trained: `make bench-training`, about half an hour on two idle cores.

Each contender trains in a process of its own, one after the other in one run, until 90 % of the validation images are
right: swift; the same net in plain Keras (batch normalisation, float32, `fit`) and in PyTorch; every published recipe.
And what share of swift's time its images take. Writes benchmarks/training.md. PyTorch is a dependency of this benchmark
alone, in an environment of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import measured
from tasks import processor, recipes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/training.md"
NORMALISED = ROOT / "data/normalised"
TORCH = ROOT / ".venv-torch/bin/python"
GOAL = 0.90  # of the validation images
OURS, OURSELVES = "swift", "Seamline"


def main() -> int:
    """Measure, print and write; exit status 1 if a contender failed."""
    found: dict[str, dict[str, Any]] = {}
    for name, command in contenders():
        print(f"{name} …", flush=True)
        said = answer(name, command)
        if said is None:
            return 1
        found[name] = said
    images = answer("images alone", [sys.executable, "-m", "benchmarks.images", OURS, str(NORMALISED)])
    if images is None:
        return 1
    text = page(found, images["images_per_second"])
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0


def answer(name: str, command: list[str]) -> dict[str, Any] | None:
    """The line of JSON that a command ends with; None, and a word about it, if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{name} failed with exit status {done.returncode}.")
        return None
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {said}", flush=True)
    return said


def environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1", "KERAS_BACKEND": "tensorflow"}


def contenders() -> Iterator[tuple[str, list[str]]]:
    """Name → the command that trains it and prints a line of JSON: images_per_second, seconds (to the goal), epochs."""
    folder, all_recipes = str(NORMALISED), recipes.load_all(ROOT / "recipes")
    same = [folder, str(GOAL), str(all_recipes[OURS].size["width"])]
    yield OURS, [sys.executable, "-m", "benchmarks.recipe", OURS, folder, str(GOAL)]
    yield "the same in plain Keras", [sys.executable, "-m", "benchmarks.plain_keras", *same]
    if TORCH.is_file():
        yield "the same in PyTorch", [str(TORCH), "-m", "benchmarks.plain_torch", *same]
    for name, recipe in all_recipes.items():
        if not recipe.source.startswith(OURSELVES):
            yield name, [sys.executable, "-m", "benchmarks.recipe", name, folder, str(GOAL)]


def page(found: dict[str, dict[str, Any]], images: float) -> str:
    """The results as Markdown, with machine, date and commit; `images`: drawn in a second without training."""
    precision = processor.precision("auto", processor.flags(), 0)
    heading = (
        f"{measured.by('make bench-training')}, "
        f"{precision}. Seconds until {GOAL:.0%} of the validation images are right, compilation included; each "
        "is trained once, with its own numbers. Plain Keras and PyTorch: batch normalisation, Adam at 0.001, no "
        "augmentation, float32.\n"
    )
    ours = found[OURS]
    rows = [_row(name, result, ours) for name, result in found.items()]
    columns = "| contender | images a second | against swift | seconds to 90 % | against swift | epochs | validation |"
    share = (
        f"The images of {OURS} are gathered and changed at {images:,.0f} a second, Python included: "
        f"{ours['images_per_second'] / images:.1%} of its training's time."
    )
    table = [columns, "|---|---:|---:|---:|---:|---:|---:|", *rows]
    return "\n".join(["# Training", "", heading, *table, "", share, ""])


def _row(name: str, result: dict[str, Any], ours: dict[str, Any]) -> str:
    speed, seconds = result["images_per_second"], result["seconds"]
    if seconds is None:
        took, ratio = "not reached", ""
    else:
        took, ratio = f"{seconds:.0f}", f"{seconds / ours['seconds']:.1f} ×" if ours["seconds"] else ""
    return (
        f"| {name} | {speed:,.0f} | {speed / ours['images_per_second']:.2f} × | {took} | {ratio} | {result['epochs']} "
        f"| {result['accuracy']:.2%} |"
    )


if __name__ == "__main__":
    sys.exit(main())
