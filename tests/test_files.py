import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import files
from tasks.errors import DataError
from tests.conftest import ROOT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
DISK_FULL = """
import resource
from pathlib import Path
from tasks import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
files.write_bytes(Path("report.json"), bytes(LENGTH))
"""
KILLED = """
import os, signal
from pathlib import Path
from tasks import files
with files.replacing(Path("report.json")) as temporary:
    temporary.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def report(tmp_path):
    """A file written before, alone in its folder."""
    path = tmp_path / "report.json"
    path.write_text("before")
    return path


def python(code, folder):
    """Run code in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def write_half(path):
    with files.replacing(path) as temporary:
        temporary.write_text("half of it")
        raise RuntimeError("half-way")


def content_of(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_replacing_shows_the_old_file_until_the_block_has_ended(report):
    with files.replacing(report) as temporary:
        temporary.write_text("after")
        assert report.read_text() == "before"
        assert temporary.parent == report.parent, "a rename is whole only within one file system"

    assert content_of(report.parent) == {"report.json": "after"}


def test_reader_of_the_old_file_keeps_it_whole(report):
    with report.open() as reader:
        files.write_text(report, "after")

        assert reader.read() == "before"


def test_replacing_makes_the_folder(tmp_path):
    files.write_text(tmp_path / "data/reports/gate.md", "µ")

    assert (tmp_path / "data/reports/gate.md").read_bytes() == b"\xc2\xb5"


def test_failing_block_leaves_the_old_file_and_no_temporary(report):
    with pytest.raises(RuntimeError, match="half-way"):
        write_half(report)

    assert content_of(report.parent) == {"report.json": "before"}


def test_failing_block_of_a_new_file_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half-way"):
        write_half(tmp_path / "report.json")

    assert content_of(tmp_path) == {}


def test_block_that_writes_nothing_leaves_the_old_file(report):
    with pytest.raises(FileNotFoundError, match=r"report\.json"), files.replacing(report):
        pass

    assert content_of(report.parent) == {"report.json": "before"}


@pytest.mark.parametrize("length", [1001, 100_000])
def test_disk_that_is_full_leaves_the_old_file_and_no_temporary(report, length):
    """RLIMIT_FSIZE stands in for the disk: Python ignores SIGXFSZ, so that write fails as on a full one."""
    done = python(DISK_FULL.replace("LENGTH", str(length)), report.parent)

    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: {report.name!r}"
    assert content_of(report.parent) == {"report.json": "before"}


def test_file_that_just_fits_is_written(report):
    done = python(DISK_FULL.replace("LENGTH", "1000"), report.parent)

    assert done.stderr == ""
    assert report.read_bytes() == bytes(1000)


def test_killed_write_leaves_the_old_file_and_the_next_one_clears_up(report):
    done = python(KILLED, report.parent)

    assert done.returncode == -signal.SIGKILL
    assert report.read_text() == "before"
    files.write_text(report, "after")
    assert content_of(report.parent) == {"report.json": "after"}


def test_write_json_known_answer(tmp_path):
    path = tmp_path / "report.json"

    files.write_json(path, {"b": "é", "a": [1, 0.5, None, True]})

    expected = '{\n  "b": "é",\n  "a": [\n    1,\n    0.5,\n    null,\n    true\n  ]\n}\n'
    assert path.read_bytes() == expected.encode()


@given(content=JSON)
def test_json_is_stable_and_comes_back(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "report.json"

    files.write_json(path, content)
    first = path.read_bytes()
    files.write_json(path, files.read_json(path))

    assert path.read_bytes() == first
    assert files.read_json(path) == content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"accuracy": 0.9', id="cut"),
        pytest.param(b'{"accuracy": 0.9}}', id="too much"),
        pytest.param(b'{"name": "\xe9"}', id="not UTF-8"),
        pytest.param(b"\x1f\x8b\x08\x00", id="gzipped"),
        pytest.param(
            b"[" * 100_000,
            id="too deep",
        ),
    ],
)
def test_read_json_refuses(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)

    with pytest.raises(
        DataError, match=r"metrics\.json is not JSON \(.+\)\. Delete it and run the stage that writes it\.$"
    ):
        files.read_json(path)


def test_read_json_leaves_an_absent_file_to_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        files.read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize("content", [b"abc", memoryview(b"abc")], ids=["bytes", "memoryview"])
def test_digest_known_answer(
    content,
):  # https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values
    assert files.digest(content) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_json_known_answer():
    assert files.digest_json({"b": [1, 0.5], "a": "é"}) == files.digest(b'{"a":"\\u00e9","b":[1,0.5]}')


@given(content=st.dictionaries(st.text(), JSON))
def test_digest_json_is_of_the_content_and_not_of_the_order(content):
    reordered = dict(reversed(content.items()))

    assert files.digest_json(reordered) == files.digest_json(content)
    assert files.digest_json({**content, "one more": json.dumps(content)}) != files.digest_json(content)


def test_lock_that_another_process_has_is_refused_if_not_waited_for(tmp_path):
    held = f"import sys; from pathlib import Path; from tasks import files\nwith files.lock(Path({str(tmp_path)!r})): print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(DataError, match="is in use by another run"), files.lock(tmp_path, wait=False):
            pass
        other.kill()

    with files.lock(tmp_path / "made", wait=False):
        assert (tmp_path / "made").is_dir()
