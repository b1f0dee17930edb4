"""A release that is killed, or finds a disk full, while it proves, mends, pushes and tags: X5, V2 and V4 of docs/faults.md.

With a real git, a real DVC and a real remote. tests/test_release.py does the same without them, at every step of the
switch itself. strace stops or kills a process at the very system call; git is caught by a script in its place.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
import yaml

from tasks import releases
from tests import disks
from tests.keeping import Kept, owned, spoil, with_remote
from tests.nightly import wait_for
from tests.pipeline import ROOT, all_ended, children, end
from tests.publishing import RELEASE, is_sound

pytest_plugins = ["tests.keeping", "tests.publishing", "tests.pipeline"]
pytestmark = pytest.mark.slow

MODEL = "exports/bundle/model.onnx"
TAGS = ["seamline#live#1", "seamline#live#2", "seamline@v1.0.0", "seamline@v2.0.0"]
ONE, ALL, PARENT = "the one that does it", "all of the release", "all but the one that does it"  # is killed
STOPPED = re.compile(r"(\d+) +--- stopped by SIGSTOP")
VERSION_TAG, LIVE_TAG = "tag --annotate*seamline@v2.0.0", "tag --annotate*seamline#live#2"
GIT = """#!/bin/sh
case "$*" in *{command}*) exec {strace} {git} "$@" ;; esac
exec {git} "$@"
"""


class World(NamedTuple):
    """A checkout with one release and the next one let through, and the remote, a folder."""

    kept: Kept
    shelf: Path

    def in_cache(self) -> Path:
        return self.kept.cached(MODEL)

    def aside(self) -> Path:
        return self.in_cache().with_name(f".tmp.{self.in_cache().name}")

    def in_remote(self) -> Path:
        return self._shelved(self.in_cache())

    def list_in_remote(self) -> Path:
        return self._shelved(self.kept.cached(None))

    def proved(self) -> Path:
        return self.kept.releases / ".tmp.2/bundle/model.onnx"

    def _shelved(self, place: Path) -> Path:
        return self.shelf / "files/md5" / place.parent.name / place.name


@pytest.fixture
def world(kept, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with_remote(kept, str(tmp_path / "shelf"))
    return World(kept, tmp_path / "shelf")


def watch(tmp_path, call, how, when=1):
    """strace, which stops or kills whoever makes this system call, for the first time or a later one."""
    number = "SIGKILL" if how == ONE else "SIGSTOP"
    return ["strace", "-f", "-qq", "-o", str(tmp_path / "calls"), "-e", f"trace={call}", "-e", f"inject={call}:signal={number}:when={when}"]  # fmt: skip


def killed(kept, before, how, log):
    """Release, and kill as it is asked; what the release said if it was not killed."""
    if how == ONE:
        done = kept.release(before)
        assert "killed by SIGKILL" in log.read_text(), done.stdout
        return done.stdout
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "tasks", "release", *RELEASE], cwd=kept.root, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    try:
        stopped = wait_for(lambda: log.is_file() and STOPPED.search(log.read_text()), 60, "it is stopped")
        if how == PARENT:
            os.kill(children(process.pid)[0], signal.SIGKILL)
            os.kill(int(stopped[1]), signal.SIGCONT)
            Thread(target=process.wait).start()  # strace ends with the last one
            return ""
    except BaseException:
        end(process)
        raise
    end(process)
    assert all_ended([int(stopped[1])])
    return ""


def check_next_release(world, before):
    """What is live is the old release or the new one; then the plain command does all that is left, and git is the owner's."""
    kept = world.kept
    assert is_sound(kept) in {(1, None), (2, 1)}

    done = kept.release()

    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("git|not ", done.stdout), done.stdout
    assert is_sound(kept) == (2, 1)
    assert [event["version"] for event in releases.history(kept.releases)] == [1, 2]
    assert kept.sh("git", "tag", "--list").split() == TAGS
    assert owned(kept) == before
    kept.sh("git", "add", "code.py")
    assert list((kept.root / ".git").rglob("*.lock")) == []
    assert [path.name for path in kept.releases.glob(".*")] == [".lock"]
    assert list((kept.root / ".dvc/cache").rglob(".tmp.*")) == []
    has_all(world)


def has_all(world):
    """The remote has every file of the release, by digest."""
    stages = yaml.safe_load((world.kept.releases / "live/dvc.lock").read_text())["stages"].values()
    for md5 in [out["md5"] for stage in stages for out in stage["outs"]]:
        listed = json.loads(shelved(world.shelf, md5))
        assert [shelved(world.shelf, entry["md5"]) for entry in listed]


def shelved(shelf, md5):
    content = (shelf / "files/md5" / md5[:2] / md5[2:]).read_bytes()
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")
    return content


@pytest.mark.parametrize(
    ("call", "file", "how"),
    [
        pytest.param("read", World.proved, ONE, id="the proof"),
        pytest.param("read", World.proved, ALL, id="all at the proof"),
        pytest.param("unlink", World.list_in_remote, ONE, id="a list in the remote is empty"),
    ],
)
def test_release_killed_as_it_proves_or_pushes_a_list(world, tmp_path, call, file, how):
    before = owned(world.kept)

    said = killed(world.kept, [*watch(tmp_path, call, how), "-P", str(file(world))], how, tmp_path / "calls")

    assert how != ONE or re.match(r"release: not released: .*ended by SIGKILL\.", said), said
    check_next_release(world, before)


