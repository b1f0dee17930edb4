"""A recipe: architecture, numbers, where it comes from and what its source published. One file each in recipes/.

`params.yaml` names the one that the pipeline trains; `dvc exp run -S recipes/swift.yaml:epochs=3` changes a number.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks import params
from tasks.errors import ParameterError
from tasks.params import Count, Positive, Section, Share


class Published(Section):
    """Accuracies that the source gives, where it does."""

    train: Share | None
    test: Share | None


class Recipe(Section):
    """How to train one model."""

    source: str
    published: Published
    model: str  # a name from models/__init__.py
    size: dict[str, int | float | list[int]]  # the numbers that the architecture takes
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch: Count
    optimiser: Literal["muon", "adam", "sgd"]
    rate: Positive  # muon: of the kernels
    adam_rate: Positive | None  # muon: of everything else
    schedule: Literal["cosine", "constant"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    shift: Annotated[int, Field(ge=0, le=8)]  # images are moved by up to this many pixels each way
    flip: bool  # left to right, every other time
    erase: Share  # of the images have noise in a rectangle
    averaging: Annotated[float, Field(ge=0, lt=1)]  # share of the old average kept every 8 steps; 0 = the last weights


def load(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        ParameterError: it is absent, not YAML, or has an unknown, missing or unusable entry.
    """
    try:
        return params.read(path, Recipe)
    except FileNotFoundError as error:
        raise ParameterError(f"There is no recipe {path}{_nearest(path)}.") from error


def load_all(folder: Path) -> dict[str, Recipe]:
    """Every recipe that there is, by name.

    Raises:
        ParameterError: one has an unknown, missing or unusable entry.
    """
    return {name: load(folder / f"{name}.yaml") for name in names(folder)}


def shortened(recipe: Recipe, most_epochs: int) -> Recipe:
    """The recipe, with fewer epochs if it has more."""
    return recipe.model_copy(update={"epochs": min(recipe.epochs, most_epochs)})


def names(folder: Path) -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _nearest(path: Path) -> str:
    known = names(path.parent)
    near = difflib.get_close_matches(path.stem, known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"


def described(recipe: Recipe) -> dict[str, Any]:
    """What the trained weights depend on: the recipe without where it comes from."""
    return recipe.model_dump(exclude={"source", "published"})
