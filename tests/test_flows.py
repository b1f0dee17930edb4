import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from flows import stages, summary, temporary, training
from tests.pipeline import Project, all_ended, artifacts, children, free_port, running

pytest_plugins = ["tests.pipeline"]

# What a stage of `tiny` does: say which processes it is made of, then wait for longer than any test.
ENDLESS = "sleep 600 &\necho gate: processes $$ $!\nwait\n"
QUICK_RETRY = "training.RETRY_DELAY_S = 1"
UP_TO_DATE = ["gate: up to date"]


@pytest.fixture
def enter(monkeypatch):
    """Makes a project the one that functions called in this process find; gives it back."""

    def entered(project):
        for name, value in project.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(project.root)
        return project

    return entered


@pytest.fixture
def here(tiny, enter):
    """`tiny`, entered."""
    return enter(tiny)


@pytest.fixture
def done(tiny_done, enter):
    """`tiny_done`, entered."""
    return enter(tiny_done)


def write(project, stage, script):
    (project.root / f"{stage}.sh").write_text(script)


def edit(project, name, old, new):
    path = project.root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def pids_of(text):
    """The processes that a stage which runs `ENDLESS` is made of, and DVC's, which is the parent."""
    pids = [int(word) for word in re.search(r"gate: processes ([\d ]+)", text)[1].split()]
    return [*pids, int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])]


# The stages, seen from outside


def test_names_are_those_of_dvc_yaml_in_its_order(tiny):
    assert stages.names(tiny.root) == ["ingest", "gate", "report"]
    assert stages.names() == [
        "ingest", "validate", "admit", "normalise", "train", "evaluate", "gate", "export", "quantise", "bundle", "report"
    ]  # fmt: skip


def reproduced(project, stage):
    """The lines of a stage that is brought up to date."""
    with stages.Dvc(project.root) as dvc:
        return list(dvc.reproduce(stage))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda project: write(project, "gate", "echo other > data/gate.txt\n"), id="a file that it reads"),
        pytest.param(lambda project: (project.root / "data/ingest.txt").write_text("x"), id="what came before it"),
        pytest.param(lambda project: (project.root / "data/gate.txt").unlink(), id="a file that it wrote"),
        pytest.param(lambda project: project.change({"gate.min_accuracy": 0.5}), id="its number"),
        pytest.param(lambda project: edit(project, "dvc.yaml", "sh gate.sh", "sh ./gate.sh"), id="its command"),
    ],
)
def test_stage_is_current_until_something_changes(done, change):
    assert reproduced(done, "gate") == UP_TO_DATE

    change(done)

    assert reproduced(done, "gate") != UP_TO_DATE


def test_change_elsewhere_leaves_a_stage_current(done):
    done.change({"export.max_difference": 0.5})

    assert reproduced(done, "gate") == UP_TO_DATE


def test_stage_is_brought_up_to_date_from_any_folder(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert reproduced(done, "gate") == UP_TO_DATE


def test_reproduce_brings_one_stage_up_to_date_and_records_it(here):
    assert reproduced(here, "ingest") == ["ingest: at work"]

    assert reproduced(here, "ingest") == ["ingest: up to date"]
    assert not (here.root / "data/gate.txt").exists(), "one stage, not what follows"


def test_lines_arrive_as_they_appear(here):
    waits = "for i in $(seq 200); do test -e seen && break; sleep 0.1; done\n"
    write(here, "ingest", f"echo one\n{waits}test -e seen && echo two\necho ingest > data/ingest.txt\n")

    with stages.Dvc(here.root) as dvc:
        lines = dvc.reproduce("ingest")
        assert next(lines) == "one"
        (here.root / "seen").touch()  # only now may the second line be written

        assert list(lines) == ["two"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("echo 'gate: refused: 0.1'\nexit 1\n", "^gate: refused: 0.1$", id="its own last line"),
        pytest.param(
            "echo 'gate: refused'\necho noise\nexit 1\n", "^gate: refused$", id="not what others say after it"
        ),
        pytest.param("echo 'gate: one'\necho 'gate: two'\nexit 1\n", "^gate: two$", id="the last of two"),
        pytest.param("exit 3\n", "^gate: failed to run: sh gate.sh, exited with 3$", id="nothing said"),
        pytest.param("echo 'gate: at work'\nkill -9 $$\n", "^gate: ended by SIGKILL, most likely", id="killed"),
        pytest.param("kill -6 $$\n", "^gate: ended by SIGABRT, by a fault of a library, or because", id="crashed"),
        pytest.param("kill -4 $$\n", "^gate: ended by SIGILL, by a library that was built", id="not for this one"),
        pytest.param("echo 'gate: at work'\nkill -15 $$\n", "^gate: ended by SIGTERM, from outside", id="ended"),
        pytest.param("echo 'ValueError: x' >&2\nexit 1\n", "^gate: ValueError: x$", id="the last line of a bug"),
    ],
)
def test_failing_stage_says_why(done, script, reason):
    write(done, "gate", script)

    with stages.Dvc(done.root) as dvc, pytest.raises(stages.StageFailedError, match=reason) as failure:
        list(dvc.reproduce("gate"))

    assert len(str(failure.value).splitlines()) == 1


