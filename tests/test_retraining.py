import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Pending, Scheduled

from benchmarks import ticks
from flows import automations, deployments, leash, outcomes, reconciliation
from flows.retraining import retraining
from tasks import runs, runs_page
from tasks.errors import DataError
from tasks.files import write_json
from tasks.writer import FILE, one_writer
from tests import disks
from tests.nightly import bring, ended, held, hold, live, made, records, start_quietly
from tests.pipeline import all_ended, copy_of, end

pytest_plugins = ["tests.pipeline"]
RUN = (sys.executable, "-m", "flows.retraining")


@pytest.fixture(scope="module")
def first(machine, server, tmp_path_factory):
    """A project in which the flow has run once: release 1 serves. Not to be changed: see `served`."""
    project = made(tmp_path_factory.mktemp("nightly") / "project", machine | {"PREFECT_API_URL": server})
    done = project.run(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture
def served(first, tmp_path):
    """A copy of that project."""
    return copy_of(first, tmp_path / "project")


def last(project):
    return records(project)[-1]


def record(**fields):
    return runs.new("f" * 36, "a person", "2026-01-01T00:00:00.000+00:00").model_copy(update=fields)


# One run


@pytest.mark.slow
def test_first_run_releases_what_passed_the_gate(first):
    (found,) = records(first)

    assert (found.outcome, found.serving, found.started_by) == ("released", "1", "a person")
    assert found.ran == ["learn", "gate", "report"]
    assert set(found.seconds) == {"learn", "gate", "report", "challenge", "release"}
    assert (found.figures.accuracy, live(first)) == (0.9, "0.9")
    folder = first.root / runs.FOLDER
    assert json.loads((folder / found.id / "challenge.json").read_text()) == {"verdict": "released"}
    assert "A new model serves" in (folder / found.id / "index.html").read_text()
    assert f'href="{found.id}/index.html"' in (folder / "index.html").read_text()


@pytest.mark.slow
def test_run_with_nothing_new_says_so_and_one_that_is_refused_keeps_why(served):
    done = served.run(*RUN)

    assert done.returncode == 0
    assert "Unchanged. nothing new: 1 serves on" in done.stdout
    assert (last(served).outcome, last(served).ran) == ("unchanged", [])

    bring(served, "0.3")
    done = served.run(*RUN)

    assert done.returncode == 1
    assert "Refused. gate: refused: accuracy is 0.3, the limit is 0.5" in done.stdout
    assert (last(served).outcome, last(served).serving, live(served)) == ("refused", "1", "0.9")
    assert last(served).figures.accuracy == 0.3
    folder = served.root / runs.FOLDER / last(served).id
    assert (folder / "report.html").read_text() == "<p>0.3\n"
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == 0.3
    kept_with_it = {path.name for path in folder.iterdir()}
    assert not kept_with_it & {"challenge.json", "challenge.md"}, "they are of another model"

    for _ in range(2):  # each night, until the data or the numbers change: nobody is called again
        done = served.run(*RUN)
        assert done.returncode == 0
        assert "Unchanged. nothing new since this was refused: gate: refused: accuracy is 0.3" in done.stdout
    bring(served, "0.31")
    assert "Refused. gate: refused: accuracy is 0.31" in served.run(*RUN).stdout


@pytest.mark.slow
def test_run_that_finds_another_at_work_is_recorded_as_skipped(served):
    with one_writer(served.root, "a person's change"):
        done = served.run(*RUN)

    assert done.returncode == 0
    assert "Skipped. Another run writes here: a person's change" in done.stdout
    assert (last(served).outcome, last(served).ran) == ("skipped", [])


@pytest.mark.slow
def test_lock_that_names_a_living_process_but_that_none_holds_is_taken(served):
    (served.root / FILE).write_text(json.dumps({"process": os.getpid(), "what": "a number used again"}))

    assert served.run(*RUN).returncode == 0
    assert last(served).outcome == "unchanged"


@pytest.mark.slow
def test_training_that_is_killed_for_memory_says_so(served):
    bring(served, "0.95")
    hold(served, "learn")
    process = served.start(*RUN)
    os.kill(held(served, "learn"), signal.SIGKILL)
    said = process.communicate(timeout=90)[0]

    assert process.returncode == 1
    assert "Failed. learn: ended by SIGKILL, most likely because memory ran out" in said
    assert (last(served).outcome, live(served)) == ("failed", "0.9")


@pytest.mark.slow
def test_run_that_is_ended_says_so_and_the_next_one_goes_on(served):
    bring(served, "0.95")
    hold(served, "learn")
    process = start_quietly(served, *RUN)
    child = held(served, "learn")
    process.terminate()

    assert process.wait(60) != 0
    assert (
        last(served).reason == "ended by a person or by the system before it was done; the next run goes on from there"
    )
    assert all_ended([child], 15)
    hold(served, "learn").unlink()
    assert served.run(*RUN).returncode == 0
    assert (last(served).outcome, live(served)) == ("released", "0.95")


@pytest.mark.slow
def test_killed_run_still_counts_as_a_writer_until_its_children_have_ended(served):
    bring(served, "0.95")
    hold(served, "learn")
    process = start_quietly(served, *RUN)
    child = held(served, "learn")
    process.kill()
    with pytest.raises(Exception, match="Another run writes here: retraining"), one_writer(served.root, "a test"):
        pass

    assert all_ended([child], 15)
    hold(served, "learn").unlink()
    with one_writer(served.root, "a test", wait_s=15):
        pass
    end(process)
    assert served.run(*RUN).returncode == 0
    assert [found.outcome for found in records(served)] == ["released", "crashed", "released"]
    assert live(served) == "0.95"


@pytest.mark.slow
def test_run_killed_after_the_switch_is_told_of_and_finished_by_the_next(served):
    bring(served, "0.95")
    free = hold(served, "announce")
    process = start_quietly(served, *RUN)
    child = held(served, "announce")
    process.kill()
    assert all_ended([child], 15)
    end(process)
    free.unlink()
    assert live(served) == "0.95"

    for _ in range(2):
        assert served.run(*RUN).returncode == 0
    assert [(found.outcome, found.serving) for found in records(served)] == [
        ("released", "1"), ("crashed", "2"), ("released", "2"), ("unchanged", "2")
    ]  # fmt: skip
    assert "release" in last(served).seconds, "what a kill left undone is looked at each time"


@pytest.mark.slow
def test_full_disk_is_one_line_and_the_champion_serves_on(served, tmp_path):
    bring(served, "0.95")
    done = served.run(*disks.full_within(served.root, tmp_path / "copy", served.root), *RUN)
    shutil.rmtree(served.root)
    (tmp_path / "copy").rename(served.root)  # there is room again

    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("Failed. ")
    assert line.endswith(
        ": No space left on device. Free some space and run again; what was published before is untouched."
    )
    assert "Traceback" not in done.stderr
    assert live(served) == "0.9"
    assert served.run(*RUN).returncode == 0
    assert live(served) == "0.95"


# Records, pages


@pytest.mark.parametrize(("weights", "size"), [("a", 1000), ("b", None)], ids=["this model's", "an earlier one's"])
def test_figures_have_the_size_and_latency_of_their_own_model_alone(tmp_path, weights, size):
    metrics = {"accuracy": 0.3, "worst_class": "Shirt", "worst_recall": 0.2, "weights": "a"}
    write_json(tmp_path / "data/reports/metrics.json", metrics)
    write_json(tmp_path / "data/reports/export.json", {"bytes": 1000, "latency_us": 50.0, "weights": weights})

    found = runs.figures(tmp_path, trained=True)

    assert (found.accuracy, found.size_bytes, found.latency_us) == (0.3, size, size and 50.0)


@pytest.mark.parametrize(("trained", "seconds"), [(True, 60.0), (False, None)])
def test_training_time_is_that_of_a_run_which_trained(tmp_path, trained, seconds):
    write_json(tmp_path / "data/reports/metrics.json", {"accuracy": 0.3, "worst_class": "Shirt", "worst_recall": 0.2})
    write_json(tmp_path / "data/timings/train.json", {"seconds": 60.0})

    assert runs.figures(tmp_path, trained=trained).training_s == seconds


def test_run_is_covered_by_one_that_ended_later_and_looked_at_all():
    done = record(outcome="released", began="2026-01-02T00:00:00", ended="2026-01-02T01:00:00.000+00:00")

    assert runs.covering([done], "2026-01-02T00:30:00.000+00:00") == done
    assert runs.covering([done], "2026-01-02T01:30:00.000+00:00") is None
    assert runs.covering([done], "2026-01-02T00:30:00.000+00:00", asked=True) is None, "asked for while it was at work"
    assert runs.covering([done], "2026-01-01T23:59:59.000+00:00", asked=True) == done
    assert runs.covering([done.model_copy(update={"outcome": "crashed"})], "2026-01-02T00:30:00.000+00:00") is None


def test_run_that_is_skipped_as_it_begins_has_one_record(tmp_path):
    for reason in ("by who clears up", "by itself, later"):
        runs.write(tmp_path, runs.ended(record(), "skipped", reason))
        time.sleep(1.1)  # an id to the second

    assert [found.reason for found in runs.read_all(tmp_path)[0]] == ["by itself, later"]


def test_record_that_several_write_at_once_fails_none_of_them(tmp_path):
    outcomes_written = ["skipped", "released"] * 100
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda outcome: runs.write(tmp_path, record(outcome=outcome)), outcomes_written))

    (found,), broken = runs.read_all(tmp_path)
    assert (found.outcome in outcomes_written, broken) == (True, [])


