"""One writer at a time, until the last process that has the lock ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks import writer
from tasks.errors import BusyError
from tasks.writer import FILE, one_writer
from tests.conftest import ROOT

HOLD = """
import subprocess, sys, time
from pathlib import Path
from tasks.writer import one_writer
with one_writer(Path(sys.argv[1]), "a run of the test") as descriptor:
    if len(sys.argv) > 2:
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({sys.argv[2]})"], pass_fds=[descriptor])
    print("held", flush=True)
    time.sleep(60)
"""


def holder(root: Path, *child_sleeps: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), *child_sleeps], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_writer_is_refused_while_another_writes_and_told_who(tmp_path):
    other = holder(tmp_path)
    with pytest.raises(BusyError, match=f"a run of the test, process {other.pid}"), one_writer(tmp_path, "mine"):
        pass
    other.kill()
    other.communicate()
    with one_writer(tmp_path, "mine"):
        assert "mine" in (tmp_path / FILE).read_text()


def test_writer_waits_for_the_others_end(tmp_path):
    other = holder(tmp_path)
    with subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {other.pid}"]), one_writer(tmp_path, "mine", wait_s=30):
        assert other.wait() == -9
    other.communicate()


def test_writer_counts_a_child_that_outlives_the_run(tmp_path):
    other = holder(tmp_path, "1.5")
    other.kill()
    other.wait()
    with pytest.raises(BusyError, match="Another run writes here"), one_writer(tmp_path, "mine"):
        pass
    start = time.monotonic()
    with one_writer(tmp_path, "mine", wait_s=30):
        assert time.monotonic() - start < 29
    other.communicate()


def test_writer_writes_though_its_note_cannot_be_written(tmp_path):
    code = "import pathlib, sys; from tasks.writer import one_writer\nwith one_writer(pathlib.Path(sys.argv[1]), 'a run'): print('held')"
    done = subprocess.run(
        ["prlimit", "--fsize=0", sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr
    assert (tmp_path / FILE).read_bytes() == b""


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b"\xff", b'{"what": 1}'], ids=["empty", "torn", "list", "bytes", "part"]
)
def test_writer_says_what_it_can_of_a_note_that_is_torn(tmp_path, note):
    other = holder(tmp_path)
    (tmp_path / FILE).write_bytes(note)
    with pytest.raises(BusyError, match=r"^Another run writes here\. Wait"), one_writer(tmp_path, "mine"):
        pass
    other.kill()
    other.communicate()


def test_command_runs_as_the_one_writer_and_its_status_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert writer.main(["make compare", "sh", "-c", f"grep 'make compare' {FILE} && exit 3"]) == 3


def test_command_is_not_begun_while_another_writes(tmp_path, monkeypatch, capsys):
    other = holder(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writer, "WAIT_S", 0)

    assert writer.main(["make compare", "touch", "begun"]) == 1

    other.kill()
    other.communicate()
    assert capsys.readouterr().out.startswith("make compare: Another run writes here: a run of the test, process")
    assert not Path("begun").exists()


@pytest.mark.parametrize("target", ["compare", "folds", "tune", "bench-training"])
def test_experiments_bring_their_data_up_to_date_as_the_one_writer(target):
    said = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f'python -m tasks.writer "make {target}" dvc repro' in said
    assert said.count("dvc ") == 1