def test_stage_that_failed_is_not_taken_for_done(done):
    write(done, "gate", "test -e mended && echo mended > data/gate.txt\n")
    with stages.Dvc(done.root) as dvc:
        with pytest.raises(stages.StageFailedError):
            list(dvc.reproduce("gate"))
        (done.root / "mended").touch()

        list(dvc.reproduce("gate"))

    assert (done.root / "data/gate.txt").read_text() == "mended\n"


def test_recipe_that_is_not_there_is_answered_with_the_nearest(done):
    (done.root / "recipes").mkdir()
    (done.root / "recipes/swift.yaml").touch()
    edit(done, "dvc.yaml", "    - gate\n", "    - gate\n    - recipes/swoft.yaml:\n")

    with (
        stages.Dvc(done.root) as dvc,
        pytest.raises(stages.StageFailedError, match=r"not exist \(did you mean swift\?\)"),
    ):
        list(dvc.reproduce("gate"))


def test_dvc_that_is_killed_is_one_failed_stage_and_started_again(done):
    write(done, "gate", "kill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat)\n")  # of this shell: DVC's, then DVC
    with stages.Dvc(done.root) as dvc:
        with pytest.raises(stages.StageFailedError, match="^gate: DVC could not do it: it was ended. Mend"):
            list(dvc.reproduce("gate"))

        assert list(dvc.reproduce("ingest")) == ["ingest: up to date"]


def test_stage_that_is_given_up_leaves_no_process(done):
    write(done, "gate", ENDLESS)
    with stages.Dvc(done.root) as dvc:
        lines = dvc.reproduce("gate")
        pids = pids_of(next(lines))
        assert all(map(running, pids))

    assert all_ended(pids)


