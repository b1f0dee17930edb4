"""The flow `retraining` from end to end: real pictures, every stage, DVC, git, a remote, real challenges and releases.

Only the net is small (`tests.pipeline.SMALL`), and the challenge's floors are low, because so small a net swings.
"""

import json
import re
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows import kept, stages
from tasks import errors, releases, runs, splits
from tasks.arrays import CLASSES
from tests.nightly import answers, ended, records, start_quietly, state, wait_for
from tests.pipeline import Project, all_ended, artifacts, cloned, copy_of
from tests.scheduled import Schedule, connected, environment, record_of, tick

pytest_plugins = ["tests.pipeline"]
pytestmark = pytest.mark.slow
RUN = (sys.executable, "-m", "flows.retraining")
RELEASES, BUNDLE = Path("exports/releases"), Path("exports/bundle")
LOW = {"challenge.max_class_drop": 1.0, "challenge.max_calibration_error": 1.0, "challenge.max_calibration_rise": 1.0}
TAGS = ["seamline#live#1", "seamline#live#2", "seamline@v1.0.0", "seamline@v2.0.0"]
GOES = 300  # seconds until a run has come so far


def train_for(project, epochs, **numbers):
    recipe = project.root / "recipes/swift.yaml"
    recipe.write_text(re.sub(r"(?m)^epochs: \d+$", f"epochs: {epochs}", recipe.read_text()))
    project.change(numbers)


def standing(project):
    return releases.standing(project.root / RELEASES)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def git_sees(project):
    """What of git is a person's: HEAD, the branches, and the index against HEAD."""
    commands = (("symbolic-ref", "HEAD"), ("show-ref", "--heads"), ("diff", "--cached"))
    return [project.ok("git", *command) for command in commands]


