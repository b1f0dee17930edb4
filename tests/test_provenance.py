import subprocess

from tasks import provenance


def test_commit_is_the_checkouts(tmp_path):
    def git(*words):
        return subprocess.run(("git", "-C", tmp_path, *words), check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    without = provenance.commit(tmp_path), provenance.here(tmp_path)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "Begin")

    assert without[0] == ""
    assert ", commit unknown, " in without[1]
    assert provenance.commit(tmp_path) == git("rev-parse", "HEAD").strip()
    assert f", commit {git('rev-parse', 'HEAD')[:10]}, " in provenance.here(tmp_path)
