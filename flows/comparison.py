"""The flow `comparison`: train every recipe alike, and show which is worth its time.

python -m flows.comparison            # what `make compare` calls; --quick for a few epochs of each
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Failed
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows import stages, trials
from tasks import comparison as work
from tasks import experiment, params
from tasks.errors import PipelineError

QUICK_EPOCHS = 2


@flow(name="comparison", persist_result=False)
def comparison(quick: bool = False) -> State | None:  # noqa: FBT001, FBT002  # a parameter of the deployment
    """A trial for each recipe; the table and the page also when some failed."""
    root = stages.ROOT
    settings = params.load(root / "params.yaml").experiments
    folder = root / "data/experiments" / ("comparison-quick" if quick else "comparison")
    if quick:
        settings = settings.model_copy(update={"most_epochs": QUICK_EPOCHS})
    try:
        folders = work.lay_out(settings, root / "recipes", root / "data/normalised", folder)
    except PipelineError as error:
        return Failed(message=str(error))
    failures = trials.run(folders, settings)
    table = work.show(folders, root / "recipes", folder / "index.html", failures)
    create_markdown_artifact(key="comparison", markdown=table.markdown(), description="Every recipe, trained alike")
    return Failed(message="; ".join(f"{name}: {reason}" for name, reason in failures.items())) if failures else None


def main(arguments: list[str]) -> int:
    """Run the flow and print its table; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.comparison", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_EPOCHS} epochs of each recipe")
    quick = parser.parse_args(arguments).quick
    console = Console()
    try:
        settings = params.load(stages.ROOT / "params.yaml").experiments
        runner = trials.task_runner(settings)
    except PipelineError as error:
        console.print(f"comparison: {error}", highlight=False, soft_wrap=True)
        return 1
    state = comparison.with_options(task_runner=runner)(quick, return_state=True)
    page = Path("data/experiments") / ("comparison-quick" if quick else "comparison") / "index.html"
    results = sorted(experiment.results(sorted((stages.ROOT / page.parent).iterdir())), key=_accuracy, reverse=True)
    shown = Table("recipe", "test", "parameters", "training (s)", "latency (µs)", title="Recipes", title_justify="left")
    for result in results:
        cells = (f"{result['parameters']:,}", f"{result['seconds']:.0f}", f"{result['latency_us']:.0f}")
        shown.add_row(result["name"], f"{_accuracy(result):.2%}", *cells)
    console.print(shown, f"Page: {page}", sep="\n")
    if not state.is_completed():
        console.print(f"[bold red]Not finished.[/] {escape(state.message or '')}", highlight=False, soft_wrap=True)
        return 1
    return 0


def _accuracy(result: dict[str, Any]) -> float:
    return float(result["test"]["accuracy"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
