"""`make schedule` for real: a server, a worker, kills. One of it serves the whole module, and is killed at the end."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.schedules import IntervalSchedule

from flows import kept, life, reconciliation
from flows.reconciliation import SWEEP_S
from tasks import runs
from tests.nightly import answers, bring, ended, held, hold, live, made, records, start_quietly, state, wait_for
from tests.pipeline import all_ended
from tests.scheduled import connected, deployment, environment, record_of, tick

pytest_plugins = ["tests.pipeline", "tests.scheduled"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("none_held_none_at_once")]

OFTEN = timedelta(seconds=20)
LOCKED_S = 30  # longer than the server's own statements wait
STOPS = int(os.environ.get("STOPS", "3"))  # of `make schedule`; a hundred take up to half an hour
FINAL_S = 90  # of the worker's return to a final state of whatever was killed


class Webhook(BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers after a while."""

    def do_POST(self):
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        time.sleep(self.server.slow_s)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def webhook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    server.received, server.slow_s = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def project(machine, webhook, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedule")
    messages = {"SEAMLINE_MESSAGES_TO": f"http://127.0.0.1:{webhook.server_port}/secret-path"}
    return made(folder / "project", environment(machine, folder) | messages)


@pytest.fixture(scope="module")
def client(schedule):
    with connected(schedule) as one:
        yield one


def told(webhook, before, start):
    """Wait for a message that starts so, after the first `before`; others that come late may be among them."""
    wait_for(lambda: [one for one in webhook.received[before:] if one["text"].startswith(start)], 60, start)


def test_everything_is_brought_up(schedule, client):
    found = deployment(client)
    (line,) = found.schedules

    assert not found.paused
    assert line.active
    assert (line.schedule.cron, line.schedule.timezone) == ("30 2 * * *", "Etc/UTC")
    assert (found.global_concurrency_limit.limit, found.concurrency_options.collision_strategy) == (1, "ENQUEUE")
    assert {made.name for made in client.read_deployments()} == {
        "retrain-nightly", "take-back", "compare-recipes", "cross-validate", "tune"
    }  # fmt: skip
    assert {made.name for made in client.read_automations()} == {"seamline: messages"}


def test_nothing_of_it_listens_beyond_this_machine(schedule):
    sockets = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    pids = schedule.all()
    own = [line.split()[3] for line in sockets if any(f"pid={pid}," in line for pid in pids)]

    assert own, "Prefect's server listens"
    assert {address.rpartition(":")[0] for address in own} <= {"127.0.0.1", "[::1]"}


def test_all_talk_to_the_one_server_though_no_address_was_set(schedule, client):
    """Prefect starts one of its own for whoever has no address: in this process, nobody would end or restart it."""
    assert schedule.of("uvicorn") == []


def test_schedule_makes_runs(schedule, client):
    """With SQLAlchemy 2.1 the server of Prefect 3.8.8 made none, and no page said so."""

    def planned():
        return [run for run in client.read_flow_runs() if run.auto_scheduled and run.state.name == "Scheduled"]

    due = wait_for(planned, 120, "a run of the schedule")[0].expected_start_time
    assert (due.hour, due.minute) == (2, 30)


def test_run_trains_challenges_and_releases(schedule, client, project, webhook):
    flow_run = tick(client)

    assert ended(client, flow_run).name == "Released"
    found = record_of(project, flow_run)
    assert (found.outcome, found.serving, live(project)) == ("released", "1", "0.9")
    assert found.started_by == "a person, through the server"
    assert webhook.received == [], "nobody is told that all went well"


def test_each_model_that_is_worse_is_refused_and_told_once(schedule, client, project, webhook):
    reasons = []
    for accuracy in ("0.7", "0.69", "0.68"):
        bring(project, accuracy)
        flow_run = tick(client)

        assert ended(client, flow_run).name == "Refused"
        found = record_of(project, flow_run)
        assert (found.outcome, found.serving, live(project)) == ("refused", "1", "0.9")
        assert found.reason == f"challenge: refused: accuracy {accuracy} is worse than 0.9"
        assert found.figures.accuracy == float(accuracy)
        kept_with_it = {path.name for path in (project.root / runs.FOLDER / found.id).iterdir()}
        assert kept_with_it >= {"report.html", "metrics.json", "challenge.json"}
        reasons.append(found.reason)
        wait_for(lambda: len(webhook.received) >= len(reasons), 60, "a message")

    time.sleep(10)  # the end of a log comes after the state, from a process that ends; so would a message too many
    assert len(webhook.received) == len(reasons)
    for message, reason in zip(webhook.received, reasons, strict=True):
        assert message["text"].startswith(f"Seamline: retraining Refused: {reason}")
    log = [line.message for line in client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run])))]
    assert any(found.reason in line for line in log)
    assert [line for line in log if "Traceback" in line or "unexpected exception" in line] == []


