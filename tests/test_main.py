"""The command as a person or DVC runs it: a process of its own. `gate` stands for every stage, being the quickest."""

import errno
import importlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml

from tasks import __main__ as command
from tasks import splits
from tasks.arrays import CLASSES, Split
from tasks.errors import of_memory, worded

HEAVY = {"tensorflow", "keras", "great_expectations", "onnx", "onnxruntime", "pandas", "matplotlib", "requests"}
GATE = ["gate", "metrics.json", "model", "verdict.json", "gate.md"]
BUG = """
import sys
import tasks.__main__, tasks.gate
def run(params):
    raise KeyError("a bug")
tasks.gate.run = run
sys.exit(tasks.__main__.main(["gate"]))
"""
# When the libraries are there, less than the images need.
MEMORY = """
import re, resource, sys
from pathlib import Path
import tasks.__main__, tasks.normalise
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000,) * 2)
sys.exit(tasks.__main__.main(["normalise", "raw", "admitted", "normalised", "normalise.md"]))
"""


def limited(size_bytes):
    """The start of a command in which no file may grow beyond this: as `ulimit -f`, but in bytes."""
    limit = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size_bytes}, {size_bytes}))"
    return sys.executable, "-c", f"{limit}; os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def write_metrics(project):
    """(accuracy): the gate's inputs, of a model with this accuracy that is good enough in every class."""

    def write(accuracy):
        metrics = {"accuracy": accuracy, "classes": {name: {"recall": 0.9} for name in CLASSES}}
        metrics |= {"weights": "a", "test_data": "b"}
        (project / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        (project / "model").mkdir()
        (project / "model/model.json").write_text('{"weights": "a", "data": {"test": "b"}}', encoding="utf-8")

    return write


def python(code, folder, root):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_stage_and_imports_nothing_heavy(run_stage, pytestconfig):
    stages = yaml.safe_load((pytestconfig.rootpath / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

    done = run_stage("--help", before=("env", "PYTHONPROFILEIMPORTTIME=1"))

    assert done.returncode == 0
    assert re.findall(r"^  (\w+) +[A-Z].+\.$", done.stdout.partition("stages:")[2], re.MULTILINE) == [
        *stages,
        "trial",
        "challenge",
        "release",
    ]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "pydantic" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize("module", ["tasks.__main__", "tasks.gate", "tasks.normalise"])
def test_module_that_needs_nothing_heavy_imports_nothing_heavy(module, project, pytestconfig):
    done = python(f"import sys, {module}; print(*sys.modules)", project, pytestconfig.rootpath)

    assert done.stderr == ""
    assert module in done.stdout.split()
    assert set(done.stdout.split()) & HEAVY == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["gat"], "argument STAGE: invalid choice: 'gat'", id="unknown stage"),
        pytest.param([], "the following arguments are required: STAGE", id="no stage"),
        pytest.param(["gate", "--fast"], "unrecognized arguments: --fast", id="unknown option"),
        pytest.param(
            ["gate", "metrics.json"],
            "error: gate takes 4 paths: metrics_file model_folder verdict_file summary. Received 1.",
            id="paths missing",
        ),
    ],
)
def test_wrong_command_is_explained(run_stage, arguments, said):
    done = run_stage(*arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m tasks")
    assert said in done.stderr


def test_stage_that_succeeds_exits_0_and_leaves_its_timing(run_stage, write_metrics, project):
    write_metrics(0.95)

    done = run_stage(*GATE)

    assert (done.returncode, done.stdout, done.stderr) == (0, "gate: passed\n", "")
    timing = json.loads((project / "data/timings/gate.json").read_text(encoding="utf-8"))
    assert list(timing) == ["seconds", "peak_bytes"]
    assert 0 <= timing["seconds"] < 60
    assert 10**7 < timing["peak_bytes"] < 10**9


def test_refusal_is_one_line_and_exit_status_1(run_stage, write_metrics, project):
    write_metrics(0.8999)

    done = run_stage(*GATE)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "gate: refused: accuracy is 0.8999, the limit is 0.9000. Verdict: verdict.json. "
        "What was exported before is untouched.\n"
    )
    assert json.loads((project / "verdict.json").read_text(encoding="utf-8"))["passed"] is False
    assert not (project / "data/timings/gate.json").exists()


def test_unusable_parameter_is_one_line_and_exit_status_1(run_stage, project):
    path = project / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("min_accuracy:", "min_acuracy:"), encoding="utf-8")

    done = run_stage(*GATE)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "gate: params.yaml: gate.min_accuracy is missing; "
        "gate.min_acuracy is not a parameter (did you mean gate.min_accuracy?).\n"
    )


