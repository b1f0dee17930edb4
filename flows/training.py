"""The flow `training`: walk dvc.yaml, one Prefect task run per stage, named like it.

    python -m flows.training          # what `make run` calls

The chain is dvc.yaml's; here is only policy: who may be tried again, how long a stage may take, what is shown.
Prefect's own caching is off, because DVC knows what is up to date.
"""

import sys
import time
from datetime import timedelta
from typing import NamedTuple

import requests
from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import task_run
from prefect.settings import get_current_settings
from rich.console import Console
from rich.markup import escape

from flows import life, outcomes, shown, stages, summary
from flows.ending import exit_on_sigterm
from flows.refusals import refused
from tasks.errors import BusyError
from tasks.writer import WAIT_S, one_writer

RETRIES = {"ingest": 1}  # it alone has a network; its own requests are repeated, too
RETRY_DELAY_S = 10
TIMEOUT = timedelta(minutes=15)
TIMEOUTS = {"admit": timedelta(hours=4), "train": timedelta(hours=6)}  # 100,000 new pictures: 70 min if it is quiet
WORTH_A_REPORT = {"gate", "export"}  # when these refuse, everything before them is there to be looked at
REPORT = "report"
ANSWER_WITHIN_S = 10


class Walked(NamedTuple):
    """What became of a walk of dvc.yaml."""

    ran: list[str]  # the stages that were not up to date
    seconds: dict[str, float]  # of every stage that was looked at
    stage: str  # that failed; "" if none did
    reason: str  # why; "" likewise


@flow(name="training", persist_result=False)
def training() -> State | None:
    """Bring every stage up to date, in order; a stage that fails ends the run, with its own last line as the reason."""
    try:
        with one_writer(stages.ROOT, "make run", wait_s=WAIT_S) as lock, stages.Dvc(lock=lock) as dvc:
            walked = walk(dvc)
    except BusyError as error:
        return refused(str(error))
    if walked.reason:
        return refused(walked.reason)
    shown.artifact("result", summary.markdown(stages.ROOT), "What came out")
    return None


def walk(dvc: stages.Dvc) -> Walked:
    """Bring every stage up to date, in the order of dvc.yaml, until one fails."""
    seconds: dict[str, float] = {}
    for name in stages.names():
        start = time.monotonic()
        state = stage_task(name)(name, dvc, return_state=True)
        seconds[name] = round(time.monotonic() - start, 2)
        if not state.is_completed():
            if name in WORTH_A_REPORT:
                report_refusal()
            return Walked(dvc.ran, seconds, name, outcomes.why(name, state))
    return Walked(dvc.ran, seconds, "", "")


def stage_task(name: str) -> Task[[str, stages.Dvc], State | None]:
    """The task that brings a stage up to date."""
    return bring_up_to_date.with_options(
        name=name,
        task_run_name=name,
        retries=RETRIES.get(name, 0),
        retry_delay_seconds=RETRY_DELAY_S,
        timeout_seconds=TIMEOUTS.get(name, TIMEOUT).total_seconds(),
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def bring_up_to_date(name: str, dvc: stages.Dvc) -> State | None:
    """Run a stage if anything it depends on has changed; show what it has to say.

    A refusal is returned as a state, which spares the log a traceback of ours; Prefect tries again only what raises.
    """
    logger = get_run_logger()
    try:
        for line in dvc.reproduce(name):
            logger.info(line)
    except stages.StageFailedError as error:
        if task_run.run_count <= RETRIES.get(name, 0):
            raise
        return refused(str(error))
    finally:
        _show(name)
    return None


def report_refusal() -> None:
    """Write the report of a refused run; a report that fails must not hide the refusal."""
    logger = get_run_logger()
    try:
        for line in stages.run_unrecorded(REPORT):
            logger.info(line)
    except stages.StageFailedError as error:
        logger.warning("No report of the refusal: %s", error)


def _show(name: str) -> None:
    page = stages.ROOT / "data/reports" / f"{name}.md"
    if page.is_file():
        shown.artifact(name, page.read_text(encoding="utf-8"), f"Stage {name}")


def unreachable() -> str:
    """What to do if the server that is to be told does not answer; "" if it does, or none is named."""
    address = get_current_settings().api.url
    try:
        if address:
            requests.get(f"{address}/health", timeout=ANSWER_WITHIN_S).raise_for_status()
    except requests.RequestException:
        return (
            f"No Prefect server answers at {address}, which PREFECT_API_URL or Prefect's profile names. Start it "
            "(prefect server start), or do without: env -u PREFECT_API_URL PREFECT_PROFILE=ephemeral make run"
        )
    return ""


def main() -> int:
    """Run the flow and print what came out; the exit status."""
    exit_on_sigterm()
    console = Console()
    silent = unreachable()
    if silent:
        console.print(silent, highlight=False, soft_wrap=True, markup=False)
        return 1
    try:
        with life.shown():
            state = training(return_state=True)
    except KeyboardInterrupt:
        console.print("Interrupted. The next run goes on where this one stood; training after its last whole epoch.")
        return 130
    if not state.is_completed():
        console.print(f"[bold red]Not finished.[/] {escape(state.message or '')}", highlight=False, soft_wrap=True)
        return 1
    console.print(summary.table(stages.ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