def test_stage_that_fails_is_told(schedule, client, project, webhook):
    before, learn = len(webhook.received), project.root / "learn.sh"
    whole = learn.read_text()
    learn.write_text("echo 'learn: no room'; exit 1\n")

    assert ended(client, tick(client)).name == "Failed"
    learn.write_text(whole)
    told(webhook, before, "Seamline: retraining Failed: learn: no room")


def test_stage_that_takes_too_long_is_told(schedule, client, project, webhook):
    before, stages = len(webhook.received), project.root / "flows/training.py"
    whole = stages.read_text()
    bring(project, "0.905")
    stages.write_text(whole.replace("\nTIMEOUT = ", "\nTIMEOUT = timedelta(seconds=3)  # "))
    free = hold(project, "learn")
    try:
        assert ended(client, tick(client)).name == "Failed"
    finally:
        stages.write_text(whole)
        free.unlink()
    told(webhook, before, "Seamline: retraining Failed: learn: Task run exceeded timeout of 3.0 second(s)")


def test_webhook_that_is_slow_holds_up_nothing(schedule, client, project, webhook):
    before = len(webhook.received)
    webhook.slow_s = 20  # longer than anybody waits
    try:
        bring(project, "0.67")
        assert ended(client, tick(client)).name == "Refused"
        told(webhook, before, "Seamline: retraining Refused: challenge: refused: accuracy 0.67")
        bring(project, "0.9")
        assert ended(client, tick(client)).name in {"Unchanged", "Released"}
    finally:
        webhook.slow_s = 0


@pytest.mark.parametrize(
    ("step", "accuracy"),
    [
        ("learn", "0.906"),
        ("gate", "0.907"),
        ("report", "0.908"),
        ("challenge", "0.909"),
        ("release", "0.91"),
        ("announce", "0.911"),
    ],
)
def test_flow_killed_at_any_step_leaves_a_whole_model_and_the_next_run_goes_on(
    schedule, client, project, webhook, step, accuracy
):
    bring(project, accuracy)
    before, told_before = live(project), len(webhook.received)
    free, flow_run = hold(project, step), tick(client)
    held_by = held(project, step)
    left = kept.marked(f"PREFECT__FLOW_RUN_ID={flow_run}")
    assert held_by in left
    schedule.kill("prefect.engine")

    assert ended(client, flow_run, FINAL_S).type == "CRASHED"
    told(webhook, told_before, "Seamline: retraining Crashed: Process exited with status code: -9")
    assert live(project) == (accuracy if step == "announce" else before), "the switch comes just before it announces"
    assert all_ended(left, 15), "what the flow left behind ends soon"
    free.unlink()
    after = tick(client)
    assert ended(client, after).name == "Released"
    assert [record_of(project, run).outcome for run in (flow_run, after)] == ["crashed", "released"]
    assert live(project) == accuracy


@pytest.mark.parametrize(("step", "accuracy"), [("learn", "0.92"), ("challenge", "0.921"), ("announce", "0.922")])
def test_worker_killed_while_a_run_is_under_way(schedule, client, project, step, accuracy):
    bring(project, accuracy)
    free, flow_run = hold(project, step), tick(client)
    held(project, step)
    schedule.kill("prefect worker start")
    wait_for(lambda: schedule.of("prefect worker start"), 30, "another worker")
    free.unlink()

    assert ended(client, flow_run, FINAL_S).name == "Released", "the run goes on without its worker"
    assert live(project) == accuracy


