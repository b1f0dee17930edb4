"""What may be tried of a recipe: its `search`, as Optuna has it, and the recipe with what was drawn."""

import difflib
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from tasks.errors import ParameterError
from tasks.recipes import Range, Recipe


def distributions(recipe: Recipe) -> dict[str, BaseDistribution]:
    """The recipe's search, by the numbers' dotted names.

    Raises:
        ParameterError: the recipe has none, or one of a number that it does not have or that cannot have such a value.
    """
    if not recipe.search:
        raise ParameterError(
            "The recipe has no search: name in it what may be tried, as recipes/tuned_two_conv.yaml does."
        )
    for name, space in recipe.search.items():
        for value in (space.low, space.high) if isinstance(space, Range) else space:
            changed(recipe, {name: value})
    return {name: _distribution(space) for name, space in recipe.search.items()}


def _distribution(space: Range | list[Any]) -> BaseDistribution:
    if isinstance(space, list):
        return CategoricalDistribution(space)
    if isinstance(space.low, int) and isinstance(space.high, int):
        return IntDistribution(space.low, space.high, step=int(space.step or 1), log=space.log)
    return FloatDistribution(space.low, space.high, step=space.step, log=space.log)


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other numbers, by dotted names such as `rate` or `size.filters.0`; without a search.

    Raises:
        ParameterError: it has no such number, or that cannot have such a value.
    """
    content = recipe.model_dump(exclude={"search"})
    for name, value in values.items():
        place: Any = content
        *way, last = [int(part) if part.isdigit() else part for part in name.split(".")]
        try:
            for part in way:
                place = place[part]
            place[last]  # that it is there
            place[last] = value
        except (LookupError, TypeError) as error:
            raise ParameterError(f"search: {name} is not a number of this recipe{_nearest(name, recipe)}.") from error
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise ParameterError(f"search: {where} cannot have such a value.") from error


def _nearest(name: str, recipe: Recipe) -> str:
    known = _leaves(recipe.model_dump(exclude={"source", "published", "search", "teacher"}))
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"


def _leaves(content: Any, name: str = "") -> list[str]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if pairs is None:
        return [name]
    return [leaf for key, value in pairs for leaf in _leaves(value, f"{name}.{key}" if name else str(key))]
