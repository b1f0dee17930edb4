"""What Prefect believes, brought in line with what is true: after kills, after downtime, before and after a run.

The records under data/runs are written by the run itself and decide. The lock of tasks/writer.py says whether a record
without an end belongs to a run at work. Prefect is told with its own rules on: a state that is final stays.
"""

import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Crashed, Scheduled

from flows import deployments, life, outcomes
from flows.kept import marked
from flows.shown import AWAY
from tasks import runs, runs_page
from tasks.errors import BusyError
from tasks.runs import Record
from tasks.writer import one_writer

FLOW = "retraining"
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
KILLED = "killed: it ended without a word. The next run goes on from there."
AGAIN = "planned again"  # a tag
SWEEP_S = 15.0  # between two; with GRACE: what was killed has its final state in 75 s
GRACE = timedelta(seconds=60)  # between a claim or an end and what follows it at once
MOST = 200  # flow runs that Prefect gives at a time

logger = logging.getLogger("prefect.flow_runs")


def after_a_kill(root: Path, own: str) -> None:
    """Close what killed runs left open. Only for who holds the lock: then none of them can be at work."""
    crashed = {record.flow_run for record in close_records(root)}
    with _telling() as client:
        for run in _runs_under_way(client, FLOW):
            if str(run.id) != own:
                _tell(client, root, run, sure=str(run.id) in crashed)


def close_records(root: Path) -> list[Record]:
    """End the records without an end; those that were."""
    records, _ = runs.read_all(root)
    serving = runs.serving(root)
    closed = [runs.ended(record, "crashed", KILLED, serving=serving) for record in records if not record.ended]
    for record in closed:
        runs.write(root, record)
    if closed:
        runs_page.show(root, *closed)
    return closed


def skip_backlog(root: Path, instead: Record, deployment: UUID | None) -> None:
    """Every other run of a deployment that is due by now ends as Skipped: this one is done in their place.

    Not one that a person asked for since it began: what they brought came too late for it.
    """
    if deployment:
        with _telling() as client:
            late = _due(client, DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))
            late = [run for run in late if by_schedule(run) or due(run) < instead.began]
            _skip(client, root, late, f"due while {instead.id} was under way or to come, and done by it")


def keep_one_tick(root: Path, client: SyncPrefectClient) -> None:
    """After downtime: of all runs that are due the newest is left, one that a person asked for before the schedule's.

    All at once they choke SQLite, whoever wins.
    """
    late = _due(client, DeploymentFilter(name=DeploymentFilterName(any_=[deployments.NIGHTLY])))
    left = sorted(late, key=lambda run: not by_schedule(run))[-1:]
    _skip(
        client, root, [run for run in late if run not in left], "due beside another that waits, which is done for both"
    )


def plan_again(client: SyncPrefectClient) -> None:
    """Nights that a clock which was ahead has used up, and which are still to come: Prefect plans none of them twice.

    Such a run ended after it was due, and is due only later than now. What a person cancelled ended before.
    """
    nightly = DeploymentFilter(name=DeploymentFilterName(any_=[deployments.NIGHTLY]))
    used_up = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"after_": datetime.now(UTC) + GRACE}),
    )
    for run in client.read_flow_runs(deployment_filter=nightly, flow_run_filter=used_up, limit=MOST):
        planned = run.expected_start_time
        if by_schedule(run) and run.deployment_id and run.state and planned and run.state.timestamp >= planned:
            client.create_flow_run_from_deployment(
                run.deployment_id,
                state=Scheduled(scheduled_time=planned),
                tags=[AGAIN],
                idempotency_key=f"{AGAIN} {run.id}",
            )


def _skip(client: SyncPrefectClient, root: Path, late: list[FlowRun], reason: str) -> None:
    """The newest first, since workers take the oldest; none that one has taken meanwhile: it would run all the same."""
    serving = runs.serving(root)
    skipped = []
    for run in reversed(late):
        state = client.read_flow_run(run.id).state
        if state and state.is_scheduled():
            began = runs.new(str(run.id), started_by(run), due(run))
            skipped.append(runs.ended(began, "skipped", reason, serving=serving))
            client.set_flow_run_state(run.id, outcomes.state(skipped[-1]))
            runs.write(root, skipped[-1])
    if skipped:
        runs_page.show(root, *skipped)


