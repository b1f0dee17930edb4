"""What the tests of DVC and git share: a checkout that both keep, with a release and one that may follow it."""

import hashlib
import shutil
import subprocess

import pytest
import yaml

from tests.publishing import Checkout, new_checkout

STAGES = {
    "prepare": {"cmd": "true", "outs": [{"data/normalised": {"persist": True}}]},
    "bundle": {
        "cmd": "true",
        "deps": ["code.py"],
        "params": ["bundle"],
        "outs": [{"exports/bundle": {"persist": True}}],
    },
}


class Kept(Checkout):
    """A checkout that git and DVC keep."""

    def sh(self, *command, check=True):
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if check and done.returncode:
            pytest.fail(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def record(self):
        """What `dvc repro` does of stages that have run."""
        self.sh("dvc", "commit", "--force", "--quiet")

    def cached(self, path):
        """Where DVC's cache has a file of an output."""
        top = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"]["bundle"]["outs"][0]["md5"]
        place = self.root / ".dvc/cache/files/md5"
        if path is None:
            return place / top[:2] / top[2:]
        md5 = hashlib.md5((self.root / path).read_bytes(), usedforsecurity=False).hexdigest()
        return place / md5[:2] / md5[2:]

    def challenged(self, version, recall):
        self.train(version, recall)
        self.record()
        assert self.challenge().returncode == 0


@pytest.fixture(scope="module")
def own_machine(machine):
    """DVC and git without settings of this machine's owner."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machine.items():
            if name.startswith(("DVC_", "GIT_")):
                patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def kept_once(own_machine, tmp_path_factory):
    found = Kept(new_checkout(tmp_path_factory.mktemp("kept") / "checkout", per_class=200).root)
    (found.root / "code.py").write_text("first = 1\n")
    (found.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (found.root / ".dvc").mkdir()
    (found.root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (found.root / ".gitignore").write_text("/data\n/exports\n/.dvc/cache\n/.dvc/tmp\n/.dvc/config.local\n__pycache__\n")
    for command in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "Owner"),
        ("config", "user.email", "o@localhost"),
    ):
        found.sh("git", *command)
    found.train(1, 0.91)
    found.sh("git", "add", "-A")
    found.sh("git", "commit", "-qm", "code")
    found.record()
    assert found.challenge().returncode == 0
    done = found.release()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "release: version 1 is live; DVC has no default remote: nothing is pushed\n"
    return found.root


@pytest.fixture
def kept(kept_once, tmp_path):
    """A checkout with one release, and a second one that the challenge lets through."""
    found = Kept(shutil.copytree(kept_once, tmp_path / "kept", symlinks=True))
    found.challenged(2, 0.92)
    return found


def with_remote(kept, address, **options):
    kept.sh("dvc", "remote", "add", "--local", "--default", "shelf", address)
    for name, value in options.items():
        kept.sh("dvc", "remote", "modify", "--local", "shelf", name, str(value))


def spoil(path):
    """As a disk does: one bit, and the file is still read-only."""
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    path.chmod(0o444)


def owned(kept):
    """What belongs to the person who owns the checkout."""
    return [kept.sh("git", "rev-parse", "HEAD"), kept.sh("git", "branch", "--all", "-v"), kept.sh("git", "stash", "list"),
            kept.sh("git", "diff", "--cached"), kept.sh("git", "status", "--porcelain"), (kept.root / ".git/HEAD").read_text(),
            kept.sh("git", "ls-files", "--stage"), (kept.root / "code.py").read_text()]  # fmt: skip