@pytest.fixture(scope="module")
def first(finished_flow, server, tmp_path_factory):
    """A project whose model, an epoch's, was released as version 1. Not to be changed: see `second`."""
    folder = tmp_path_factory.mktemp("first")
    project = copy_of(finished_flow[0], folder / "project")
    project = Project(project.root, project.environment | {"PREFECT_API_URL": server})
    project.change(LOW)
    project.dvc("remote", "add", "--default", "shelf", str(folder / "shelf"))
    project.commit("a remote")
    done = project.run(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """Likewise; then the recipe got more epochs, and a run made version 2 of it."""
    project = copy_of(first, tmp_path_factory.mktemp("second") / "project")
    train_for(project, 4)
    before = git_sees(project)
    done = project.run(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git_sees(project) == before
    return project


def test_first_model_is_released_without_a_champion(first):
    (found,) = records(first)

    assert (found.outcome, found.ran, found.serving) == ("released", [], "1")
    assert content(first.root / RELEASES / "live/bundle") == content(first.root / BUNDLE)
    assert json.loads((first.root / "data/challenge.json").read_text())["champion"] is None


def test_better_model_is_trained_challenged_and_released(first, second, client, tmp_path):
    found = records(second)[-1]
    kept = second.root / runs.FOLDER / found.id
    verdict = json.loads((kept / "challenge.json").read_text())
    measured = json.loads((kept / "metrics.json").read_text())

    assert (found.outcome, found.serving) == ("released", "2")
    assert found.ran == stages.names(second.root)[4:], "from `train` on"
    assert set(found.seconds) == {*stages.names(second.root), "challenge", "release"}
    assert set(found.own_seconds) == set(found.ran)
    around = {stage: found.seconds[stage] - own for stage, own in found.own_seconds.items()}
    assert min(around.values()) >= 0, around
    assert verdict["champion"]["accuracy"] < verdict["challenger"]["accuracy"] == found.figures.accuracy
    assert verdict["challenger"]["accuracy"] == measured["accuracy"]
    assert verdict["paired"]["won"] > verdict["paired"]["lost"]
    assert standing(second) == (2, 1)
    assert content(second.root / RELEASES / "2/bundle") == content(second.root / BUNDLE)
    assert content(second.root / RELEASES / "1/bundle") == content(first.root / RELEASES / "1/bundle")
    assert "A new model serves" in (kept / "index.html").read_text()
    shown = artifacts(client, found.flow_run)
    assert {"challenge", "retraining", "train"} <= set(shown)
    assert "McNemar" in shown["challenge"].data
    assert "| outcome | released |" in shown["retraining"].data
    assert second.ok("git", "tag", "--list").split() == TAGS

    clone = cloned(second, tmp_path / "clone")  # what the tag names can be had from the remote alone
    clone.ok("git", "checkout", "--quiet", "seamline@v2.0.0")
    clone.dvc("pull")
    assert content(clone.root / BUNDLE) == content(second.root / BUNDLE)


def test_nothing_new_is_unchanged_a_worse_model_refused_and_a_person_goes_back(second, tmp_path):
    project = copy_of(second, tmp_path / "project")

    done = project.run(*RUN)
    assert "Unchanged. nothing new: 2 serves on" in done.stdout, done.stdout + done.stderr
    assert (done.returncode, records(project)[-1].ran) == (0, [])

    train_for(project, 1, **{"train.seed": 8})
    done = project.run(*RUN)
    refused = records(project)[-1]
    assert done.returncode == 1
    assert done.stdout.startswith("Refused. challenge: refused: "), done.stdout + done.stderr
    assert "worse than the champion: accuracy differs by -0." in done.stdout
    assert (refused.outcome, refused.serving, standing(project)) == ("refused", "2", (2, 1))
    assert 0.3 < refused.figures.accuracy < records(project)[-2].figures.accuracy
    kept = {path.name for path in (project.root / runs.FOLDER / refused.id).iterdir()}
    assert kept >= {"report.html", "metrics.json", "challenge.json", "challenge.md", "index.html"}
    assert content(project.root / RELEASES / "live/bundle") == content(second.root / RELEASES / "2/bundle")

    said = project.ok(sys.executable, "-m", "flows.release", "rollback", "--why", "a test")
    assert "Version 1 is live" in said
    assert content(project.root / RELEASES / "live/bundle") == content(second.root / RELEASES / "1/bundle")


def test_pictures_that_pass_join_the_training_images_alone(first, tmp_path):
    """Trousers as somebody might have photographed them: real ones, a little of each pixel changed."""
    project = copy_of(first, tmp_path / "project")
    normalised, folder = project.root / "data/normalised", project.root / "data/incoming/trouser"
    before = splits.read(normalised, "train"), splits.read(normalised, "test")
    chance = np.random.default_rng(3)
    folder.mkdir(parents=True)
    for number, image in enumerate(before[0].images[before[0].labels == CLASSES.index("Trouser")][:12]):
        changed = image + chance.integers(-15, 16, image.shape) * (image > 0)
        Image.fromarray(changed.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")

    project.run(*RUN)
    found = records(project)[-1]
    after = splits.read(normalised, "train"), splits.read(normalised, "test")
    assert found.outcome in {"released", "refused"}, found.reason
    assert found.ran == stages.names(project.root)[2:], "from `admit` on"
    assert "| admitted | trouser | 12 |" in (project.root / runs.FOLDER / found.id / "admit.md").read_text()
    assert len(after[0].labels) == len(before[0].labels) + 12
    assert after[1].images.tobytes() == before[1].images.tobytes()
    assert "data/admitted" in (project.root / "dvc.lock").read_text()
    assert "Unchanged" in project.run(*RUN).stdout


def test_pictures_that_are_refused_are_told_once_and_their_reasons_kept(second, tmp_path):
    project = copy_of(second, tmp_path / "project")
    folder = project.root / "data/incoming/coat"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"{number}.jpg").write_text(f"no picture {number}")

    done = project.run(*RUN)
    refused = records(project)[-1]
    kept = project.root / runs.FOLDER / refused.id
    assert (done.returncode, refused.outcome, refused.serving) == (1, "refused", "2"), done.stdout + done.stderr
    assert refused.reason.startswith("admit: refused: pictures: “share set aside” sum to be between: observed 1")
    assert len((kept / "reasons.csv").read_text().splitlines()) == 21
    assert "| set aside | unreadable | 20 |" in (kept / "admit.md").read_text()
    assert not (kept / "metrics.json").exists(), "no model was made of them"
    page = (kept / "index.html").read_text()
    assert "The new pictures were refused" in page
    assert "unreadable" in page

    done = project.run(*RUN)
    assert (done.returncode, records(project)[-1].outcome) == (0, "unchanged"), done.stdout + done.stderr
    assert records(project)[-1].reason == runs.STILL + refused.reason

    shutil.rmtree(folder)
    assert "Unchanged. nothing new: 2 serves on" in project.run(*RUN).stdout


def test_release_is_taken_back_by_a_worker_as_prefects_pages_ask(second, machine, tmp_path):
    project = copy_of(Project(second.root, environment(machine, tmp_path)), tmp_path / "project")
    schedule = Schedule(project)
    try:
        schedule.start()
        asked = ("prefect", "deployment", "run", "rollback/take-back", "--param", "why=a test", "--watch")
        said = project.ok(*asked)
        assert standing(project) == (1, None), said
        assert releases.history(project.root / RELEASES)[-1]["why"] == "a test"
        assert schedule.stop() == 0
    finally:
        schedule.kill("flows.schedule", "prefect")


def processes_in(project: Project) -> list[tuple[int, set[str]]]:
    """The processes whose folder this project is, with their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == project.root:
                found.append((int(process.name), set((process / "cmdline").read_text().split("\0"))))
        except OSError:  # it has ended meanwhile
            continue
    return found


def at_work(project: Project, step: str) -> bool:
    return any({"tasks", step} <= words for _, words in processes_in(project))


TRAINS, PROVED, SWITCHED = "as it trains", "as its release is proved", "as it is switched to"
MOMENTS = {
    TRAINS: lambda project: at_work(project, "train"),
    PROVED: lambda project: (project.root / RELEASES / ".tmp.2").exists(),
    SWITCHED: lambda project: (project.root / RELEASES / "2").exists(),
}


def killed_at(moment, first, second, folder):
    """A copy of `first` whose run, which would have made version 2, was killed."""
    project = copy_of(first, folder / "project")
    if moment != TRAINS:  # DVC knows what comes of it, and brings it from its cache
        shutil.rmtree(project.root / ".dvc/cache")
        shutil.copytree(second.root / ".dvc/cache", project.root / ".dvc/cache")
    train_for(project, 4)
    process = start_quietly(project, *RUN)
    try:
        if moment == SWITCHED:  # the flow stands still while its stage goes on: else its record might come first
            wait_for(lambda: MOMENTS[PROVED](project), GOES, PROVED)
            process.send_signal(signal.SIGSTOP)
        wait_for(lambda: MOMENTS[moment](project), GOES, moment)
    finally:
        process.kill()
        process.wait()
    assert all_ended([pid for pid, _ in processes_in(project)], 15)
    return project


@pytest.mark.parametrize("moment", MOMENTS)
def test_run_that_is_killed_leaves_one_release_or_the_other_whole_and_the_next_ends_well(
    first, second, tmp_path, moment
):
    project = killed_at(moment, first, second, tmp_path)

    left = standing(project).live
    assert left in {1, 2}
    assert releases.damage(project.root / RELEASES / str(left)) == []
    assert left == 2 or content(project.root / RELEASES / "live/bundle") == content(first.root / RELEASES / "1/bundle")
    done = project.run(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [found.outcome for found in records(project)] == ["released", "crashed", "released"]
    assert standing(project) == (2, 1)
    assert releases.damage(project.root / RELEASES / "2") == []
    assert content(project.root / RELEASES / "2/bundle") == content(project.root / BUNDLE)
    assert project.ok("git", "tag", "--list").split() == TAGS
    assert project.temporary_files() == []


# At the end of tasks/train.py, when the libraries are there: so much more may the process have, and no more.
LIMITED = """
import resource
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {more_bytes},) * 2)
"""


@pytest.mark.parametrize(
    ("more_bytes", "said"),
    [
        pytest.param(4_000_000, True, id="as it reads"),
        pytest.param(200_000_000, False, id="in TensorFlow"),  # which says so, or crashes
    ],
)
def test_memory_that_runs_out_as_it_trains_fails_the_run_alone(first, tmp_path, more_bytes, said):
    project = copy_of(first, tmp_path / "project")
    train_for(project, 4)
    stage = project.root / "tasks/train.py"
    before = stage.read_text()
    stage.write_text(before + LIMITED.format(more_bytes=more_bytes))
    done = project.run(*RUN)
    failed = records(project)[-1]
    assert done.returncode == 1, done.stdout + done.stderr
    assert failed.reason.startswith("train: "), done.stdout
    if said:
        assert failed.reason == f"train: {errors.OUT_OF_MEMORY}"
    assert (failed.outcome, standing(project).live) == ("failed", 1)
    assert releases.damage(project.root / RELEASES / "1") == []

    stage.write_text(before)
    done = project.run(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (records(project)[-1].outcome, standing(project)) == ("released", (2, 1))
    assert project.temporary_files() == []


KILLED_WITH = {"flow": (), "worker": ("prefect worker start",), "server": ("prefect server start", "uvicorn")}


@pytest.mark.timeout(1800)
def test_run_under_a_worker_is_killed_in_each_of_its_stages_and_as_it_waits_to_try_again(first, machine, tmp_path):
    """The flow alone, then with its worker, then with the server, and so on; `make schedule` brings both back."""
    project = copy_of(Project(first.root, environment(machine, tmp_path)), tmp_path / "project")
    (project.root / "dvc.lock").unlink()  # every stage has to run again, and DVC has kept nothing of any
    shutil.rmtree(project.root / ".dvc/cache")
    train_for(project, 4)
    before = content(project.root / RELEASES / "1/bundle")
    schedule, killed = Schedule(project), {}

    def killed_once(true, what, *victims):
        flow_run = tick(client)
        wait_for(lambda: true(flow_run) or is_over(client, flow_run), GOES, what)
        assert not is_over(client, flow_run), f"it ended before it was seen at {what}"
        left = kept.marked(f"PREFECT__FLOW_RUN_ID={flow_run}")
        schedule.kill("prefect.engine", *victims)
        killed[flow_run] = datetime.now(UTC)
        assert all_ended(left, 15), what
        assert content(project.root / RELEASES / "1/bundle") == before, what
        assert standing(project).live == 1 or (what, standing(project).live) == ("release", 2), what
        wait_for(lambda: answers(project.environment["PREFECT_API_URL"]), 120, "the server")

    try:
        schedule.start()
        with connected(schedule) as client:
            project.change({"ingest.attempts": 0})  # it refuses that, and is tried again after ten seconds
            killed_once(lambda run: waits_to_try_again(client, run), "a second try of ingest")
            project.change({"ingest.attempts": 3})
            steps = [*stages.names(project.root), "challenge", "release"]
            for step, victims in zip(steps, cycle(KILLED_WITH.values()), strict=False):
                killed_once(lambda _, step=step: at_work(project, step), step, *victims)
            last = tick(client)
            assert ended(client, last, GOES).name == "Released"
            for flow_run, moment in killed.items():
                last_state = ended(client, flow_run)
                assert last_state.type == "CRASHED"
                assert last_state.timestamp - moment < timedelta(seconds=90)
                assert record_of(project, flow_run).outcome == "crashed"
        assert standing(project) == (2, 1)
        assert content(project.root / RELEASES / "1/bundle") == before
        assert content(project.root / RELEASES / "2/bundle") == content(project.root / BUNDLE)
        assert project.temporary_files() == []
        assert schedule.stop() == 0
    finally:
        schedule.kill("flows.schedule", "prefect")


def is_over(client, flow_run):
    found = state(client, flow_run)
    return found is not None and found.is_final()


def waits_to_try_again(client, flow_run):
    tasks_of_it = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
    return any(run.state is not None and run.state.name == "AwaitingRetry" for run in tasks_of_it)
