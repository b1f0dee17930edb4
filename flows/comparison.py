"""The flow `comparison`: train every recipe alike, and show which is worth its time.

python -m flows.comparison                   # what `make compare` calls; --quick for a few epochs of each
python -m flows.comparison swift --seeds 5   # how much one recipe's results differ from seed to seed
"""

import argparse
import sys
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from flows import life, stages, trials
from flows.ending import exit_on_sigterm
from tasks import comparison as work
from tasks import params, recipes
from tasks.errors import PipelineError

PAGE, QUICK_PAGE = (Path(f"data/experiments/{name}/index.html") for name in ("comparison", "comparison-quick"))

COLUMNS = ("recipe", "seeds", "published test", "test", "parameters", "training (s)", "latency (µs)")


@flow(name="comparison", persist_result=False)
def comparison(most_epochs: int, page: str, names: list[str] | None = None, seeds: int = 1) -> State | None:
    """A trial for each seed of each recipe (all, if none is named); the table and the page also when some failed."""
    root, target = stages.ROOT, stages.ROOT / page
    settings = params.load(root / "params.yaml").experiments.model_copy(update={"most_epochs": most_epochs})
    chosen = names or recipes.names(root / "recipes")
    folders = work.lay_out(settings, chosen, root / "recipes", root / "data/normalised", target.parent, seeds)
    labels = {path: name if seeds == 1 else f"{name}, {path.name}" for name, paths in folders.items() for path in paths}
    failures = trials.run(labels, settings)
    table = work.show(folders, root / "recipes", target, failures)
    create_markdown_artifact(key="comparison", markdown=table.markdown(), description="Every recipe, trained alike")
    return trials.failed(failures)


def main(arguments: list[str]) -> int:
    """Run the flow and print its table; the exit status."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m flows.comparison", description=__doc__.splitlines()[0])
    parser.add_argument(
        "recipes", nargs="*", metavar="RECIPE", help="files of recipes/, without their ending; else all"
    )
    parser.add_argument("--seeds", type=trials.count, default=1, metavar="N", help="train each N times")
    parser.add_argument("--quick", action="store_true", help=f"at most {trials.QUICK_EPOCHS} epochs of each recipe")
    chosen = parser.parse_args(arguments)
    try:
        settings = params.load(stages.ROOT / "params.yaml").experiments
        recipes.load_all(stages.ROOT / "recipes")  # before anything is trained
        for name in chosen.recipes:
            recipes.load(stages.ROOT / f"recipes/{name}.yaml")
        runner = trials.task_runner(settings)
    except PipelineError as error:
        return trials.refuse("comparison", error)
    epochs, page = (trials.QUICK_EPOCHS, QUICK_PAGE) if chosen.quick else (settings.most_epochs, PAGE)
    with life.shown():
        state = comparison.with_options(task_runner=runner)(
            epochs, str(page), chosen.recipes, chosen.seeds, return_state=True
        )
    return trials.finish(state, page, COLUMNS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
