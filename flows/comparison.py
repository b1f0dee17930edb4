"""The flow `comparison`: train every recipe alike, and show which is worth its time.

python -m flows.comparison            # what `make compare` calls; --quick for a few epochs of each
"""

import argparse
import sys
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from flows import stages, trials
from flows.ending import exit_on_sigterm
from tasks import comparison as work
from tasks import params, recipes
from tasks.errors import PipelineError

PAGE, QUICK_PAGE = (Path(f"data/experiments/{name}/index.html") for name in ("comparison", "comparison-quick"))

COLUMNS = ("recipe", "published test", "test", "parameters", "training (s)", "latency (µs)")


@flow(name="comparison", persist_result=False)
def comparison(most_epochs: int, page: str) -> State | None:
    """A trial for each recipe; the table and the page also when some failed."""
    root, target = stages.ROOT, stages.ROOT / page
    settings = params.load(root / "params.yaml").experiments.model_copy(update={"most_epochs": most_epochs})
    folders = work.lay_out(settings, root / "recipes", root / "data/normalised", target.parent)
    failures = trials.run({folder: folder.name for folder in folders}, settings)
    table = work.show(folders, root / "recipes", target, failures)
    create_markdown_artifact(key="comparison", markdown=table.markdown(), description="Every recipe, trained alike")
    return trials.failed(failures)


def main(arguments: list[str]) -> int:
    """Run the flow and print its table; the exit status."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m flows.comparison", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"at most {trials.QUICK_EPOCHS} epochs of each recipe")
    quick = parser.parse_args(arguments).quick
    try:
        settings = params.load(stages.ROOT / "params.yaml").experiments
        recipes.load_all(stages.ROOT / "recipes")  # before anything is trained
        runner = trials.task_runner(settings)
    except PipelineError as error:
        return trials.refuse("comparison", error)
    epochs, page = (trials.QUICK_EPOCHS, QUICK_PAGE) if quick else (settings.most_epochs, PAGE)
    state = comparison.with_options(task_runner=runner)(epochs, str(page), return_state=True)
    return trials.finish(state, page, COLUMNS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