@pytest.mark.parametrize(("step", "accuracy"), [("learn", "0.93"), ("challenge", "0.931"), ("announce", "0.932")])
def test_server_killed_while_a_run_is_under_way(schedule, client, project, step, accuracy):
    bring(project, accuracy)
    free, flow_run = hold(project, step), tick(client)
    held(project, step)
    schedule.kill("prefect server start", "uvicorn")
    wait_for(lambda: not answers(project.environment["PREFECT_API_URL"]), 10, "no server")
    wait_for(lambda: answers(project.environment["PREFECT_API_URL"]), 120, "the server again")
    free.unlink()

    assert ended(client, flow_run, FINAL_S).name == "Released"
    assert live(project) == accuracy


def test_database_locked_while_a_run_is_under_way(schedule, client, project):
    bring(project, "0.935")
    free, flow_run = hold(project, "learn"), tick(client)
    held(project, "learn")
    database = Path(project.environment["PREFECT_HOME"]) / "prefect.db"
    with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        free.unlink()  # the run goes on, and what it tells the server cannot be written
        time.sleep(LOCKED_S)
        assert not client.read_flow_run(flow_run).state.is_final()
        other.execute("ROLLBACK")

    assert ended(client, flow_run, FINAL_S).name == "Released"
    assert (record_of(project, flow_run).outcome, live(project)) == ("released", "0.935")


def test_after_downtime_one_run_is_done_for_fifty_ticks(schedule, client, project):
    from prefect.client.schemas.actions import WorkPoolUpdate

    bring(project, "0.94")
    client.update_work_pool("seamline", WorkPoolUpdate(is_paused=True))
    before, due = runs.serving(project.root), datetime.now(UTC)  # the worker learns late that it is to pause
    missed = [tick(client, due) for _ in range(50)]
    client.update_work_pool("seamline", WorkPoolUpdate(is_paused=False))

    wait_for(lambda: state(client, missed[-1]).is_final(), 120, "the end of the newest")
    states = [ended(client, run) for run in missed]
    assert Counter(state.name for state in states) == {"Released": 1, "Skipped": 49}, {str(state) for state in states}
    found = [record_of(project, run) for run in missed]
    outcomes = [record.outcome for record in found]
    assert {record.started_by for record in found} == {"a person, through the server"}
    assert {record.serving for record in found} <= {before, runs.serving(project.root)}, "each says what served"
    assert (outcomes.count("released"), outcomes.count("skipped"), live(project)) == (1, 49, "0.94")


def test_same_tick_twice_is_one_run(schedule, client, project):
    bring(project, "0.95")
    due = datetime.now(UTC)
    twice = [tick(client, due), tick(client, due)]

    assert sorted(ended(client, run).name for run in twice) == ["Released", "Skipped"]
    assert live(project) == "0.95"


def test_run_that_a_person_asks_for_while_another_is_at_work_is_done(schedule, client, project):
    bring(project, "0.952")
    free, under_way = hold(project, "release"), tick(client)
    held(project, "release")
    bring(project, "0.954")
    asked = tick(client)
    free.unlink()

    assert [ended(client, run).name for run in (under_way, asked)] == ["Released", "Released"]
    assert live(project) == "0.954"


def test_schedule_itself_makes_a_run_and_the_next_has_nothing_to_do(schedule, client, project):
    bring(project, "0.956")
    nightly = deployment(client)
    (line,) = nightly.schedules
    client.update_deployment_schedule(nightly.id, line.id, schedule=IntervalSchedule(interval=OFTEN))
    try:
        first, second = wait_for(lambda: by_the_schedule(client), 150, "two runs of the schedule")
    finally:
        client.update_deployment_schedule(nightly.id, line.id, schedule=line.schedule)

    found = [record_of(project, run.id) for run in (first, second)]
    assert [run.auto_scheduled for run in (first, second)] == [True, True]
    assert [record.started_by for record in found] == ["the schedule", "the schedule"]
    assert [record.outcome for record in found] == ["released", "unchanged"]
    assert found[1].reason.startswith("nothing new: ")
    assert live(project) == "0.956"


def by_the_schedule(client):
    """The first two runs that a schedule made and that were done, once there are two."""
    runs_made = [run for run in client.read_flow_runs() if run.auto_scheduled and run.state.is_completed()]
    return sorted(runs_made, key=lambda run: run.expected_start_time)[:2] if len(runs_made) > 1 else None


def test_finished_run_is_not_later_marked_crashed(schedule, client, project):
    from prefect.states import Crashed

    finished = UUID(next(record for record in records(project) if record.outcome == "released").flow_run)
    client.set_flow_run_state(finished, Crashed(message="by mistake"))

    assert state(client, finished).name == "Released"


