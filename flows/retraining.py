"""The flow `retraining`: new data → the stages of dvc.yaml → challenge → release → a record that people can read.

    python -m flows.retraining             # once, now
    python -m flows.retraining --serve     # as prefect.yaml schedules it, by this process, without a pool

An OS lock (tasks/writer.py) decides who may write, whatever Prefect believes: a tick that finds it taken ends as
Skipped, and so does one that another run was done for. The model that serves changes by `release` alone.
"""

import argparse
import os
import sys
import time
from typing import Any

from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from rich.console import Console

from flows import automations, deployments, life, outcomes, reconciliation, shown, stages, temporary, training
from flows.ending import exit_on_sigterm
from flows.refusals import refused
from tasks import runs, runs_page
from tasks.challenge import REFUSED, SAME
from tasks.errors import BusyError, worded
from tasks.files import read_json
from tasks.runs import Record
from tasks.writer import one_writer

# What the two commands read and write, from the project's folder.
VERDICT, PAGE = "data/challenge.json", "data/challenge.md"
CHALLENGE = f"exports/releases data/normalised exports/bundle data/reports/metrics.json {VERDICT} {PAGE}"
RELEASE = f"exports/releases exports/bundle {VERDICT} data/release.json"
STEP_TIMEOUT_S = 30 * 60
WAIT_S = 3.0  # for another writer: who clears up holds the lock for less than that


@flow(name=reconciliation.FLOW, persist_result=False)
def retraining() -> State:
    """Retrain if anything is new, and let the result serve if it is no worse; ends in the state of its outcome."""
    run = _current()
    record = runs.new(str(run.id), reconciliation.started_by(run), reconciliation.due(run))
    try:
        with one_writer(stages.ROOT, f"retraining {record.id}, {record.started_by}", wait_s=WAIT_S) as lock:
            reconciliation.after_a_kill(stages.ROOT, record.flow_run)
            earlier = runs.read_all(stages.ROOT)[0]
            if done := runs.covering(earlier, record.due, asked=not reconciliation.by_schedule(run)):
                ended = _skipped(record, f"due before the run of {done.began[:19]} UTC ended, and done by it")
            else:
                reconciliation.skip_backlog(stages.ROOT, record, run.deployment_id)
                ended = _recorded(record, lock)
                reconciliation.skip_backlog(stages.ROOT, record, run.deployment_id)
    except BusyError as error:
        ended = _skipped(record, str(error))
    except OSError as error:  # a full disk, which has no room for a record either
        return refused(worded(error))
    get_run_logger().info("%s: %s", ended.outcome, ended.reason)
    return outcomes.state(ended)


def _current() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("Expected to be called in a flow run. Received none.")
    return context.flow_run


def _skipped(record: Record, reason: str) -> Record:
    ended = runs.ended(record, "skipped", reason, serving=runs.serving(stages.ROOT))
    runs.write(stages.ROOT, ended)
    runs_page.show(stages.ROOT, ended)
    return ended


def _recorded(record: Record, lock: int) -> Record:
    """Retrain, with a record from the first moment to the last, whatever ends it."""
    runs.write(stages.ROOT, record)
    try:
        ended = retrain(record, lock)
    except BaseException as error:  # a bug, Ctrl-C, a time-out: all but a kill, which the next run notices
        _finish(runs.ended(record, "failed", _how(error), serving=runs.serving(stages.ROOT)))
        raise
    _finish(ended)
    return ended


def _how(error: BaseException) -> str:
    """The reason of a run that ended otherwise than by a verdict or a stage's failure."""
    if isinstance(error, TerminationSignal | KeyboardInterrupt):
        return "ended by a person or by the system before it was done; the next run goes on from there"
    return f"{type(error).__name__}: {error}"


def _finish(ended: Record) -> None:
    runs.keep(stages.ROOT, ended)
    runs.write(stages.ROOT, ended)
    page = runs_page.show(stages.ROOT, ended)
    shown.artifact("retraining", runs_page.markdown(ended), f"What became of it; {page.relative_to(stages.ROOT)}")