@pytest.mark.parametrize(
    ("copied", "how"),
    [
        pytest.param(1, ONE, id="nothing"),
        pytest.param(4, ALL, id="two files"),
        pytest.param(4, PARENT, id="two files, and what pushes goes on alone"),
        pytest.param(9, ONE, id="all files of a folder"),
        pytest.param(17, ALL, id="all files"),
    ],
)
def test_release_killed_when_the_remote_has(world, tmp_path, copied, how):
    """Two calls copy a file, first the files of a folder, then its list."""
    before = owned(world.kept)

    said = killed(world.kept, watch(tmp_path, "sendfile", how, copied), how, tmp_path / "calls")

    assert how != ONE or "the remote 'shelf' took it not: ended by SIGKILL." in said
    check_next_release(world, before)


@pytest.mark.parametrize(
    ("call", "file", "how"),
    [
        pytest.param("rename", World.in_cache, ALL, id="what is spoilt is set aside"),
        pytest.param("unlink", World.in_cache, ONE, id="the new file is empty"),
        pytest.param("chmod", World.in_cache, ALL, id="the new file is there"),
        pytest.param("unlink", World.aside, ONE, id="what is spoilt is about to go"),
    ],
)
def test_release_killed_as_it_mends_the_cache(world, tmp_path, call, file, how):
    world.kept.sh("dvc", "push")
    spoil(world.in_cache())
    before = owned(world.kept)

    killed(world.kept, [*watch(tmp_path, call, how), "-P", str(file(world))], how, tmp_path / "calls")

    assert is_sound(world.kept) == (1, None)
    with_notes = world.kept.release()
    assert with_notes.returncode == 0, with_notes.stdout
    check_next_release(world, before)


@pytest.mark.parametrize(
    ("command", "call", "when", "how"),
    [
        pytest.param("read-tree", "rename", 1, ONE, id="the index of its own"),
        pytest.param("update-index", "link", 1, ALL, id="dvc.lock"),
        pytest.param("write-tree", "link", 1, ONE, id="the tree"),
        pytest.param("commit-tree", "link", 1, ALL, id="the commit"),
        pytest.param(VERSION_TAG, "link", 1, ONE, id="the version's tag"),
        pytest.param(VERSION_TAG, "write", 3, ONE, id="the version's tag is locked"),
        pytest.param(VERSION_TAG, "write", 3, ALL, id="all as the version's tag is locked"),
        pytest.param(LIVE_TAG, "write", 3, ALL, id="all as the tag of what is live is locked"),
    ],
)
def test_release_killed_within_git(world, tmp_path, command, call, when, how):
    before, strace = owned(world.kept), " ".join(watch(tmp_path, call, how, when))
    script = tmp_path / "in-the-way/git"
    script.parent.mkdir()
    quoted = re.sub(r"([^*]+)", r'"\1"', command)
    script.write_text(GIT.format(command=quoted, strace=strace, git=shutil.which("git")))
    script.chmod(0o755)

    killed(world.kept, ["env", f"PATH={script.parent}:{os.environ['PATH']}"], how, tmp_path / "calls")

    check_next_release(world, before)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        pytest.param("shelf", "not released: the remote 'shelf' took it not: .*No space left", id="the remote"),
        pytest.param("kept/.dvc/cache", "not released: .* spoilt in DVC's cache, .*No space left", id="DVC's cache"),
        pytest.param("kept/.git", r"version 2 is live; not recorded in git \(.*; no git tag \(", id="git's folder"),
        pytest.param("kept/exports/releases", "No space left on device", id="the releases"),
    ],
)
def test_release_on_a_disk_that_is_full(world, tmp_path, folder, said):
    full, copy = tmp_path / folder, tmp_path / "copy"
    full.mkdir(exist_ok=True)
    if full.name == "cache":
        world.kept.sh("dvc", "push")
        spoil(world.in_cache())
    before = owned(world.kept)

    done = world.kept.release(disks.full_within(full, copy, world.kept.root))
    shutil.rmtree(full)
    copy.rename(full)  # there is room again

    assert re.search(f"^release: .*{said}", done.stdout), done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert is_sound(world.kept) == ((1, None) if done.returncode else (2, 1))
    if full.name == "cache":
        assert "1 files of DVC's cache were spoilt and are mended" in world.kept.release().stdout
    check_next_release(world, before)


@pytest.mark.parametrize("lost", [World.in_remote, World.list_in_remote], ids=["a file", "a list"])
@pytest.mark.parametrize("half", [False, True], ids=["absent", "cut short"])
def test_remote_that_lost_something_has_it_again_after_the_next_release(world, lost, half):
    world.kept.sh("dvc", "push")
    world.kept.sh("dvc", "push")  # DVC notes what is there
    place = lost(world)
    content = place.read_bytes()
    place.unlink()
    if half:
        place.write_bytes(content[: len(content) // 2])

    check_next_release(world, owned(world.kept))


def test_owners_index_is_not_locked_at_any_moment(world, tmp_path):
    (world.kept.root / "code.py").touch()  # git would like to note that it is as it was
    log = tmp_path / "calls"

    done = world.kept.release(("strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=openat"))

    assert done.returncode == 0, done.stdout
    assert "/.git/index" in log.read_text()
    assert f"{world.kept.root}/.git/index.lock" not in log.read_text()
    assert '".git/index.lock"' not in log.read_text()