@pytest.mark.parametrize("flow", ["training", "retraining"])
def test_run_that_a_person_started_is_left_alone_until_it_is_killed(schedule, client, project, flow):
    bring(project, {"training": "0.951", "retraining": "0.952"}[flow])
    free = hold(project, "learn")
    process = start_quietly(project, sys.executable, "-m", f"flows.{flow}")
    try:
        held(project, "learn")
        (flow_run,) = (run.id for run in client.read_flow_runs() if run.state.is_running())
        time.sleep(2 * SWEEP_S)
        assert state(client, flow_run).is_running()
    finally:
        process.kill()
        process.wait(10)

    assert ended(client, flow_run, FINAL_S).type == "CRASHED"
    wait_for(lambda: not list((project.root / life.FOLDER).iterdir()), SWEEP_S, "its sign of life is taken away, too")
    free.unlink()


def test_runs_killed_before_they_began_are_ended_and_a_retraining_has_a_record(schedule, client, project):
    from prefect.states import Pending

    from flows.retraining import retraining
    from flows.training import training

    (project.root / life.FOLDER / "killed").touch()
    known = {"state": Pending(), "tags": [life.TAG + "killed"]}
    never_began = [client.create_flow_run(flow, **known).id for flow in (training, retraining)]

    assert [ended(client, flow_run, FINAL_S).type for flow_run in never_began] == ["CRASHED", "CRASHED"]
    assert record_of(project, never_began[1]).outcome == "crashed"
    assert str(never_began[0]) not in [record.flow_run for record in records(project)], "of another flow"


def test_flow_run_that_is_deleted_meanwhile_costs_a_warning(schedule, client, project, tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Pending

    from flows.training import training

    (tmp_path / life.FOLDER).mkdir(parents=True)
    (tmp_path / life.FOLDER / "elsewhere").touch()  # what `make schedule` here does not look at
    known = {"state": Pending(), "tags": [life.TAG + "elsewhere"]}
    lost = {client.create_flow_run(training, **known).id for _ in range(2)}
    deleted, warnings = [], []

    def deleted_just_now(flow_run):
        if flow_run in lost:
            client.delete_flow_run(flow_run)
            deleted.append(flow_run)
        return flow_run not in lost

    monkeypatch.setattr(reconciliation.logger, "warning", lambda line, *what: warnings.append(line % what))
    with temporary_settings({PREFECT_API_URL: project.environment["PREFECT_API_URL"]}):
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(reconciliation, "alive", deleted_just_now)
            reconciliation.sweep(tmp_path, "none")
        (left,) = lost - set(deleted)
        assert state(client, left).name == "Pending", "the first one ended the sweep"
        assert len(warnings) == 1
        assert warnings[0].startswith("Prefect was not told everything: ")
        reconciliation.sweep(tmp_path, "none")

    assert state(client, left).type == "CRASHED"
    assert len(warnings) == 1


def test_second_schedule_here_says_that_one_runs(schedule, project):
    done = project.run(sys.executable, "-m", "flows.schedule")

    assert done.returncode == 1
    assert done.stdout == "make schedule runs here already. End it first (Ctrl-C), or leave it be.\n"


def test_everything_killed_at_once_and_started_again(schedule, client, project):
    bring(project, "0.96")
    before = live(project)
    hold(project, "learn")
    under_way = tick(client)
    held(project, "learn")
    waiting = tick(client)
    os.kill(schedule.process.pid, signal.SIGKILL)
    schedule.kill("")
    schedule.process.wait(10)
    hold(project, "learn").unlink()
    assert live(project) == before

    start = time.monotonic()
    schedule.start()
    assert ended(client, under_way, FINAL_S).type == "CRASHED"
    assert ended(client, waiting, FINAL_S).name == "Released", "nothing needs a person"
    assert time.monotonic() - start < FINAL_S + 60
    assert live(project) == "0.96"


@pytest.mark.timeout(300 + 30 * STOPS)
def test_schedule_is_active_however_often_it_is_stopped_and_started(schedule, client, project):
    for _ in range(STOPS):
        assert schedule.stop() == 0
        assert schedule.all() == []
        schedule.start()

    (line,) = deployment(client).schedules
    assert line.active
    assert not deployment(client).paused
    assert len(client.read_automations()) == 1, "nothing is made twice"