def test_record_of_a_clock_that_was_a_year_ahead_skips_nothing():
    ahead = (datetime.fromisoformat(runs.now()) + timedelta(days=365)).isoformat(timespec="milliseconds")

    assert runs.covering([record(outcome="released", ended=ahead)], runs.now()) is None


def test_record_that_cannot_be_read_is_named_and_hides_no_other(tmp_path):
    whole = record(outcome="failed", ended=runs.now(), reason="no network")
    runs.write(tmp_path, whole)
    (tmp_path / runs.FOLDER / "other").mkdir()
    (tmp_path / runs.FOLDER / "other" / runs.RECORD).write_text('{"id": 1}')
    found, broken = runs.read_all(tmp_path)

    assert found == [whole]
    assert len(broken) == 1
    with pytest.raises(DataError, match="is no record of a run. Remove .*other, or bring it back."):
        runs.read(tmp_path / runs.FOLDER / "other")
    assert "is no record of a run" in runs_page.show(tmp_path).read_text()


def test_what_a_record_says_is_shown_as_text(tmp_path):
    hostile = record(outcome="failed", ended=runs.now(), reason="<script>alert(1)</script>")
    folder = runs.write(tmp_path, hostile)
    (folder / "challenge.md").write_text("# <img src=x onerror=alert(1)>\n")
    page = runs_page.show(tmp_path, hostile)

    for file in (page, tmp_path / runs.FOLDER / "index.html"):
        assert "<script" not in file.read_text()
        assert "<img" not in file.read_text()


