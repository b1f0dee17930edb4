"""What DVC and git keep of a release: checked by digest, pushed, tagged; the checkout's owner finds everything as it was."""

import getpass
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tasks import releases, stored, tags
from tasks.errors import ReleaseError
from tasks.tags import GitError
from tests.keeping import Kept, owned, spoil, with_remote
from tests.publishing import RELEASE
from tests.remote import READ_ONLY, ssh_server

pytest_plugins = ["tests.keeping", "tests.publishing", "tests.pipeline"]
pytestmark = pytest.mark.slow


def refused(kept, said):
    before = releases.standing(kept.releases)
    done = kept.release()
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("release: not released: "), done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert said in done.stdout
    assert releases.standing(kept.releases) == before
    assert releases.damage(kept.releases / str(before.live)) == []
    assert list(kept.releases.glob(".tmp.*")) == []


def succeeds(kept):
    done = kept.release()
    assert done.returncode == 0, done.stdout + done.stderr
    assert kept.live == 2
    return done.stdout


def test_release_is_pushed_and_comes_back_from_its_tag(kept, tmp_path):
    (kept.root / "code.py").write_text("second = 2\n")  # not committed
    kept.record()
    with_remote(kept, str(tmp_path / "shelf"))

    assert succeeds(kept) == "release: version 2 is live\n"

    clone = Kept(tmp_path / "clone")
    subprocess.run(["git", "clone", "-q", str(kept.root), str(clone.root)], check=True)
    clone.sh("git", "checkout", "-q", "seamline@v2.0.0")
    with_remote(clone, str(tmp_path / "shelf"))
    clone.sh("dvc", "pull")
    assert (clone.root / "code.py").read_text() == "second = 2\n"
    for file in (kept.releases / "live/bundle").iterdir():
        assert (clone.root / "exports/bundle" / file.name).read_bytes() == file.read_bytes()


def test_head_index_and_working_tree_stay_the_owners(kept):
    (kept.root / "code.py").write_text("staged = 1\n")
    kept.sh("git", "add", "code.py")
    (kept.root / "code.py").write_text("not_staged = 2\n")
    (kept.root / "notes.txt").write_text("mine")
    kept.record()
    hook = kept.root / ".git/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {kept.root}/hooked\n")
    hook.chmod(0o755)
    before = owned(kept)

    succeeds(kept)

    assert owned(kept) == before
    assert not (kept.root / "hooked").exists()
    assert kept.sh("git", "show", "seamline@v2.0.0:code.py") == "not_staged = 2"
    assert kept.sh("git", "rev-parse", "seamline@v2.0.0^{commit}^") == before[0]
    assert "notes.txt" not in kept.sh("git", "ls-tree", "-r", "--name-only", "seamline@v2.0.0")


def test_gto_knows_versions_and_what_is_live(kept):
    succeeds(kept)
    assert kept.by_hand("rollback", "--why", "calls bags coats").returncode == 0

    shown = json.loads(kept.sh("gto", "show", "--json"))
    found = kept.sh("gto", "show", "seamline#live", "--ref")

    assert shown["seamline"]["version"] == "v2.0.0"
    assert found.splitlines()[-1] == "seamline@v1.0.0"
    assert kept.sh("git", "tag", "--list").split() == ["seamline#live#1", "seamline#live#2", "seamline#live#3", "seamline@v1.0.0", "seamline@v2.0.0"]  # fmt: skip
    assert "calls bags coats" in kept.sh("git", "tag", "-n", "--list", "seamline#live#3")


def test_tags_that_a_kill_prevented_are_made_by_the_next_run(kept):
    succeeds(kept)
    kept.sh("git", "tag", "--delete", "seamline@v2.0.0", "seamline#live#2")

    succeeds(kept)
    succeeds(kept)

    assert kept.sh("git", "tag", "--list").split() == ["seamline#live#1", "seamline#live#2", "seamline@v1.0.0", "seamline@v2.0.0"]  # fmt: skip


def test_git_that_cannot_write_holds_no_release_up(kept):
    shutil.rmtree(kept.root / ".git/refs/tags")
    (kept.root / ".git/refs/tags").write_text("in the way")

    said = succeeds(kept)

    assert "no git tag (" in said
    assert said.endswith("the next run tries again\n")
    (kept.root / ".git/refs/tags").unlink()
    succeeds(kept)
    assert "seamline@v2.0.0" in kept.sh("git", "tag", "--list")


