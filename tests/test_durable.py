"""DVC killed as it writes its own files: X5 of docs/faults.md. strace kills it at the very system call."""

import json
import os
import shutil
import sys

import pytest

from flows import durable
from tests.nightly import bring, live, made, records

pytest_plugins = ["tests.pipeline"]
pytestmark = pytest.mark.slow
RUN = (sys.executable, "-m", "flows.retraining")


@pytest.fixture
def project(machine, server, tmp_path):
    return made(tmp_path / "project", machine | {"PREFECT_API_URL": server})


def kill(project, call, *files):
    """Bring the first stage up to date, and kill DVC at its first such call on one of these files."""
    strace = shutil.which("strace")
    assert strace, "strace is not installed. Debian: apt-get install strace"
    watched = [word for file in files for word in ("-P", str(project.root / file))]
    inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL")
    learn = f"echo learn | {sys.executable} -m flows.repro"
    killed = project.run(strace, "-f", "-qq", "-o", os.devnull, *watched, *inject, "sh", "-c", learn)
    assert killed.returncode == 137, killed.stderr


def check_next_run(project):
    done = project.run(*RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (records(project)[-1].outcome, live(project)) == ("released", "0.95")


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("earlier", [True, False], ids=["later", "first"])
def test_kill_while_dvc_lock_is_written_leaves_the_one_before(project, call, earlier):
    if earlier:
        assert project.run(*RUN).returncode == 0
    bring(project, "0.95")
    lock = project.root / "dvc.lock"
    before = lock.read_bytes() if earlier else b""

    kill(project, call, "dvc.lock", ".tmp.dvc.lock")

    assert (lock.read_bytes() if lock.exists() else b"") == before
    check_next_run(project)


def test_kill_while_dvcs_note_is_written_is_mended_by_the_next_run(project):
    bring(project, "0.95")

    kill(project, "write", durable.NOTE)

    assert (project.root / durable.NOTE).read_bytes() == b"", "it is not torn"
    check_next_run(project)


def test_process_that_was_killed_holds_up_nobody_though_another_has_its_number(project):
    bring(project, "0.95")
    note = project.root / durable.NOTE
    killed = {"pid": os.getpid(), "cmd": str(project.root / "flows/repro.py")}
    other = killed | {"cmd": "dvc pull"}
    note.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(project.root / path) for path in ("incoming.txt", "data/model.txt", "elsewhere")]
    note.write_text(json.dumps({"read": {paths[0]: [killed]}, "write": {paths[1]: killed, paths[2]: other}}))

    check_next_run(project)

    assert json.loads(note.read_bytes())["write"] == {paths[2]: other}, "what others note stays"