def test_python_of_a_stage_is_the_one_that_runs_the_flow(here, tmp_path, monkeypatch):
    (tmp_path / "python").write_text("#!/bin/sh\necho another Python\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    write(here, "ingest", "python -c 'import sys; print(sys.prefix)'\necho ingest > data/ingest.txt\n")

    assert reproduced(here, "ingest") == [sys.prefix]


def test_stage_without_dvc_runs_its_command_and_records_nothing(here):
    assert list(stages.run_unrecorded("ingest", here.root)) == ["ingest: at work"]

    assert (here.root / "data/ingest.txt").read_text() == "ingest\n"
    assert not (here.root / "dvc.lock").exists()


@contextmanager
def dvc_lock(project, seconds):
    """Another process holds DVC's lock for a while."""
    script = f"import time; from dvc.repo import Repo; Repo('.').lock.lock(); print('held'); time.sleep({seconds})"
    process = project.start(sys.executable, "-c", script)
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.communicate(timeout=30)


def test_stage_is_reproduced_when_another_process_has_let_go_of_the_lock(here):
    start = time.monotonic()
    with dvc_lock(here, seconds=4.5):
        assert reproduced(here, "ingest")[-1] == "ingest: at work"

    assert time.monotonic() - start > 4.5, "it did not wait"


# The flow, against a real server


def task_runs(client, flow_run):
    """The task runs of a flow run by name, in the order they started."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run)]))
    found = client.read_task_runs(flow_run_filter=chosen, limit=100)
    return {run.name: run for run in sorted(found, key=lambda run: run.start_time)}


def log_of(client, task_run, holding, within_s=15):
    """The messages in a task run's log, once one holds a text (Prefect sends them in the background)."""
    from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId

    chosen, until = LogFilter(task_run_id=LogFilterTaskRunId(any_=[task_run.id])), time.monotonic() + within_s
    while True:
        messages = [log.message for log in client.read_logs(log_filter=chosen, limit=200, offset=0)]
        if any(holding in message for message in messages) or time.monotonic() > until:
            return messages
        time.sleep(0.2)


def states(client, task_run):
    return [state.name for state in client.read_task_run_states(task_run.id)]


def test_flow_has_a_task_run_per_stage(tiny, server, client, run_flow):
    ran = run_flow(tiny, server)

    runs, shown = task_runs(client, ran.flow_run), artifacts(client, ran.flow_run)
    assert ran.done.returncode == 0, ran.done.stdout + ran.done.stderr
    assert client.read_flow_run(UUID(ran.flow_run)).state.is_completed()
    assert list(runs) == ["ingest", "gate", "report"]
    assert {run.state.name for run in runs.values()} == {"Completed"}
    assert set(shown) == {"ingest", "gate", "report", "result"}
    assert shown["gate"].data == "| gate |\n"
    assert "gate: at work" in log_of(client, runs["gate"], "gate: at work")
    assert "test accuracy" in ran.done.stdout


@pytest.mark.slow
def test_ingest_alone_is_tried_again(tiny, server, client, run_flow):
    write(
        tiny, "ingest", "test -e tried || { touch tried; echo 'ingest: no network'; exit 1; }\necho > data/ingest.txt\n"
    )
    write(tiny, "gate", "echo 'gate: refused: accuracy is 0.7, the limit is 0.9'\nexit 1\n")

    ran = run_flow(tiny, server, before=QUICK_RETRY)

    runs = task_runs(client, ran.flow_run)
    assert (runs["ingest"].run_count, runs["ingest"].state.name) == (2, "Completed")
    assert "AwaitingRetry" in states(client, runs["ingest"])
    assert (runs["gate"].run_count, runs["gate"].state.name) == (1, "Failed")
    assert list(runs) == ["ingest", "gate"], "what follows a refusal is not tried"


def test_refusal_ends_the_flow_with_its_reason_and_still_writes_the_report(tiny, server, client, run_flow):
    write(tiny, "gate", "echo 'gate: refused: accuracy is 0.7, the limit is 0.9'\nexit 1\n")

    ran = run_flow(tiny, server)

    state = client.read_flow_run(UUID(ran.flow_run)).state
    assert ran.done.returncode == 1
    assert (state.name, state.message) == ("Failed", "gate: refused: accuracy is 0.7, the limit is 0.9")
    assert "Not finished. gate: refused: accuracy is 0.7, the limit is 0.9\n" in ran.done.stdout
    assert "Traceback" not in ran.done.stdout + ran.done.stderr
    assert (tiny.root / "data/report.txt").read_text() == "report\n"


@pytest.mark.slow
def test_report_that_fails_does_not_hide_the_refusal(tiny, server, client, run_flow):
    write(tiny, "gate", "echo 'gate: refused'\nexit 1\n")
    write(tiny, "report", "echo 'report: no pictures'\nexit 1\n")

    ran = run_flow(tiny, server)

    assert ran.done.returncode == 1
    assert client.read_flow_run(UUID(ran.flow_run)).state.message == "gate: refused"
    assert "No report of the refusal: report: no pictures" in ran.done.stdout + ran.done.stderr


@pytest.mark.slow
def test_ingest_that_stays_without_network_ends_the_flow_with_its_reason(tiny, server, client, run_flow):
    write(tiny, "ingest", "echo 'ingest: no network'\nexit 1\n")

    ran = run_flow(tiny, server, before=QUICK_RETRY)

    run = task_runs(client, ran.flow_run)["ingest"]
    assert ran.done.returncode == 1
    assert run.run_count == 2
    assert client.read_flow_run(UUID(ran.flow_run)).state.message == "ingest: no network"
    assert not (tiny.root / "data/report.txt").exists(), "there is nothing to report on"


@pytest.mark.slow
def test_stage_that_takes_too_long_is_ended_with_all_its_processes(tiny, server, client, run_flow):
    write(tiny, "gate", ENDLESS.replace("echo gate:", "echo $$ $! > pids; echo gate:"))

    ran = run_flow(tiny, server, before="from datetime import timedelta; training.TIMEOUT = timedelta(seconds=8)")

    run = task_runs(client, ran.flow_run)["gate"]
    assert ran.done.returncode == 1
    assert run.state.name == "TimedOut"
    assert "8.0 second" in client.read_flow_run(UUID(ran.flow_run)).state.message
    assert all_ended([int(word) for word in (tiny.root / "pids").read_text().split()])


@pytest.mark.slow
@pytest.mark.parametrize(("by", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_flow_that_is_ended_takes_its_stage_with_it(tiny, server, by, status):
    write(tiny, "gate", ENDLESS)
    process = tiny.start(sys.executable, "-m", "flows.training", PREFECT_API_URL=server)
    pids = pids_of(next(line for line in process.stdout if "gate: processes" in line))
    assert all(map(running, pids))

    process.send_signal(by)
    said = process.communicate(timeout=60)[0]

    assert process.returncode == status
    assert all_ended(pids)
    assert "Traceback" not in said


def test_server_that_does_not_answer_is_named_with_the_remedy(tiny):
    address = f"http://127.0.0.1:{free_port()}/api"

    done = tiny.run(sys.executable, "-m", "flows.training", PREFECT_API_URL=address)

    assert done.returncode == 1
    assert done.stdout.startswith(f"No Prefect server answers at {address}")
    assert "PREFECT_PROFILE=ephemeral make run" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_flow_that_is_ended_takes_its_own_server_with_it(tiny, by):
    write(tiny, "gate", ENDLESS)
    process = tiny.start(sys.executable, "-m", "flows.training")
    next(line for line in process.stdout if "gate: processes" in line)
    started = children(process.pid)
    assert len(started) == 2, "Prefect's server and DVC"

    process.send_signal(by)
    process.communicate(timeout=60)

    assert process.returncode != 0
    assert all_ended(started)


@pytest.mark.slow
def test_server_of_a_flow_that_was_killed_is_ended_by_the_next(tiny):
    write(tiny, "gate", ENDLESS)
    process = tiny.start(sys.executable, "-m", "flows.training")
    next(line for line in process.stdout if "gate: processes" in line)
    started = children(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    assert not all_ended(started, 12), "Prefect's server has outlived the flow"
    write(tiny, "gate", "echo gate > data/gate.txt\n")

    done = tiny.run(sys.executable, "-m", "flows.training")

    assert done.returncode == 0, done.stdout + done.stderr
    assert all_ended(started)
    assert list((tiny.root / temporary.FOLDER).iterdir()) == []


@pytest.mark.slow
def test_run_after_a_flow_that_was_killed_waits_for_the_end_of_its_stage_and_ends_well(tiny, server):
    write(tiny, "gate", "echo gate: begun\ntest -e again || { touch again; sleep 600; }\necho gate > data/gate.txt\n")
    process = tiny.start(sys.executable, "-m", "flows.training", PREFECT_API_URL=server)
    next(line for line in process.stdout if "gate: begun" in line)
    process.kill()
    process.communicate(timeout=60)

    done = tiny.run(sys.executable, "-m", "flows.training", PREFECT_API_URL=server)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tiny.root / "data/gate.txt").read_text() == "gate\n"


@pytest.mark.slow
def test_flow_needs_no_server(tiny):
    done = tiny.run(sys.executable, "-m", "flows.training")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Starting temporary server" in done.stdout + done.stderr
    assert "test accuracy" in done.stdout
    assert (tiny.root / "data/report.txt").exists()


def test_prefect_tells_its_makers_nothing(tiny):
    asked = "from prefect.settings import get_current_settings; found = get_current_settings(); "
    asked += "print(found.server.analytics_enabled, found.cloud.enable_orchestration_telemetry)"
    plain = {name: value for name, value in tiny.environment.items() if not name.startswith("PREFECT_SERVER_ANALYTICS")}

    assert Project(tiny.root, plain).ok(sys.executable, "-c", asked) == "False False\n"


# The flow on the real data


@pytest.mark.slow
def test_real_flow_shows_every_stage(finished_flow, client):
    project, ran = finished_flow

    runs, shown = task_runs(client, ran.flow_run), artifacts(client, ran.flow_run)
    assert list(runs) == stages.names(project.root)
    assert {run.state.name for run in runs.values()} == {"Completed"}
    assert set(shown) == {*runs, "result"}
    assert all("|" in artifact.data for artifact in shown.values()), "each is a table worth reading"
    assert "epoch 1/1" in "\n".join(log_of(client, runs["train"], "epoch 1/1"))
    assert shown["result"].data == summary.markdown(project.root)
    assert (project.root / "data/report.html").stat().st_size > 0


@pytest.mark.slow
def test_second_run_has_nothing_to_do(finished, server, client, run_flow):
    before, outputs = finished.ran(), finished.outputs()

    ran = run_flow(finished, server)

    runs = task_runs(client, ran.flow_run)
    assert ran.done.returncode == 0
    assert {name: log_of(client, run, "up to date")[0] for name, run in runs.items()} == {
        name: f"{name}: up to date" for name in stages.names(finished.root)
    }
    assert finished.ran() == before, "no stage has run"
    assert finished.outputs() == outputs


@pytest.mark.slow
def test_refused_model_leaves_what_is_published_and_reports_itself(finished, server, client, run_flow):
    published = (finished.root / "exports/model.onnx").read_bytes()
    (finished.root / "data/report.html").unlink()
    finished.change({"gate.min_accuracy": 0.999})

    ran = run_flow(finished, server)

    state = client.read_flow_run(UUID(ran.flow_run)).state
    assert ran.done.returncode == 1
    assert state.name == "Failed"
    assert re.search(r"^gate: refused: accuracy is 0\.\d+, the limit is 0\.9990", state.message)
    assert state.message in ran.done.stdout
    assert (finished.root / "exports/model.onnx").read_bytes() == published
    assert "refused" in (finished.root / "data/report.html").read_text()
    assert "**refused**" in artifacts(client, ran.flow_run)["gate"].data


def test_admit_may_take_as_long_as_a_hundred_thousand_pictures_need_on_a_machine_three_times_as_slow():
    assert training.stage_task("admit").timeout_seconds > 100_000 * 0.042 * 3  # seconds each: docs/new-data.md