def sweep(root: Path, pool: str) -> None:
    """Once: what only the machine can know that all of a pool's runs are on. `make schedule` does so all the time."""
    _sweep(root, {pool}, alive)


@contextmanager
def sweeping(root: Path, pool: str) -> Iterator[None]:
    """For who serves a deployment: what it runs belongs to no pool, or to the one that the deployment had."""

    def at_work(flow_run: UUID) -> bool:
        return alive(flow_run) or bool(multiprocessing.active_children())  # Prefect's runner: a child for each run

    def sweep_on() -> None:
        while not ended.wait(SWEEP_S):
            try:
                _sweep(root, {pool, None}, at_work)
            except OSError as error:
                logger.warning("Not cleared up: %s. It is tried again.", error)

    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(sweep_on,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sweep(root: Path, pools: set[str | None], at_work: Callable[[UUID], bool]) -> None:
    crashed = {record.flow_run for record in clear_up(root)}
    with _telling() as client:
        plan_again(client)
        keep_one_tick(root, client)
        lost = life.lost(root)  # first: whoever has told Prefect of its end has done so by now
        retrainings = {run.id for run in _runs_under_way(client, FLOW)}
        for run in _runs_under_way(client):
            if str(run.id) in crashed or not at_work(run.id):
                of_worker = run.deployment_id is not None and run.work_pool_name in pools
                gone = str(run.id) in crashed or life.ended(run.tags, lost)
                sure = gone or (of_worker and _older_than_grace(run))
                _tell(client, root, run, sure=sure, recorded=run.id in retrainings)
        life.forget(root, lost)


def clear_up(root: Path) -> list[Record]:
    """Close what killed runs left open, unless a run is at work; what was closed."""
    if any(not record.ended for record in runs.read_all(root)[0]):
        with suppress(BusyError), one_writer(root, "clearing up"):
            return close_records(root)
    return []


def alive(flow_run: UUID) -> bool:
    """Whether a process of this machine runs this flow run for a worker."""
    return bool(marked(f"PREFECT__FLOW_RUN_ID={flow_run}"))


@contextmanager
def _telling() -> Iterator[SyncPrefectClient]:
    """Prefect's client; a server that is away ends the block with a warning: the next run tells it."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except AWAY as error:
        logger.warning("Prefect was not told everything: %s", error)


def _runs_under_way(client: SyncPrefectClient, flow: str = "") -> list[FlowRun]:
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)))
    named = FlowFilter(name=FlowFilterName(any_=[flow])) if flow else None
    return client.read_flow_runs(flow_filter=named, flow_run_filter=chosen, limit=MOST)


def _due(client: SyncPrefectClient, deployment: DeploymentFilter) -> list[FlowRun]:
    """The runs of a deployment that should have begun by now and have not, the oldest first."""
    chosen = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        deployment_filter=deployment,
        flow_run_filter=chosen,
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=MOST,
    )


def started_by(run: FlowRun) -> str:
    """Who asked for a run."""
    if not run.deployment_id:
        return "a person"
    return "the schedule" if by_schedule(run) else "a person, through the server"


def by_schedule(run: FlowRun) -> bool:
    """Whether the schedule made it, or `plan_again` in its place."""
    return run.auto_scheduled or AGAIN in run.tags


def due(run: FlowRun) -> str:
    """When a run was to start: its place in the schedule, or the moment it was asked for."""
    moment = run.expected_start_time or datetime.now(UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _tell(client: SyncPrefectClient, root: Path, run: FlowRun, *, sure: bool, recorded: bool = True) -> None:
    """Tell Prefect how a run ended that it believes under way: as its record says, or killed if that is sure.

    One that was killed before it had a record gets one, if it is of the flow that keeps records.
    """
    record = next((found for found in runs.read_all(root)[0] if found.flow_run == str(run.id) and found.ended), None)
    if record and (sure or _age(record.ended) > GRACE):
        client.set_flow_run_state(run.id, outcomes.state(record))
    elif not record and sure:
        if recorded:
            began = runs.new(str(run.id), started_by(run), due(run))
            crashed = runs.ended(began, "crashed", KILLED, serving=runs.serving(root))
            runs.write(root, crashed)
            runs_page.show(root, crashed)
        client.set_flow_run_state(run.id, Crashed(message=KILLED))


def _older_than_grace(run: FlowRun) -> bool:
    return run.state is not None and datetime.now(UTC) - run.state.timestamp > GRACE


def _age(moment: str) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(moment)