def test_wrong_folder_is_one_line_and_exit_status_1(run_stage, project):
    (project / "params.yaml").unlink()

    done = run_stage(*GATE)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "gate: params.yaml is absent. Run the command in the project's folder.\n"


def test_missing_input_is_one_line_with_the_remedy(run_stage, project):
    done = run_stage(*GATE)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "gate: metrics.json: No such file or directory. "
        "Run `dvc repro` to make it, or `dvc checkout` to bring it back.\n"
    )


def test_broken_input_is_one_line_with_the_remedy(run_stage, project):
    (project / "raw").mkdir()
    (project / "raw/train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")

    done = run_stage("normalise", "raw", "admitted", "normalised", "normalise.md")

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "normalise: raw/train-images-idx3-ubyte is broken: Expected 16 header bytes. Received 4. "
        "Delete it and run `dvc repro ingest`.\n"
    )


def test_bug_keeps_its_traceback(project, pytestconfig):
    done = python(BUG, project, pytestconfig.rootpath)

    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("KeyError: 'a bug'\n")
    assert done.stdout == ""


def test_limit_on_file_sizes_is_one_line_and_the_file_before_stays(run_stage, write_metrics, project):
    write_metrics(0.95)
    (project / "verdict.json").write_text("before")
    before = {path.name for path in project.iterdir()}

    done = run_stage(*GATE, before=limited(100))

    assert (done.returncode, done.stderr) == (1, "")
    assert (
        done.stdout
        == "gate: verdict.json: File too large. Raise the limit on file sizes (`ulimit -f`) and run again.\n"
    )
    assert (project / "verdict.json").read_text() == "before"
    assert {path.name for path in project.iterdir()} == before


def test_limit_on_file_sizes_is_named_also_for_arrays(run_stage, project, garments, write_raw):
    write_raw(project / "raw", garments(601, 1), garments(1, 2))
    splits.write(project / "admitted", "admitted", Split(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)))

    done = run_stage("normalise", "raw", "admitted", "normalised", "normalise.md", before=limited(5000))

    assert (done.returncode, done.stderr) == (1, "")
    assert list((project / "normalised").iterdir()) == []
    assert (
        done.stdout
        == "normalise: normalised/train-images.npy: File too large. Raise the limit on file sizes (`ulimit -f`) and run again.\n"
    )


def test_memory_that_runs_out_is_one_line(pytestconfig, project, garments, write_raw):
    write_raw(project / "raw", garments(6000, 1), garments(1, 2))
    splits.write(project / "admitted", "admitted", Split(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)))

    done = python(MEMORY, project, pytestconfig.rootpath)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "normalise: Memory ran out. End other programs, or give this machine more, and run again.\n"


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (MemoryError(), True),
        (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"), True),
        (type("AbortedError", (Exception,), {})("Operation received an exception:Status: 1, message: could not"), True),
        (
            type("AbortedError", (Exception,), {})("Operation received an exception:Status: 3, message: could not"),
            False,
        ),
        (ValueError("Status: 1, message"), False),
    ],
)
def test_errors_that_say_memory_ran_out_are_known(error, is_so):
    assert of_memory(error) == is_so


def test_fault_of_the_machine_for_want_of_memory_is_worded():
    said = worded(OSError(errno.ENOMEM, "Cannot allocate memory", "a.npy"))
    assert said == "a.npy: Memory ran out. End other programs, or give this machine more, and run again."


def test_limit_that_leaves_no_room_for_temporary_files_is_named(run_stage, write_metrics):
    write_metrics(0.95)

    done = run_stage(*GATE, before=limited(0))

    assert (done.returncode, done.stderr) == (1, "")
    assert "dvc repro" not in done.stdout


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(
            OSError(errno.ENOSPC, "No space left on device"), "No space left on device. Free some space", id="full"
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied", "a.md"), "a.md: Permission denied. Give ", id="right"
        ),
        pytest.param(
            OSError(errno.EIO, "Input/output error", "a.md"), "a.md: Input/output error. Mend this", id="other"
        ),
        pytest.param(OSError("odd"), "odd. Mend this", id="without a number"),
    ],
)
def test_fault_of_the_machine_is_worded_with_its_remedy(error, said):
    assert worded(error).startswith(said)


def load(library):
    """As a stage is loaded, with a note on standard error."""
    with command._quiet_start():
        os.write(2, b"a note\n")
        importlib.import_module(library)


def test_notes_of_loading_libraries_are_held_back(capfd):
    load("json")
    os.write(2, b"afterwards\n")

    assert capfd.readouterr().err == "afterwards\n"


def test_notes_of_libraries_that_do_not_load_are_shown(capfd):
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        load("no_such_library")

    assert capfd.readouterr().err == "a note\n"
