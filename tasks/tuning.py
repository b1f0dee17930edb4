"""Numbers chosen by Optuna within the search that a recipe names; each try is a trial. flows/tuning.py runs it.

Validation images decide; the test images take no part. A study's name has a digest of all that its trials depend on:
who changes recipe, search, data or seed begins another one.
"""

from pathlib import Path
from typing import NamedTuple

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from tasks import experiment, recipes, splits, studies
from tasks.errors import ParameterError
from tasks.experiment import RESULT, Study, Trial
from tasks.files import digest_json, read_json, write_text
from tasks.params import Experiments
from tasks.recipes import Recipe
from tasks.search import changed, distributions


class Tuning(NamedTuple):
    """What is tuned, and where."""

    name: str  # of the recipe
    recipe: Recipe
    settings: Experiments
    normalised: Path
    folder: Path  # of the page; the trials stand in one of its own for each study

    @property
    def key(self) -> str:
        """Digest of all that the trials depend on."""
        numbers = [self.settings.most_epochs, self.settings.seed]
        stats = read_json(self.normalised / splits.STATS)
        search = {name: str(space) for name, space in distributions(self.recipe).items()}
        return digest_json([recipes.described(self.recipe), search, numbers, stats])[:12]

    def open(self) -> optuna.Study:
        """The study.

        Raises:
            ParameterError: the recipe cannot be tuned, or the storage does not answer.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.name} {self.key}"
        return studies.open_study(studies.storage(self.folder), name, self.settings.seed)


def next_trials(tuning: Tuning, study: optuna.Study, wanted: int) -> list[FrozenTrial]:
    """As many as run at a time: those that a kill interrupted, then new ones until all that are wanted are begun."""
    for trial in studies.unfinished(study):
        if set(trial.params) != set(tuning.recipe.search):  # killed while it was drawn
            study.tell(trial.number, state=TrialState.FAIL)
    begun = studies.unfinished(study)[: tuning.settings.at_once]
    free = min(tuning.settings.at_once - len(begun), wanted - len(study.get_trials(deepcopy=False)))
    return [*begun, *(ask(tuning, study) for _ in range(free))]


def ask(tuning: Tuning, study: optuna.Study) -> FrozenTrial:
    """A new trial. The draw depends on the seed and on the trials before it, not on when the run was begun."""
    study.sampler = studies.sampler(tuning.settings.seed + len(study.get_trials(deepcopy=False)))
    asked = study.ask(distributions(tuning.recipe))
    return study.get_trials(deepcopy=False)[asked.number]


def lay_out(tuning: Tuning, study: optuna.Study, trial: FrozenTrial) -> Path:
    """What is to be trained, in a folder of its own, which is returned."""
    settings = tuning.settings
    return experiment.lay_out(
        tuning.folder / tuning.key / f"trial-{trial.number:04}",
        Trial(
            name=f"trial {trial.number}",
            recipe=recipes.shortened(changed(tuning.recipe, trial.params), settings.most_epochs),
            normalised=str(tuning.normalised),
            fold=None,
            folds=settings.folds,
            test=False,
            seed=settings.seed,
            precision="auto",
            study=Study(folder=str(tuning.folder), name=study.study_name, number=trial.number),
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


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that were trained to the end."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def standing(study: optuna.Study, wanted: int) -> str:
    """How far the search is, in a line."""
    begun, done = len(study.get_trials(deepcopy=False)), len(finished(study))
    best = f", best {study.best_value:.2%} (trial {study.best_trial.number})" if done else ""
    return f"{begun} of {max(wanted, begun)} trials begun, {done} trained to the end{best}"


def refuse_to_overwrite(target: Path) -> None:
    if target.exists():
        raise ParameterError(f"{target} is there, and is not overwritten. Choose another name.")


def write_winner(tuning: Tuning, study: optuna.Study, target: Path) -> None:
    """The best trial's numbers as a recipe file.

    Raises:
        ParameterError: there is such a file, or no trial was finished.
    """
    refuse_to_overwrite(target)
    if not finished(study):
        raise ParameterError(f"No trial of {tuning.name} was finished, so there is no winner to write.")
    best, count = study.best_trial, len(study.get_trials(deepcopy=False))
    winner = recipes.shortened(changed(tuning.recipe, best.params), tuning.settings.most_epochs)
    content = winner.model_dump(exclude={"search"} if winner.teacher else {"search", "teacher"})
    source = f"Seamline, recipes/{tuning.name}.yaml tuned: the best of {count} trials, {best.value:.2%} validation"
    content |= {"source": source, "published": {"train": None, "test": None}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    write_text(target, f"# Trial {best.number} of `make tune RECIPE={tuning.name}`.\n{text}")
    recipes.load(target)
