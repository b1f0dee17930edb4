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

from flows import life, stages, trials
from flows.ending import exit_on_sigterm
from flows.refusals import refused
from tasks import files, params, recipes, search, studies, tuning_page
from tasks import tuning as work
from tasks.errors import ParameterError, PipelineError
from tasks.tuning import Tuning


@flow(name="tuning", persist_result=False)
def tuning(recipe: str, trials_wanted: int, most_epochs: int) -> State | None:
    """As many trials as wanted, those of earlier runs included; the table and the page also when some failed."""
    what, failures = described(recipe, most_epochs), dict[str, str]()
    target = stages.ROOT / page(what)
    try:
        with studies.answering():
            study = what.open()
            while batch := work.next_trials(what, study, trials_wanted):
                folders = {work.lay_out(what, study, trial): trial.number for trial in batch}
                failures |= trials.run({path: f"trial {number}" for path, number in folders.items()}, what.settings)
                for path, number in folders.items():
                    work.tell(study, number, path)
                get_run_logger().info("%s", work.standing(study, trials_wanted))
                tuning_page.show(what, study, target, failures)
            table = tuning_page.show(what, study, target, failures)
    except PipelineError as error:
        return refused(str(error))
    create_markdown_artifact(key="tuning", markdown=table.markdown(), description=f"What was tried of {recipe}")
    return trials.failed(failures)


def described(recipe: str, most_epochs: int) -> Tuning:
    """What is tuned, and where its page and its trials are.

    Raises:
        ParameterError: there is no such recipe, or it cannot be tuned.
    """
    settings = params.load(stages.ROOT / "params.yaml").experiments
    kind = "tuning-quick" if most_epochs == trials.QUICK_EPOCHS else "tuning"
    found = Tuning(
        recipe,
        recipes.load(stages.ROOT / f"recipes/{recipe}.yaml"),
        settings.model_copy(update={"most_epochs": most_epochs}),
        stages.ROOT / "data/normalised",
        stages.ROOT / "data/experiments" / kind / recipe,
    )
    try:
        search.distributions(found.recipe)
    except ParameterError as error:
        raise ParameterError(f"recipes/{recipe}.yaml: {error}") from error
    return found


def page(what: Tuning) -> Path:
    """Where the page of a tuning is, in the project's folder."""
    return (what.folder / "index.html").relative_to(stages.ROOT)


def main(arguments: list[str]) -> int:
    """Run the flow and print its table; the exit status."""
    exit_on_sigterm()
    chosen = _parser().parse_args(arguments)
    winner = stages.ROOT / f"recipes/{chosen.write}.yaml"
    try:
        settings = params.load(stages.ROOT / "params.yaml").experiments
        what = described(chosen.recipe, trials.QUICK_EPOCHS if chosen.quick else settings.most_epochs)
        if chosen.write:
            work.refuse_to_overwrite(winner)
        runner = trials.task_runner(settings)
        with (
            life.shown(),
            files.lock(what.folder, wait=False),
        ):  # first: whoever tunes there may have its storage locked
            what.open()
            flow_run = tuning.with_options(task_runner=runner)
            wanted, epochs = chosen.trials or settings.trials, what.settings.most_epochs
            state = flow_run(chosen.recipe, wanted, epochs, return_state=True)
            status = trials.finish(
                state, page(what), ("trial", "validation accuracy", "epochs", *sorted(what.recipe.search))
            )
            if chosen.write:
                work.write_winner(what, what.open(), winner)
                print(f"Winner: recipes/{chosen.write}.yaml. Train it: dvc exp run -S train.recipe={chosen.write}")
    except PipelineError as error:
        return trials.refuse("tuning", error)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", metavar="RECIPE", help="a file of recipes/, without its ending, that has a search")
    parser.add_argument(
        "--trials", type=trials.count, metavar="N", help="how many in all (experiments.trials of params.yaml)"
    )
    parser.add_argument("--write", metavar="NAME", help="write the winner to recipes/NAME.yaml")
    parser.add_argument("--quick", action="store_true", help=f"at most {trials.QUICK_EPOCHS} epochs of each")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