def test_trends_show_models_that_were_released_or_refused(tmp_path):
    figures = runs.Figures(
        accuracy=0.91, worst_class="Shirt", worst_recall=0.7, size_bytes=1000, latency_us=50.0, training_s=60.0
    )
    outcomes_seen = ("released", "refused", "skipped")
    for number, outcome in enumerate(outcomes_seen):
        shown = figures if outcome != "skipped" else None
        runs.write(tmp_path, record(id=str(number), outcome=outcome, ended=runs.now(), figures=shown))
    page = runs_page.show(tmp_path).read_text()

    assert 'aria-label="Test accuracy, 2 models, the last one 91.00%"' in page
    assert page.count("<svg") == 5


# Outcomes, messages, schedules


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        pytest.param("gate: refused: accuracy is 0.7", "refused", id="in its own words"),
        pytest.param("gate: ended by SIGKILL", "failed", id="killed"),
        pytest.param("gate: connection refused", "failed", id="another's refusal"),
    ],
)
def test_refused_is_not_broken(reason, outcome):
    assert outcomes.of_failure("gate", reason) == outcome


def test_every_outcome_has_a_state_of_its_own():
    names = [outcomes.state(record(outcome=outcome)).name for outcome in outcomes.STATES]

    assert len(set(names)) == len(names) == 6
    assert all(outcomes.state(record(outcome=outcome)).is_final() for outcome in outcomes.STATES)
    assert set(names) > outcomes.WORTH_A_MESSAGE


@pytest.mark.parametrize("address", ["ftp://host/x", "host/x", "https://", "http://[x"])
def test_address_for_messages_that_is_none_is_not_repeated(address):
    said = automations.unusable(address)

    assert said == "SEAMLINE_MESSAGES_TO: Expected an address such as https://host/path. Received another."


@pytest.mark.slow
def test_served_flow_does_what_is_asked_and_ends_what_was_killed(served, client):
    """On a server that has the deployment already, of a pool, its line of the schedule paused by a person."""
    for command in (("work-pool", "create", "seamline", "--type", "process"), ("--no-prompt", "deploy", "--all")):
        served.ok(sys.executable, "-m", "prefect", *command)
    nightly = client.read_deployment_by_name("retraining/retrain-nightly")
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    left = record()
    runs.write(served.root, left)
    process = start_quietly(served, *RUN, "--serve")
    try:
        asked = client.create_flow_run_from_deployment(nightly.id, state=Scheduled())
        assert ended(client, asked.id, 150).name == "Unchanged"
        assert runs.read(served.root / runs.FOLDER / left.id).outcome == "crashed"

        bring(served, "0.95")
        free = hold(served, "learn")
        killed = client.create_flow_run_from_deployment(nightly.id, state=Scheduled())
        held(served, "learn")
        time.sleep(reconciliation.GRACE.total_seconds() + reconciliation.SWEEP_S)
        assert client.read_flow_run(killed.id).state.is_running(), "it is at work"
        os.kill(int(json.loads((served.root / FILE).read_text())["process"]), signal.SIGKILL)
        free.unlink()
        assert ended(client, killed.id, 90).type == "CRASHED"

        process.terminate()
        process.wait(60)
        (line,) = client.read_deployment(nightly.id).schedules
        assert (line.slug, line.active) == ("nightly", False)
        assert not client.read_deployment(nightly.id).paused, "a restart pauses no schedule"
    finally:
        end(process)
        for found in client.read_deployments():
            client.delete_deployment(found.id)
        client.delete_work_pool("seamline")  # the server is every test's


