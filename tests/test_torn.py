"""A kill while DVC writes leaves nothing that a person has to mend: X5 of docs/faults.md."""

import shutil
import sys

import pytest

from flows import torn
from tests.conftest import ROOT
from tests.nightly import bring, live, made, records

pytest_plugins = ["tests.pipeline"]
RUN = (sys.executable, "-m", "flows.retraining")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_lock_that_was_torn_is_as_before(tmp_path, share):
    whole = (ROOT / "dvc.lock").read_bytes()
    with pytest.raises(InterruptedError), torn.mended(tmp_path):
        raise InterruptedError
    for place, content in ((torn.LOCK, whole[: int(share * len(whole))]), (torn.BEFORE, whole)):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(content)

    with torn.mended(tmp_path):
        assert (tmp_path / torn.LOCK).read_bytes() == whole

    assert not (tmp_path / torn.BEFORE).exists()


def test_lock_that_somebody_changed_after_a_kill_stays(tmp_path):
    changed = (ROOT / "dvc.lock").read_bytes().replace(b"md5: ", b"md5: 0")
    (tmp_path / torn.BEFORE).parent.mkdir(parents=True)
    (tmp_path / torn.BEFORE).write_bytes((ROOT / "dvc.lock").read_bytes())
    (tmp_path / torn.LOCK).write_bytes(changed)

    with torn.mended(tmp_path):
        assert (tmp_path / torn.LOCK).read_bytes() == changed


@pytest.mark.slow
@pytest.mark.parametrize("file", [torn.LOCK, torn.NOTE], ids=["dvc.lock", "rwlock"])
def test_kill_while_dvc_writes_is_mended_by_the_next_run(machine, server, tmp_path, file):
    strace = shutil.which("strace")
    assert strace, "strace is not installed. Debian: apt-get install strace"
    project = made(tmp_path / "project", machine | {"PREFECT_API_URL": server})
    assert project.run(*RUN).returncode == 0
    bring(project, "0.95")
    kill = (strace, "-f", "-qq", "-o", "/dev/null", "-P", str(project.root / file), "-e", "trace=write")
    killed = project.run(
        *kill, "-e", "inject=write:signal=SIGKILL", "sh", "-c", f"echo learn | {sys.executable} -m flows.repro"
    )
    assert killed.returncode == 137, killed.stderr
    assert (project.root / file).read_bytes() == b"", "it is not torn"

    done = project.run(*RUN)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (records(project)[-1].outcome, live(project)) == ("released", "0.95")
