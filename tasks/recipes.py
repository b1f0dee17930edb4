"""A recipe: architecture, numbers, where it comes from and what its source published. One file each in recipes/.

`params.yaml` names the one that the pipeline trains; `dvc exp run -S recipes/swift.yaml:epochs=3` changes a number.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from tasks import params
from tasks.errors import ParameterError
from tasks.params import Count, Positive, Section, Share


class Published(Section):
    """Accuracies that the source gives, where it does."""

    train: Share | None
    test: Share | None


class Range(Section):
    """Numbers that a search may choose from: whole ones if both ends are."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False  # small numbers as often as large ones

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low must lie below high ({self.high})")
        if self.log and (self.step or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if self.step is not None and not (self.step > 0 and (isinstance(self.step, int) or not whole)):
            raise ValueError("step must lie above 0, and be whole where low and high are")
        return self


def _plain(choices: list[Any]) -> list[Any]:
    if not choices or any(not isinstance(choice, int | float | str) for choice in choices):
        raise ValueError("numbers or words, at least one")
    return choices


Choices = Annotated[list[Any], AfterValidator(_plain)]
Space = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(lambda space: "choices" if isinstance(space, list) else "range"),
]


class Teacher(Section):
    """A larger net that is trained first, and whose answers this one learns from."""

    share: Share  # of the loss that is the distance from the teacher's answers
    temperature: Positive  # that both answers are divided by
    recipe: "Recipe"

    @model_validator(mode="after")
    def _teacher_has_none(self) -> "Teacher":
        if self.recipe.teacher:
            raise ValueError("a recipe without a teacher of its own")
        return self


class Recipe(Section):
    """How to train one model. A teacher and what a search may change are there only in some."""

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
    flip: bool  # left to right, in every other epoch
    erase: Share  # of the images have noise in a rectangle
    photographed: Share = 0.0  # of the images look as if customers had photographed them: tasks/photographed.py
    strangers: Share = 0.0  # of the images are no garments; the model learns to be unsure of them
    averaging: Annotated[float, Field(ge=0, lt=1)]  # share of the old average kept every 8 steps; 0 = the last weights
    teacher: Teacher | None = None
    # A number's dotted name, such as size.filters.0 → what `make tune` tries.
    search: dict[str, Space] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shares_leave_garments(self) -> "Recipe":
        if not self.photographed + self.strangers <= 1 or not self.strangers < 1:
            raise ValueError("photographed and strangers that make at most 1 together, strangers alone less")
        return self


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
    """The recipe, with fewer epochs if it or its teacher has more."""
    changes: dict[str, Any] = {"epochs": min(recipe.epochs, most_epochs)}
    if recipe.teacher:
        taught_by = shortened(recipe.teacher.recipe, most_epochs)
        changes["teacher"] = recipe.teacher.model_copy(update={"recipe": taught_by})
    return recipe.model_copy(update=changes)


def names(folder: Path) -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _nearest(path: Path) -> str:
    known = names(path.parent)
    near = difflib.get_close_matches(path.stem, known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"


def described(recipe: Recipe) -> dict[str, Any]:
    """What the trained weights depend on: the recipe without where it comes from and what might be tried."""
    about = {"source", "published", "search"}
    own = recipe.model_dump(exclude={*about, "teacher"})
    if recipe.teacher is None:
        return own
    return {
        **own,
        "teacher": {**recipe.teacher.model_dump(exclude={"recipe"}), "recipe": described(recipe.teacher.recipe)},
    }
