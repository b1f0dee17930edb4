"""Train a recipe until a share of the validation images is right: `python -m benchmarks.recipe NAME FOLDER GOAL`."""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.clock import Clock
from tasks import fitting, recipes, splits, trained
from tasks.files import read_json


class Enough(Exception):  # noqa: N818  # no error
    """The goal is reached."""


def main(name: str, normalised: Path, goal: float) -> None:
    """Train with the recipe's own numbers, at most its own epochs, and print a line of JSON."""
    recipe, stats = recipes.load(Path(f"recipes/{name}.yaml")), read_json(normalised / splits.STATS)
    train, validation = splits.read(normalised, "train"), splits.read(normalised, "validation")
    fitting.set_up("auto", 7)
    clock = Clock(goal, len(train.labels))
    model = trained.build(recipe.model, recipe.size, stats["mean"], stats["deviation"], seed=7)

    def after_epoch(row: dict[str, Any]) -> None:
        if clock.epoch(row["validation_accuracy"]):
            raise Enough

    with tempfile.TemporaryDirectory() as checkpoints, suppress(Enough):
        fitting.fit(model, train, validation, recipe, 7, Path(checkpoints), name, after_epoch=after_epoch)
    print(clock.line())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
