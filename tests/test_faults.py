"""What breaks a run in the middle loses nothing: a kill, a full disk and no network, in every stage, on the real data.

The faults are real: strace kills a stage as it is about to publish a file, a tmpfs of its own (in a mount namespace)
is full, a network namespace is empty.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.pipeline import Project, end

pytest_plugins = ["tests.pipeline"]
pytestmark = pytest.mark.slow

PUBLISHED = {  # one file of each stage
    "ingest": "data/raw/train-images-idx3-ubyte",
    "validate": "data/reports/expectations.json",
    "admit": "data/admitted/admitted-images.npy",
    "normalise": "data/normalised/train-images.npy",
    "train": "data/model/model.weights.h5",
    "evaluate": "data/reports/predictions.csv",
    "gate": "data/reports/verdict.json",
    "export": "exports/model.onnx",
    "quantise": "exports/int8",
    "bundle": "exports/bundle",
    "report": "data/report.html",
}
CHANGED = {  # a number for each stage, so that it has to run
    "ingest": {"ingest.attempts": 2},
    "validate": {"validate.max_copies_within": 11},
    "admit": {"admit.views": 2},
    "normalise": {"normalise.seed": 8},
    "train": {"train.seed": 8},
    "evaluate": {"evaluate.confused_pairs": 4},
    "gate": {"gate.min_accuracy": 0.29},
    "export": {"export.max_difference": 0.00002},
    "quantise": {"quantise.images": 999},
    "bundle": {"bundle.golden_per_class": 2},
    "report": {"report.mistakes": 10},
}
FOLLOW_THE_MODEL = ("evaluate", "gate", "export", "quantise", "bundle", "report")
WALK = """
import sys
from flows import stages
with stages.Dvc() as dvc:
    for stage in sys.argv[1:]:
        try:
            for line in dvc.reproduce(stage):
                print(line)
        except stages.StageFailedError as error:
            sys.exit(f"failed: {error}")
"""
CLEAN = "Data and pipelines are up to date.\n"
KILL = 'exec {strace} -f -qq -o /dev/null -P {file} -e trace=rename,renameat2 -e inject=rename,renameat2:signal=SIGKILL "$@"\n'
FILL = "cat /dev/zero > filler 2>/dev/null\n"
ROOM_BYTES = 64 * 2**20  # on the disk that is filled, beside the project


def walked(project, *stages):
    """Bring stages up to date as the flow does."""
    return project.run(sys.executable, "-c", WALK, *stages)


def failure(done):
    """The one line that says why."""
    found = [line.removeprefix("failed: ") for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(found) == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return found[0]


def break_stage(project, stage, script):
    """From now on a stage's command is run by a shell script, which gets it as its arguments."""
    path = project.root / "dvc.yaml"
    content = yaml.safe_load(path.read_text())
    content["stages"][stage]["cmd"] = f"sh fault.sh {content['stages'][stage]['cmd']}"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    (project.root / "fault.sh").write_text(script)
    project.change(CHANGED[stage])


def killing(strace, file):
    """The script that kills a stage as it is about to rename onto a file."""
    path = Path(file)
    return KILL.format(strace=strace, file=path.with_name(f".tmp.{path.name}"))


def mend(project):
    """Take the fault and the changed number back."""
    (project.root / "filler").unlink(missing_ok=True)
    (project.root / "fault.sh").unlink()
    project.ok(
        "git",
        "checkout",
        "--quiet",
        "dvc.yaml",
        "dvc.lock",
        "params.yaml",
        "data/reports/metrics.json",
        "exports/version.json",
    )


def loses_nothing(project, stage, before):
    """What was published is there; everything else comes back; and the same change without the fault runs."""
    for published in ("exports/model.onnx", "exports/bundle/manifest.json", "exports/bundle/model.onnx"):
        assert (project.root / published).read_bytes() == before[published], "what was published has changed"

    mend(project)
    project.dvc("checkout", "--force")
    assert project.outputs() == before
    assert project.dvc("status") == CLEAN

    project.change(CHANGED[stage])
    done = walked(project, stage)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "up to date" not in done.stdout
    assert project.temporary_files() == []


@pytest.fixture
def strace():
    found = shutil.which("strace")
    if not found:
        pytest.fail("strace is not installed. Debian: apt-get install strace")
    return found


@pytest.mark.parametrize("stage", CHANGED)
def test_kill_as_a_stage_publishes(finished, strace, stage):
    before = finished.outputs()
    break_stage(finished, stage, killing(strace, PUBLISHED[stage]))

    done = walked(finished, stage)

    assert failure(done).startswith(f"{stage}: ended by SIGKILL")
    assert finished.temporary_files() != [], "it was not killed in the middle of writing"
    loses_nothing(finished, stage, before)


