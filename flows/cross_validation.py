"""The flow `cross-validation`: hold out each fold of the training images in turn, and show how results scatter.

python -m flows.cross_validation baseline swift      # what `make folds RECIPES=…` calls; no name: train.recipe
"""

import argparse
import sys
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from flows import life, stages, trials
from flows.ending import exit_on_sigterm
from tasks import cross_validation as work
from tasks import params, recipes
from tasks.errors import PipelineError

PAGE, QUICK_PAGE = (
    Path(f"data/experiments/{name}/index.html") for name in ("cross-validation", "cross-validation-quick")
)


@flow(name="cross-validation", persist_result=False)
def cross_validation(names: list[str], most_epochs: int, page: str) -> State | None:
    """A trial for each fold of each recipe; the table and the page also when some failed."""
    root, target = stages.ROOT, stages.ROOT / page
    settings = params.load(root / "params.yaml").experiments.model_copy(update={"most_epochs": most_epochs})
    folders = work.lay_out(settings, names, root / "recipes", root / "data/normalised", target.parent)
    failures = trials.run({path: f"{name}, {path.name}" for name, paths in folders.items() for path in paths}, settings)
    table = work.show(folders, target, failures)
    create_markdown_artifact(key="cross-validation", markdown=table.markdown(), description="How much folds differ")
    return trials.failed(failures)


def main(arguments: list[str]) -> int:
    """Run the flow and print its table; the exit status."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m flows.cross_validation", description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="files of recipes/, without their ending")
    parser.add_argument("--quick", action="store_true", help=f"at most {trials.QUICK_EPOCHS} epochs of each")
    chosen = parser.parse_args(arguments)
    try:
        numbers = params.load(stages.ROOT / "params.yaml")
        names = chosen.recipes or [numbers.train.recipe]
        for name in names:  # before anything is trained
            recipes.load(stages.ROOT / f"recipes/{name}.yaml")
        runner = trials.task_runner(numbers.experiments)
    except PipelineError as error:
        return trials.refuse("cross-validation", error)
    epochs, page = (trials.QUICK_EPOCHS, QUICK_PAGE) if chosen.quick else (numbers.experiments.most_epochs, PAGE)
    with life.shown():
        state = cross_validation.with_options(task_runner=runner)(names, epochs, str(page), return_state=True)
    return trials.finish(state, page, work.HEADINGS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