def retrain(record: Record, lock: int) -> Record:
    """Walk the stages, let the result challenge the model that serves, release it if it is no worse."""
    for left in (VERDICT, PAGE):  # by an earlier run: not this one's
        (stages.ROOT / left).unlink(missing_ok=True)
    with stages.Dvc(lock=lock) as dvc:
        walked = training.walk(dvc)
    seconds, measured = dict(walked.seconds), walked.stage in {"", *training.WORTH_A_REPORT}
    figures = runs.figures(stages.ROOT, trained="train" in walked.ran) if measured else None
    own = runs.own_seconds(stages.ROOT, record.began)
    found = {"ran": walked.ran, "seconds": seconds, "own_seconds": own, "figures": figures}
    if walked.reason:
        return _not_passed(record, outcomes.of_failure(walked.stage, walked.reason), walked.reason, found)
    state = _step("challenge", CHALLENGE, lock, seconds)
    verdict = _verdict()
    if not state.is_completed():
        outcome: runs.Outcome = "refused" if verdict == REFUSED else "failed"
        return _not_passed(record, outcome, outcomes.why("challenge", state), found)
    state, serving = _step("release", RELEASE, lock, seconds), runs.serving(stages.ROOT)
    if not state.is_completed():
        return runs.ended(record, "failed", outcomes.why("release", state), serving=serving, **found)
    if verdict == SAME and not runs.untold(runs.read_all(stages.ROOT)[0], serving):  # release has seen to what was left
        return runs.ended(record, "unchanged", f"nothing new: {serving} serves on", serving=serving, **found)
    return runs.ended(record, "released", f"{serving} serves", serving=serving, **found)


def _not_passed(record: Record, outcome: runs.Outcome, reason: str, found: dict[str, Any]) -> Record:
    """Refused or failed; but a refusal that was told of before, with nothing new since, calls nobody again."""
    if outcome == "refused" and not found["ran"] and runs.refused_before(runs.read_all(stages.ROOT)[0], reason):
        outcome, reason = "unchanged", runs.STILL + reason
    return runs.ended(record, outcome, reason, serving=runs.serving(stages.ROOT), **found)


def _step(name: str, paths: str, lock: int, seconds: dict[str, float]) -> State:
    start = time.monotonic()
    state = step_task(name)(name, paths, lock, return_state=True)
    seconds[name] = round(time.monotonic() - start, 2)
    return state


def step_task(name: str) -> Task[[str, str, int], State | None]:
    """The task that runs one of the two commands."""
    return run_step.with_options(name=name, task_run_name=name, timeout_seconds=STEP_TIMEOUT_S)


@task(cache_policy=NO_CACHE, persist_result=False)
def run_step(name: str, paths: str, lock: int) -> State | None:
    """`python -m tasks NAME PATHS`: its lines are the log, a refusal is the state."""
    logger = get_run_logger()
    try:
        for line in stages.run(name, [sys.executable, "-m", "tasks", name, *paths.split()], lock=lock):
            logger.info(line)
    except stages.StageFailedError as error:
        return refused(str(error))
    finally:
        page = stages.ROOT / f"data/{name}.md"
        if page.is_file():
            shown.artifact(name, page.read_text(encoding="utf-8"), f"What {name} found")
    return None


def _verdict() -> str:
    file = stages.ROOT / VERDICT
    return str(read_json(file).get("verdict")) if file.is_file() else ""


def main(arguments: list[str]) -> int:
    """Run the flow, or serve it; the exit status."""
    exit_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m flows.retraining", description=__doc__.splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="run it as prefect.yaml schedules it, until Ctrl-C")
    serve, console = parser.parse_args(arguments).serve, Console()
    address = os.environ.get(automations.ADDRESS, "") if serve else ""
    wrong = automations.unusable(address) or training.unreachable()
    if wrong:
        console.print(wrong, highlight=False, soft_wrap=True, markup=False)
        return 1
    if serve:
        automations.bring_up(address, ends_dead=False)  # the sweep does
        reconciliation.clear_up(stages.ROOT)
        with temporary.server(), reconciliation.sweeping(stages.ROOT, deployments.pool()):
            return deployments.serve(retraining)
    with life.shown():
        state = retraining(return_state=True)
    console.print(f"{state.name}. {state.message}", highlight=False, soft_wrap=True, markup=False)
    return 1 if state.is_failed() or state.is_crashed() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