@pytest.mark.parametrize("file", ["data/reports/export.json", "data/reports/export.md"])
def test_kill_between_the_files_that_export_publishes(finished, strace, file):
    before = finished.outputs()
    break_stage(finished, "export", killing(strace, file))

    assert failure(walked(finished, "export")).startswith("export: ended by SIGKILL")
    mend(finished)
    finished.change(CHANGED["export"])
    done = walked(finished, "export", "report")

    assert done.returncode == 0, done.stdout + done.stderr
    assert (finished.root / "exports/model.onnx").read_bytes() == before["exports/model.onnx"]


class Disk(NamedTuple):
    """A project on a small disk that only processes of one mount namespace see."""

    inside: Project
    keeper: int  # the process that keeps the namespace

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self.keeper}/root{self.inside.root}")

    @property
    def environment(self) -> dict[str, str]:
        return self.inside.environment

    def run(self, *command, **environment):
        space = f"/proc/{self.keeper}/ns"
        enter = ("nsenter", f"--user={space}/user", f"--mount={space}/mnt", "--preserve-credentials")
        at = ("sh", "-c", 'cd "$0" && exec "$@"', str(self.inside.root))
        return Project(Path("/"), self.environment).run(*enter, *at, *command, **environment)

    ok, dvc, change = Project.ok, Project.dvc, Project.change
    outputs, temporary_files = Project.outputs, Project.temporary_files


@pytest.fixture
def disk(finished, tmp_path):
    """`finished` on a disk of its own, with little room."""
    size = sum(path.stat().st_size for path in finished.root.rglob("*") if path.is_file()) + ROOM_BYTES
    folder = tmp_path / "disk"
    folder.mkdir()
    script = f"mount -t tmpfs -o size={size} tmpfs {folder} && cp -a {finished.root}/. {folder} && echo ready && read x"
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if keeper.stdout.readline() != "ready\n":
            pytest.fail("This machine gives no mount namespace: `unshare --user --map-root-user --mount` failed.")
        yield Disk(Project(folder, finished.environment), keeper.pid)
    finally:
        end(keeper)
        keeper.stdin.close()
        keeper.stdout.close()


@pytest.mark.parametrize("stage", CHANGED)
def test_disk_that_is_full_when_a_stage_writes(disk, stage):
    before = disk.outputs()
    break_stage(disk, stage, FILL + 'exec "$@"\n')

    assert "No space left on device" in failure(walked(disk, stage))

    loses_nothing(disk, stage, before)


@pytest.mark.parametrize("stage", ["ingest", "train", "export"])
def test_disk_that_is_full_when_dvc_records(disk, stage):
    before = disk.outputs()
    break_stage(disk, stage, '"$@" && ' + FILL + "true\n")

    assert "No space left on device" in failure(walked(disk, stage))

    loses_nothing(disk, stage, before)


def test_no_network(finished):
    before = finished.outputs()
    break_stage(finished, "ingest", 'exec "$@"\n')
    finished.change({"ingest.folder": ""})
    hide = 'test ! -d /usr/share/datasets || mount -t tmpfs tmpfs /usr/share/datasets; exec "$@"'  # Debian's package
    alone = ("unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", hide, "sh")

    done = finished.run(*alone, sys.executable, "-c", WALK, "ingest")

    assert failure(done).startswith("ingest: Fashion-MNIST could not be had")
    assert "into a folder, name it in params.yaml" in failure(done)
    assert (finished.root / "exports/model.onnx").read_bytes() == before["exports/model.onnx"]
    mend(finished)
    finished.dvc("checkout", "--force")
    assert finished.outputs() == before


def test_whole_run_after_a_kill_in_training_ends_well(finished, strace):
    break_stage(finished, "train", killing(strace, PUBLISHED["train"]))
    walked(finished, "train")
    mend(finished)
    finished.change(CHANGED["train"])

    done = walked(finished, "train", *FOLLOW_THE_MODEL)

    assert done.returncode == 0, done.stdout + done.stderr
    assert finished.dvc("status") == CLEAN


def test_a_misspelt_recipe_loses_no_model(finished):
    before = finished.outputs()
    finished.change({"train.recipe": "swoft"})

    done = walked(finished, "train")

    assert "'recipes/swoft.yaml' does not exist (did you mean swift?)" in failure(done)
    assert {**before, **finished.outputs()} == before
    assert set(before) - set(finished.outputs()) == {"data/reports/train.md"}