@pytest.mark.slow
def test_messages_end_when_the_address_is_taken_away(server, client):
    with temporary_settings({PREFECT_API_URL: server}):
        assert automations.MESSAGES in automations.bring_up("http://127.0.0.1:9/secret-path")
        CustomWebhookNotificationBlock.load(automations.BLOCK)
        for _ in range(2):
            assert automations.MESSAGES not in automations.bring_up("")

        assert automations.MESSAGES not in {found.name for found in client.read_automations()}
        with pytest.raises(ValueError, match="Unable to find block document"):
            CustomWebhookNotificationBlock.load(automations.BLOCK)
    for found in client.read_automations():
        client.delete_automation(found.id)  # the server is every test's


@pytest.mark.slow
def test_run_that_was_claimed_and_never_began_is_ended_by_the_server(server, client):
    """Killed with its worker before it said a word; no `make schedule` is there to look."""
    with temporary_settings({PREFECT_API_URL: server}):
        automations.bring_up("")
        start = time.monotonic()
        claimed = client.create_flow_run(retraining)
        client.set_flow_run_state(claimed.id, Pending())

        state = ended(client, claimed.id, 100)
        assert (state.type, state.message) == ("CRASHED", automations.DEAD["message"])
        assert automations.SILENT_FOR.total_seconds() <= time.monotonic() - start < 90
    for found in client.read_automations():
        client.delete_automation(found.id)  # the server is every test's


@pytest.mark.slow
def test_automations_that_an_earlier_make_schedule_brought_up_are_removed(server, client):
    with temporary_settings({PREFECT_API_URL: server}):
        assert len(automations.bring_up("")) == 2

        assert automations.bring_up("", ends_dead=False) == []
        assert client.read_automations() == []


@pytest.mark.parametrize(
    ("before", "night", "at"),
    [
        pytest.param("2026-03-27", 1, "2026-03-29T01:30:00+01:00", id="spring, when there is no 02:30: an hour early"),
        pytest.param("2026-10-23", 1, "2026-10-25T02:30:00+02:00", id="autumn, when there are two: the first"),
    ],
)
def test_schedule_runs_once_a_night_across_both_changes_of_summer_time(before, night, at):
    (line,) = deployments.described()[deployments.NIGHTLY]["schedules"]
    start = datetime.fromisoformat(f"{before}T12:00:00+00:00")

    def nights(timezone):
        return asyncio.run(CronSchedule(cron=line["cron"], timezone=timezone).get_dates(4, start))

    assert [moment.day - start.day for moment in nights("Etc/UTC")] == [1, 2, 3, 4]
    assert [moment.day - start.day for moment in nights("Europe/Berlin")] == [1, 2, 3, 4], "none lost, none twice"
    assert nights("Europe/Berlin")[night].isoformat() == at


def test_leash_gives_the_status_of_its_command_and_of_the_signal_that_ended_it():
    assert leash.main(os.getppid(), [], ["sh", "-c", "exit 3"]) == 3
    assert leash.main(os.getppid(), [], ["sh", "-c", "kill -9 $$"]) == 137


def test_leash_outlives_a_process_that_ends_before_it_is_killed():
    gone = subprocess.Popen(["true"])
    gone.wait()
    code = f"""
import os, signal
from flows import leash
signal.signal(signal.SIGTERM, lambda *_: None)
leash.GRACE_S, found = 0, [[{gone.pid}], []]
leash._others = lambda: found.pop(0)
leash._end_others()
"""
    done = subprocess.run([sys.executable, "-c", code], start_new_session=True, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_ticks_that_overlap_and_are_killed_leave_one_record_each_and_never_two_writers(served):
    assert ticks.soak(served.root, served.environment, 5).wrong == []
    assert len(records(served)) > 3


@pytest.mark.slow
def test_ticks_notice_two_writers(served):
    served.ok("sh", "-c", "exec 9>writer; flock -n 9 && sh learn.sh 9>&-")

    assert "two writers: learn\n" in ticks.wrong(served.root)
