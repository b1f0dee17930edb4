"""Folders as people and attackers leave them: D6 of the faults. Nothing hangs, nothing crashes, memory stays flat."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from seamline import reading
from seamline.progress import Progress
from tests.conftest import ROOT

ODD = [
    b"new\nline.png",
    "\u202ertl.png".encode(),
    "حذاء.png".encode(),
    b"caf\xe9.png",
    b"\x1b[2J.PNG",
    b'a, b".png',
    b"-.png",
]
SHOWN = {r"new\nline.png", r"\u202ertl.png", "حذاء.png", r"caf\udce9.png", r"\x1b[2J.PNG", 'a, b".png', "-.png"}
MANY = 100_000
PEAK_BYTES = 200 * 10**6  # onnxruntime, numpy and 100,000 names


def band(number):
    image = np.zeros((28, 28), np.uint8)
    image[3 * number : 3 * number + 3] = 200
    return image


@pytest.fixture
def shelf(tmp_path):
    """A folder with two pictures."""
    folder = tmp_path / "shelf"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(band(2)).save(folder / "two.png")
    Image.fromarray(band(5)).save(folder / "deep/five.PNG")
    return folder


@pytest.fixture
def seamline(tmp_path, model_file):
    """(command, arguments) → it, run to its end beside the shelf within a minute; `before`: what runs it."""

    def run(command, *arguments, before=(), seconds=60):
        return subprocess.run(
            [*before, sys.executable, "-m", "seamline", command, "--model", model_file, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "SEAMLINE_SLOTS": str(tmp_path / "slots")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    return run


def found(folder):
    return {os.path.relpath(one.name, folder): one.fault for one in reading.found([str(folder)])}


def test_found_are_pictures_in_the_order_of_their_names(shelf):
    (shelf / "notes.txt").write_text("no picture")
    (shelf / "folder.png").mkdir()

    letters = [f"{letter}.jpg" for letter in "qwertzuiopasdfghjklyxcvbnm"]
    for name in letters:
        (shelf / name).touch()

    assert list(found(shelf)) == sorted(["deep/five.PNG", "two.png", *letters])


def test_found_names_are_those_that_were_given(shelf, monkeypatch):
    monkeypatch.chdir(shelf)

    assert [one.name for one in reading.found(["."])] == ["deep/five.PNG", "two.png"]
    assert reading.found(["-", "absent.png", "x" * 300]) == [("-", ""), ("absent.png", ""), ("x" * 300, "")]


def test_links_to_pictures_are_followed_and_links_to_folders_are_not(shelf, tmp_path):
    (tmp_path / "outside").mkdir()
    Image.fromarray(band(7)).save(tmp_path / "outside/seven.png")
    (shelf / "loop").symlink_to(shelf)
    (shelf / "loop.png").symlink_to(shelf)
    (shelf / "outside").symlink_to(tmp_path / "outside")
    (shelf / "seven.png").symlink_to("../outside/seven.png")

    assert found(shelf) == {"deep/five.PNG": "", "seven.png": "", "two.png": ""}


def test_what_is_no_plain_file_is_never_opened(shelf):
    os.mkfifo(shelf / "pipe.png")
    (shelf / "nowhere.png").symlink_to("gone.png")
    (shelf / "itself.png").symlink_to("itself.png")

    nowhere, no_file = "a link that leads nowhere", "not a plain file"
    expected = {"itself.png": nowhere, "nowhere.png": nowhere, "pipe.png": no_file}
    assert {name: fault for name, fault in found(shelf).items() if fault} == expected


def test_folders_in_folders_deeper_than_a_path_may_be_long(shelf):
    """Two thousand of them: os.walk of Python 3.11 would call itself as often, and their path is refused by the kernel."""
    here = os.open(shelf, os.O_RDONLY)
    try:
        for _ in range(2100):
            os.mkdir("d", dir_fd=here)
            here, before = os.open("d", os.O_RDONLY, dir_fd=here), here
            os.close(before)
        faults = {fault for fault in found(shelf).values() if fault}
    finally:
        os.close(here)
        subprocess.run(["rm", "-r", shelf], check=True)  # shutil.rmtree calls itself for each of them

    assert faults == {"the folder cannot be read: File name too long"}


@pytest.mark.parametrize("command", ["classify", "index"])
def test_a_folder_of_traps_is_read_as_far_as_it_can_be(seamline, shelf, command):
    os.mkfifo(shelf / "pipe.png")
    (shelf / "nowhere.png").symlink_to("gone.png")
    (shelf / "loop").symlink_to(shelf)
    (shelf / "empty.png").touch()

    done = seamline(command, "shelf")

    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert len(lines) == 3, lines
    assert "shelf/empty.png: not a picture that can be read" in done.stderr.decode()
    assert {"shelf/nowhere.png: a link that leads nowhere", "shelf/pipe.png: not a plain file"} < set(lines)
    said = done.stdout.decode()
    assert said.startswith("2 pictures, 3 left out.") if command == "index" else said.count("\n") == 2


@pytest.mark.parametrize("command", ["classify", "index"])
def test_files_and_folders_that_may_not_be_read_are_named(seamline, shelf, command):
    (shelf / "two.png").chmod(0)
    (shelf / "closed").mkdir(mode=0)
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()

    done = seamline(command, "shelf", before=powerless)

    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "shelf/closed: the folder cannot be read: Permission denied",
        "shelf/two.png: Permission denied",
    ]


@pytest.fixture
def odd(shelf):
    """The shelf with names that are no text, or more than text."""
    for name in ODD:
        (shelf / os.fsdecode(name)).write_bytes((shelf / "two.png").read_bytes())
    return shelf


def test_odd_names_stay_on_their_line_and_out_of_the_terminal(seamline, odd):
    done = seamline("classify", "--top", "1", "shelf")

    assert done.returncode == 0, done.stderr
    names = {line.partition(": ")[0].removeprefix("shelf/") for line in done.stdout.decode().splitlines()}
    assert names == SHOWN | {"deep/five.PNG", "two.png"}


def test_odd_names_survive_json(seamline, odd):
    done = seamline("classify", "--format", "json", "shelf")

    names = {json.loads(line)["file"].removeprefix("shelf/") for line in done.stdout.splitlines()}
    assert names == {os.fsdecode(name) for name in ODD} | {"deep/five.PNG", "two.png"}


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_odd_names_survive_an_index(seamline, odd, locale):
    by_locale = ("env", "-u", "PYTHONUTF8", f"LC_ALL={locale}", "PYTHONCOERCECLOCALE=0")
    made = seamline("index", "shelf", before=by_locale)

    done = seamline("similar", "--format", "json", "-k", "99", "shelf/two.png")

    assert made.returncode == done.returncode == 0, made.stderr + done.stderr
    names = {one["name"] for one in json.loads(done.stdout)["similar"]}
    assert names == {os.fsdecode(name) for name in ODD} | {"deep/five.PNG", "two.png"}


def test_odd_names_of_broken_files_are_one_line_each(seamline, odd):
    for name in ODD:
        (odd / os.fsdecode(name)).write_bytes(b"no picture")

    done = seamline("classify", "shelf")

    lines = done.stderr.decode().splitlines()
    assert {line.partition(": ")[0].removeprefix("shelf/") for line in lines} == SHOWN
    assert all(line.isprintable() for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["classify", "index"])
def test_100_000_files_take_little_memory(tmp_path, seamline, shelf, command):
    """Links to two pictures, and a broken one in a hundred; the peak is the kernel's figure."""
    (shelf / "broken").write_bytes(b"no picture")
    for number in range(MANY):
        target = "broken" if number % 100 == 99 else ("two.png", "deep/five.PNG")[number % 2]
        if number % 1000 == 0:
            folder = shelf / f"{number:06}"
            folder.mkdir()
        os.link(shelf / target, folder / f"{number:06}.png")
    watch = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(code)"
    )

    done = seamline(command, "shelf", before=(sys.executable, "-c", watch), seconds=280)

    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert done.stderr.decode().count("not a picture that can be read") == MANY / 100
    assert len(lines) == (99_003 if command == "classify" else 2)
    assert int(lines[-1]) <= PEAK_BYTES


