"""Numbers chosen by Optuna within the search that a recipe names; each try is a trial. flows/tuning.py runs it.

Validation images decide; the test images take no part. What has been tried stands in Optuna's storage: an SQLite file,
or the database whose address the environment variable SEAMLINE_STUDIES holds (it may hold a password, too, and so
stands in no file of the project).
"""

import difflib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool  # no connection outlives its question

from tasks import experiment, params, recipes
from tasks.errors import ParameterError
from tasks.experiment import RESULT, Study, Trial
from tasks.files import read_json, write_text
from tasks.params import Experiments
from tasks.recipes import Range, Recipe

STORAGE = "SEAMLINE_STUDIES"
CONNECT_TIMEOUT_S = 5
WAIT_FOR_LOCK_S = 60  # several trials write to one SQLite file
STARTUP_TRIALS = 8  # drawn at random, and never stopped early, before Optuna draws conclusions
FIRST_STOP = 2  # epochs that every trial is given


class Pruned(Exception):  # noqa: N818  # not an error: Optuna's answer
    """This trial is worse than most at the same epoch, and not worth going on with."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs  # done


def storage(folder: Path) -> str:
    """The address of Optuna's database: the environment's, or a file in a folder."""
    return os.environ.get(STORAGE) or f"sqlite:///{folder.resolve()}/studies.db"


def open_study(address: str, name: str, seed: int) -> optuna.Study:
    """A study, made if there is none of that name.

    Raises:
        ParameterError: the database does not answer, or is none.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        url = make_url(address)
        wait = (
            {"timeout": WAIT_FOR_LOCK_S}
            if url.get_backend_name() == "sqlite"
            else {"connect_timeout": CONNECT_TIMEOUT_S}
        )
        database = optuna.storages.RDBStorage(address, engine_kwargs={"connect_args": wait, "poolclass": NullPool})
        return optuna.create_study(
            storage=database,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS),
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, FIRST_STOP),
        )
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise ParameterError(
            f"Optuna's storage {_without_password(address)} does not answer ({_gist(error)}). {STORAGE} names it, "
            "such as postgresql+psycopg://user@host/name; without, it is an SQLite file."
        ) from error


def _without_password(address: str) -> str:
    try:
        return make_url(address).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "that is named"


def _gist(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:200]


def distributions(recipe: Recipe) -> dict[str, BaseDistribution]:
    """The recipe's search, as Optuna has it.

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
    known = list(_leaves(recipe.model_dump(exclude={"source", "published", "search", "teacher"})))
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (known: {', '.join(known)})"


def _leaves(content: Any, name: str = "") -> list[str]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if pairs is None:
        return [name]
    return [leaf for key, value in pairs for leaf in _leaves(value, f"{name}.{key}" if name else str(key))]


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that were begun and whose end nobody told: of a run that was killed."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def ask(study: optuna.Study, recipe: Recipe, seed: int) -> FrozenTrial:
    """A new trial. The draw depends on the seed and on what has been told so far, not on when the run was begun."""
    number = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=STARTUP_TRIALS)
    asked = study.ask(distributions(recipe))
    return study.get_trials(deepcopy=False)[asked.number]


def lay_out(
    settings: Experiments, recipe: Recipe, normalised: Path, folder: Path, study: optuna.Study, trial: FrozenTrial
) -> Path:
    """What is to be trained, in a folder of its own, which is returned."""
    return experiment.lay_out(
        folder / f"trial-{trial.number:04}",
        Trial(
            name=f"trial {trial.number}",
            recipe=recipes.shortened(changed(recipe, trial.params), settings.most_epochs),
            normalised=str(normalised),
            fold=None,
            folds=settings.folds,
            test=False,
            seed=settings.seed,
            precision="auto",
            study=Study(folder=str(folder), name=study.study_name, number=trial.number),
        ),
    )


def tell(study: optuna.Study, number: int, folder: Path) -> None:
    """Tell Optuna how a trial ended: its validation accuracy, that it was pruned, or that it failed."""
    result = read_json(folder / RESULT) if (folder / RESULT).is_file() else None
    if result is None:
        study.tell(number, state=TrialState.FAIL)
    elif result.get("pruned_after"):
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, result["held_out"]["accuracy"])


def watcher(study: Study | None, seed: int) -> Callable[[dict[str, Any]], None] | None:
    """What reports each epoch's validation accuracy to Optuna, and raises `Pruned` when it has seen enough."""
    if study is None:
        return None
    opened = open_study(storage(Path(study.folder)), study.name, seed)
    trial = next(one for one in unfinished(opened) if one.number == study.number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        live = optuna.trial.Trial(opened, trial._trial_id)  # noqa: SLF001  # optuna.Study.tell does so, too

    def watch(row: dict[str, Any]) -> None:
        live.report(row["validation_accuracy"], row["epoch"])
        if live.should_prune():
            raise Pruned(row["epoch"])

    return watch


def write_winner(study: optuna.Study, name: str, recipe: Recipe, target: Path) -> None:
    """The best trial's numbers as a recipe file.

    Raises:
        ParameterError: there is such a file, or no trial was finished.
    """
    refuse_to_overwrite(target)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ParameterError(f"No trial of {name} was finished, so there is no winner to write.")
    best = study.best_trial
    content = changed(recipe, best.params).model_dump(exclude={"search"} if recipe.teacher else {"search", "teacher"})
    source = f"Seamline, recipes/{name}.yaml tuned: the best of {len(study.trials)} trials, {best.value:.2%} validation"
    content |= {"source": source, "published": {"train": None, "test": None}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    write_text(target, f"# Trial {best.number} of `make tune RECIPE={name}`.\n{text}")
    recipes.load(target)


def refuse_to_overwrite(target: Path) -> None:
    if target.exists():
        raise ParameterError(f"{target} is there, and is not overwritten. Choose another name.")


def importance(study: optuna.Study) -> dict[str, float]:
    """How much each number decides, shares that sum to 1; nothing as long as there are too few trials.

    PED-ANOVA: https://arxiv.org/abs/2304.10255.
    """
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}


def settings_of(root: Path, most_epochs: int) -> Experiments:
    """The experiments' numbers, with fewer epochs."""
    return params.load(root / "params.yaml").experiments.model_copy(update={"most_epochs": most_epochs})


def next_trials(study: optuna.Study, recipe: Recipe, settings: Experiments, wanted: int) -> list[FrozenTrial]:
    """As many as run at a time: those that a kill interrupted, then new ones until all that are wanted are begun."""
    begun = unfinished(study)[: settings.at_once]
    free = min(settings.at_once - len(begun), wanted - len(study.get_trials(deepcopy=False)))
    return [*begun, *(ask(study, recipe, settings.seed) for _ in range(free))]


def standing(study: optuna.Study, wanted: int) -> str:
    """How far the search is, in a line."""
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = f", best {study.best_value:.2%} (trial {study.best_trial.number})" if finished else ""
    return f"{len(trials)} of {max(wanted, len(trials))} trials begun, {len(finished)} trained to the end{best}"