def test_repository_without_a_commit_is_said(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    with pytest.raises(GitError):
        tags.head(tmp_path)


def test_no_git_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(GitError, match="git: No such file"):
        tags.head(tmp_path)


def test_bundle_that_dvc_lock_does_not_name_is_refused(kept):
    kept.train(3, 0.95)  # by hand, past DVC
    assert kept.challenge().returncode == 0

    refused(kept, "exports/bundle is not what dvc.lock names. Run `dvc repro`.")


@pytest.mark.parametrize("what", ["exports/bundle/model.onnx", None], ids=["a file", "the list of a folder"])
def test_rotten_cache_is_mended_from_the_remote(kept, tmp_path, what):
    with_remote(kept, str(tmp_path / "shelf"))
    kept.sh("dvc", "push")
    good = kept.cached(what).read_bytes()
    spoil(kept.cached(what))

    assert "1 files of DVC's cache were spoilt and are mended" in succeeds(kept)
    assert kept.cached(what).read_bytes() == good


def test_cache_that_lost_a_file_is_mended_from_the_remote(kept, tmp_path):
    with_remote(kept, str(tmp_path / "shelf"))
    kept.sh("dvc", "push")
    kept.cached("exports/bundle/model.onnx").unlink()

    assert "1 files of DVC's cache were spoilt" in succeeds(kept)


def test_rotten_cache_without_a_remote_is_refused(kept):
    place = kept.cached("exports/bundle/model.onnx")
    spoil(place)
    before = place.read_bytes()

    refused(kept, "exports/bundle is spoilt in DVC's cache, and there is no remote to bring it back from")

    assert place.read_bytes() == before


def test_rotten_cache_and_rotten_remote_are_refused(kept, tmp_path):
    with_remote(kept, str(tmp_path / "shelf"))
    kept.sh("dvc", "push")
    place = kept.cached("exports/bundle/model.onnx")
    spoil(place)
    spoil(tmp_path / "shelf/files/md5" / place.parent.name / place.name)

    refused(kept, "the remote 'shelf' has no good one either")


def test_remote_over_ssh_that_is_away_or_read_only_is_refused_and_taken_once_it_is_back(kept, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with ssh_server(tmp_path / "read-only", READ_ONLY) as (port, key):
        with_remote(kept, f"ssh://{getpass.getuser()}@127.0.0.1:{port}{shelf}", keyfile=key)
        refused(kept, "the remote 'shelf' took it not:")
    refused(kept, "the remote 'shelf' took it not:")  # nobody listens there any more
    assert list(shelf.rglob("*.onnx")) == []

    with ssh_server(tmp_path / "back") as (port, key):
        kept.sh(
            "dvc", "remote", "modify", "--local", "shelf", "url", f"ssh://{getpass.getuser()}@127.0.0.1:{port}{shelf}"
        )
        kept.sh("dvc", "remote", "modify", "--local", "shelf", "keyfile", str(key))
        assert succeeds(kept) == "release: version 2 is live\n"

    assert len(list((shelf / "files/md5").glob("*/*"))) >= 8


def test_remote_that_is_full_is_refused(kept, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with_remote(kept, str(shelf))
    small = f'mount -t tmpfs -o size=64k tmpfs {shelf} && exec "$@"'
    alone = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small, "sh")

    done = kept.release(before=alone)

    assert done.returncode == 1
    assert re.match("release: not released: the remote 'shelf' took it not: .*No space left", done.stdout), done.stdout
    assert kept.live == 1
    assert succeeds(kept) == "release: version 2 is live\n"


def test_push_that_does_not_end_is_ended(kept, tmp_path):
    with_remote(kept, str(tmp_path / "shelf"))
    kept.change(release__push_timeout_s=0.05)

    refused(kept, "the remote 'shelf' took it not: no end after 0.05 s. Mend it")


def test_dvc_that_is_broken_is_one_line(kept):
    (kept.root / ".dvc/config").write_text("[core")

    with pytest.raises(ReleaseError, match="not released: DVC: "):
        stored.found(kept.root)


def test_collection_of_dvcs_cache_takes_nothing_of_a_release(kept):
    succeeds(kept)
    before = releases.described(kept.releases / "1")
    kept.sh("dvc", "gc", "--workspace", "--force")

    assert releases.described(kept.releases / "1") == before
    assert kept.by_hand("rollback").returncode == 0
    assert kept.live == 1


def test_other_outputs_than_caches_are_not_looked_for(kept):
    content = yaml.safe_load((kept.root / "dvc.lock").read_text())
    content["stages"]["bundle"]["outs"].append({"path": "exports/version.json", "md5": "0" * 32})
    (kept.root / "dvc.lock").write_text(yaml.safe_dump(content))
    described = yaml.safe_load((kept.root / "dvc.yaml").read_text())
    described["stages"]["bundle"]["outs"].append({"exports/version.json": {"cache": False}})
    (kept.root / "dvc.yaml").write_text(yaml.safe_dump(described))

    assert set(stored.outputs(stored.found(kept.root))) == {"data/normalised", "exports/bundle"}
    assert RELEASE[1] == "exports/bundle"
    assert Path("exports/bundle") in {Path(path) for path in stored.outputs(stored.found(kept.root))}