class Terminal:
    """Standard error as a terminal has it: what was written, and a clock that is turned by hand."""

    def __init__(self, monkeypatch, capsys, *, watched):
        self.now, self._capsys = 0.0, capsys
        monkeypatch.setattr(sys.stderr, "isatty", lambda: watched, raising=False)

    def progress(self, total, **options):
        return Progress(total, clock=lambda: self.now, **options)

    def written(self):
        return self._capsys.readouterr().err


def test_a_person_sees_a_bar_and_the_time_left(monkeypatch, capsys):
    terminal = Terminal(monkeypatch, capsys, watched=True)
    progress = terminal.progress(1000)

    terminal.now = 20.0
    progress.show(250)
    progress.say("bad.png: not a picture")
    terminal.now = 80.0
    progress.show(1000)

    assert terminal.written() == (
        f"\r{'━' * 7}{'─' * 23} 250 of 1,000, 2 min left\x1b[K"
        "\r\x1b[Kbad.png: not a picture\n"
        f"\r{'━' * 30} 1,000 of 1,000\x1b[K\n"
    )


def test_a_log_gets_a_plain_line_now_and_then(monkeypatch, capsys):
    log = Terminal(monkeypatch, capsys, watched=False)
    progress = log.progress(1000)

    for log.now in (1.0, 11.0, 12.0, 22.0, 30.0):
        progress.show(int(log.now * 30))
    progress.say("bad.png: not a picture")

    assert log.written() == "330 of 1,000, 23 s left\n660 of 1,000, 12 s left\nbad.png: not a picture\n"


def test_a_log_of_a_silent_command_gets_nothing(monkeypatch, capsys):
    log = Terminal(monkeypatch, capsys, watched=False)
    progress = log.progress(1000, silent=True)

    log.now = 60.0
    progress.show(500)

    assert log.written() == ""


def test_a_bar_stays_away_from_answers_on_the_same_terminal(monkeypatch, capsys):
    terminal = Terminal(monkeypatch, capsys, watched=True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    terminal.progress(1000, silent=True).show(1000)
    assert terminal.written() == ""
    terminal.progress(1000).show(1000)
    assert terminal.written() != ""


def test_few_pictures_have_no_bar(monkeypatch, capsys):
    terminal = Terminal(monkeypatch, capsys, watched=True)

    terminal.progress(19).show(19)

    assert terminal.written() == ""
