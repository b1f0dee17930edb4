import os
import socket
import sys

import pytest
import yaml

from tasks import incoming
from tests.pipeline import new

pytest_plugins = ["tests.pipeline"]

ODD = {
    "coat/pipe.png",
    "coat/socket.png",
    "coat/nowhere.png",
    "coat/endless.png",
    "coat/caf\udce9.png",
    "co\udcff/1.png",
}
WALK = """
import sys
from flows import stages
with stages.Dvc() as dvc:
    print(*dvc.reproduce("admit"), sep="\\n")
"""


@pytest.fixture
def folder(tmp_path):
    """data/incoming as it may be found."""
    folder = tmp_path / "incoming"
    (folder / "coat/deep").mkdir(parents=True)
    for name in ("README.md", "coat/1.png", "coat/deep/2.png", "coat/new\nline.png", "coat/.half", "a.png"):
        (folder / name).write_text(name)
    return folder


def spoil(folder):
    """Add what DVC cannot read: `ODD`; and links that it can."""
    coat = folder / "coat"
    coat.mkdir(exist_ok=True)
    os.mkfifo(coat / "pipe.png")
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(os.path.relpath(coat / "socket.png"))
    (coat / "nowhere.png").symlink_to("gone.png")
    (coat / "endless.png").symlink_to("/dev/zero")
    (coat / "link.png").symlink_to("1.png")
    (coat / "loop").symlink_to(coat)
    (coat / "caf\udce9.png").write_text("1")
    (folder / "co\udcff").mkdir()
    (folder / "co\udcff/1.png").write_text("1")
    (coat / "1.png").write_text("1")


def test_found_is_everything_but_unfinished_work_in_the_order_of_names(folder):
    (folder / ".hidden").mkdir()
    (folder / ".hidden/3.png").touch()

    names = [one.path for one in incoming.found(folder)]

    assert names == ["a.png", "coat/1.png", "coat/deep/2.png", "coat/new\nline.png"]
    assert [one.kind for one in incoming.found(folder)] == ["", "coat", "coat", "coat"]


def test_folder_that_is_not_there_has_nothing(tmp_path):
    assert incoming.found(tmp_path / "absent") == []
    assert incoming.sweep(tmp_path / "absent", tmp_path / "aside") == []


def test_link_is_not_followed_though_it_came_late(folder):
    (folder / "coat/3.png").symlink_to("1.png")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        incoming.read(folder / "coat/3.png")


def test_pipe_is_not_waited_for_though_it_came_late(folder):
    os.mkfifo(folder / "pipe")

    assert incoming.read(folder / "pipe") == b""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("Coats", r"Coats is no kind (did you mean coat?)", id="near"),
        pytest.param("T-shirt", r"T-shirt is no kind (did you mean t-shirt-top?)", id="large letters"),
        pytest.param(
            "a\nb\x1b", r"a\nb\x1b is no kind (known: t-shirt-top, trouser, ", id="what a terminal would obey"
        ),
        pytest.param("", "it lies in no kind's folder (known: t-shirt-top, ", id="none"),
    ],
)
def test_no_kind_names_the_nearest(name, said):
    assert incoming.no_kind(name).startswith(said)


def test_sweep_moves_what_dvc_cannot_read_and_nothing_else(folder, tmp_path):
    spoil(folder)
    kept = {one.path for one in incoming.found(folder)} - ODD

    said = incoming.sweep(folder, tmp_path / "aside")

    assert {one.path for one in incoming.found(folder)} == kept
    assert kept >= {"coat/1.png", "coat/link.png", "coat/loop", "coat/new\nline.png"}
    assert {one.path for one in incoming.found(tmp_path / "aside")} == ODD
    assert (tmp_path / "aside/coat/caf\udce9.png").read_text() == "1"
    assert len(said) == len(ODD)
    assert sorted(said)[1] == (
        rf"{folder}/coat/caf\udce9.png is a name that is no UTF-8, which DVC cannot read: "
        rf"moved to {tmp_path}/aside/coat/caf\udce9.png."
    )


def test_sweep_overwrites_nothing(folder, tmp_path):
    for content in ("first", "second", "third"):
        (folder / "coat/caf\udce9.png").write_text(content)
        incoming.sweep(folder, tmp_path / "aside")

    contents = {path.name: path.read_text() for path in (tmp_path / "aside/coat").iterdir()}
    assert contents == {"caf\udce9.png": "first", "caf\udce9.png.2": "second", "caf\udce9.png.3": "third"}


@pytest.fixture
def project(machine, tmp_path):
    """A project with one stage, `admit`, that lists data/incoming."""
    project = new(tmp_path / "project", machine, ("flows", "tasks", "seamline"))
    stage = {"cmd": "find data/incoming | sort > list.txt", "deps": ["data/incoming"], "outs": ["list.txt"]}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"admit": stage}}))
    return project


@pytest.mark.slow
def test_run_does_not_wait_for_a_pipe_nor_break_at_a_name(project):
    os.chdir(project.root)  # a socket's path must be short
    spoil(project.root / "data/incoming")

    done = project.run(sys.executable, "-c", WALK, timeout_s=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("which DVC cannot read: moved to data/unreadable/") == len(ODD)
    assert b"coat/1.png" in (project.root / "list.txt").read_bytes()
    assert {one.path for one in incoming.found(project.root / "data/unreadable")} == ODD
    assert project.dvc("status") == "Data and pipelines are up to date.\n"


@pytest.mark.slow
def test_unfinished_work_does_not_make_a_stage_stale_and_a_new_picture_does(project):
    project.ok(sys.executable, "-c", WALK)
    coat = project.root / "data/incoming/coat"
    coat.mkdir()
    (coat / ".half-written.png").write_bytes(b"half")
    assert project.ok(sys.executable, "-c", WALK) == "admit: up to date\n"

    (coat / ".half-written.png").rename(coat / "whole.png")

    project.ok(sys.executable, "-c", WALK)
    assert "coat/whole.png" in (project.root / "list.txt").read_text()
