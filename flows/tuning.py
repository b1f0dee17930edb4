"""The flow `tuning`: Optuna looks for better numbers within the search that a recipe names.

python -m flows.tuning tuned_two_conv --trials 30 --write mine      # what `make tune RECIPE=…` calls

Run it again to go on: finished trials are kept, trials that a kill interrupted are ended first.
"""

import argparse
import sys
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from flows import stages, trials
from tasks import params, recipes, tuning_page
from tasks import tuning as work
from tasks.errors import ParameterError, PipelineError
from tasks.params import Experiments

FOLDER = Path("data/experiments")


def place(recipe: str, *, quick: bool) -> Path:
    """The page of a recipe's tuning; its trials stand beside it."""
    return FOLDER / f"tuning{'-quick' if quick else ''}" / recipe / "index.html"


@flow(name="tuning", persist_result=False)
def tuning(recipe: str, wanted: int, most_epochs: int, page: str) -> State | None:
    """As many trials as wanted, those of earlier runs included; the table and the page also when some failed."""
    root, target = stages.ROOT, stages.ROOT / page
    numbers, settings = recipes.load(root / f"recipes/{recipe}.yaml"), work.settings_of(root, most_epochs)
    folder = target.parent
    study = work.open_study(work.storage(folder), study_name(page), settings.seed)
    failures: dict[str, str] = {}
    while batch := work.next_trials(study, numbers, settings, wanted):
        folders = {
            work.lay_out(settings, numbers, root / "data/normalised", folder, study, trial): trial.number
            for trial in batch
        }
        failures |= trials.run({path: f"trial {number}" for path, number in folders.items()}, settings)
        for path, number in folders.items():
            work.tell(study, number, path)
        get_run_logger().info("%s", work.standing(study, wanted))
        table = tuning_page.show(study, recipe, target, failures)
    table = tuning_page.show(study, recipe, target, failures)
    create_markdown_artifact(key="tuning", markdown=table.markdown(), description=f"What was tried of {recipe}")
    return trials.failed(failures)


def study_name(page: str) -> str:
    """The name of a study: where its page is, without what all have in common."""
    return "/".join(Path(page).parent.parts[-2:])


def main(arguments: list[str]) -> int:
    """Run the flow and print its table; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", metavar="RECIPE", help="a file of recipes/, without its ending, that has a search")
    parser.add_argument("--trials", type=int, metavar="N", help="how many in all (experiments.trials of params.yaml)")
    parser.add_argument("--write", metavar="NAME", help="write the winner to recipes/NAME.yaml")
    parser.add_argument("--quick", action="store_true", help=f"at most {trials.QUICK_EPOCHS} epochs of each")
    chosen = parser.parse_args(arguments)
    page = place(chosen.recipe, quick=chosen.quick)
    target = stages.ROOT / f"recipes/{chosen.write}.yaml"
    try:
        settings, recipe = check(chosen.recipe, page)
        if chosen.write:
            work.refuse_to_overwrite(target)
        runner = trials.task_runner(settings)
    except PipelineError as error:
        return trials.refuse("tuning", error)
    epochs = trials.QUICK_EPOCHS if chosen.quick else settings.most_epochs
    wanted = settings.trials if chosen.trials is None else chosen.trials
    state = tuning.with_options(task_runner=runner)(chosen.recipe, wanted, epochs, str(page), return_state=True)
    status = trials.finish(state, page, ("trial", "validation accuracy", "epochs", *sorted(recipe.search)))
    if chosen.write:
        try:
            study = work.open_study(work.storage((stages.ROOT / page).parent), study_name(str(page)), settings.seed)
            work.write_winner(study, chosen.recipe, recipe, target)
        except PipelineError as error:
            return trials.refuse("tuning", error)
        print(f"Winner: recipes/{chosen.write}.yaml. Train it: dvc exp run -S train.recipe={chosen.write}")
    return status


def check(name: str, page: Path) -> tuple[Experiments, recipes.Recipe]:
    """Refuse, before anything is trained, what cannot be tuned or kept."""
    settings = params.load(stages.ROOT / "params.yaml").experiments
    recipe = recipes.load(stages.ROOT / f"recipes/{name}.yaml")
    try:
        work.distributions(recipe)
    except ParameterError as error:
        raise ParameterError(f"recipes/{name}.yaml: {error}") from error
    folder = (stages.ROOT / page).parent
    folder.mkdir(parents=True, exist_ok=True)
    work.open_study(work.storage(folder), study_name(str(page)), settings.seed)
    return settings, recipe


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
