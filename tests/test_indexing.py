"""`seamline index` and `seamline similar`, as a shell sees them, and the guide's example as written."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import seamline as runtime
from seamline import indexing, likeness
from seamline.similar import ALIKE
from tests.conftest import ROOT

GUIDE = (ROOT / "docs/device.md").read_text(encoding="utf-8").partition("## What is like it")[2].partition("\n## ")[0]


def band(number, grey=200):
    image = np.zeros((28, 28), np.uint8)
    image[3 * number : 3 * number + 3] = grey
    return image


@pytest.fixture
def place(tmp_path):
    """A folder `shop` with a picture for each of ten kinds, one of them in a folder of its own."""
    (tmp_path / "shop/deep").mkdir(parents=True)
    for kind in range(10):
        name = "deep/7.png" if kind == 7 else f"{kind}.png"
        Image.fromarray(band(kind)).save(tmp_path / "shop" / name)
    Image.fromarray(band(7, 180)).save(tmp_path / "asked.png")
    return tmp_path


@pytest.fixture
def environment(place):
    return os.environ | {"PYTHONPATH": str(ROOT), "SEAMLINE_SLOTS": str(place / "slots")}


@pytest.fixture
def seamline(place, environment, model_file):
    """(command, arguments) → it, run to its end in that folder."""

    def run(command, *arguments, given=None, model=model_file):
        return subprocess.run(
            [sys.executable, "-m", "seamline", command, "--model", model, *arguments],
            cwd=place,
            env=environment,
            input=given,
            capture_output=True,
            check=False,
        )

    return run


@pytest.fixture
def indexed(seamline):
    assert seamline("index", "shop", "--out", "shop.index").returncode == 0


def test_index_names_pictures_by_their_path_in_the_folder(seamline, place):
    done = seamline("index", "shop/")

    index = likeness.read(place / "index.safetensors")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == (
        "10 pictures. What is like one: seamline similar PICTURE --index index.safetensors\n"
    )
    assert sorted(index.names) == [*(f"{kind}.png" for kind in (0, 1, 2, 3, 4, 5, 6, 8, 9)), "deep/7.png"]


def test_index_again_is_the_same_file(seamline, place, indexed):
    before = (place / "shop.index").read_bytes()

    seamline("index", "shop", "--out", "shop.index")

    assert (place / "shop.index").read_bytes() == before


def test_build_gives_the_same_index_to_a_program(place, model_file, indexed):
    index = indexing.build(runtime.Classifier(model_file), place / "shop", refuse=print)

    assert index.names == likeness.read(place / "shop.index").names
    np.testing.assert_array_equal(index.embeddings, likeness.read(place / "shop.index").embeddings)


def test_similar_shows_a_table(seamline, indexed):
    done = seamline("similar", "asked.png", "-k", "2", "--index", "shop.index")

    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[:2] == ["asked.png", "   1.000  deep/7.png"]
    assert len(lines) == 3
    assert lines[2].endswith("(not alike)") == (float(lines[2].split()[0]) < ALIKE)


def test_similar_writes_json_lines(seamline, place, indexed):
    done = seamline("similar", "-", "-k", "3", "--index", "shop.index", "--format", "json", given=(place / "asked.png").read_bytes())  # fmt: skip

    found = json.loads(done.stdout)
    assert found["file"] == "-"
    assert found["similar"][0]["name"] == "deep/7.png"
    assert found["similar"][0]["likeness"] == pytest.approx(1, abs=1e-5)
    assert len(found["similar"]) == 3
    assert [one["alike"] for one in found["similar"]] == [one["likeness"] >= ALIKE for one in found["similar"]]


def test_similar_writes_csv_of_many_pictures(seamline, indexed):
    done = seamline("similar", "shop", "-k", "1", "--index", "shop.index", "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [row["file"] for row in rows] == [f"shop/{row['name']}" for row in rows]
    assert {(row["rank"], row["likeness"], row["alike"]) for row in rows} == {("1", "1.000000", "true")}
    assert len(rows) == 10


def test_similar_goes_on_after_a_bad_picture(seamline, indexed):
    done = seamline("similar", "absent.png", "asked.png", "--index", "shop.index")

    assert done.returncode == 1
    assert done.stderr.decode() == "absent.png: No such file or directory\n"
    assert done.stdout.decode().startswith("asked.png\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("index", "absent"), "absent is no folder", id="no folder"),
        pytest.param(("index", "asked.png"), "asked.png is no folder", id="a picture"),
        pytest.param(("index", "slots"), "slots is no folder", id="an absent folder"),
        pytest.param(("index", "empty"), "empty: no picture in it can be read", id="an empty folder"),
        pytest.param(("index", "shop", "--out", "shop"), "Received --out shop.", id="onto a folder"),
        pytest.param(("index", "shop", "--out", "no/where"), "Received --out no/where.", id="into no folder"),
        pytest.param(("similar", "asked.png"), "There is no index at index.safetensors", id="no index"),
        pytest.param(("similar", "asked.png", "--index", "asked.png"), "is no index that Seamline wrote", id="a picture as index"),
        pytest.param(("similar", "empty", "--index", "shop.index"), "No pictures there: empty", id="nothing asked"),
        pytest.param(("classify", "empty"), "No pictures there: empty", id="nothing to classify"),
    ],
)  # fmt: skip
def test_refusal_is_one_line_and_exit_status_1(seamline, place, indexed, arguments, said):
    (place / "empty").mkdir()

    done = seamline(*arguments)

    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(place, environment, model_file):
    (place / "shop").chmod(0o555)
    command = [sys.executable, "-m", "seamline", "index", "--model", model_file, "shop", "--out", "shop/index"]
    powerless = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []

    done = subprocess.run(
        [*powerless, *command], cwd=place, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (1, "shop cannot be written to. Name another place: --out FILE\n")


def test_a_number_below_one_is_a_wrong_command_line(seamline):
    done = seamline("similar", "asked.png", "-k", "0")

    assert done.returncode == 2
    assert "expected a number from 1 on. Received '0'" in done.stderr.decode()


def test_an_index_of_another_model_is_refused(seamline, indexed):
    done = seamline("similar", "asked.png", "--index", "shop.index", model=ROOT / "seamline/reference")

    assert done.returncode == 1
    assert "Make it again: seamline index FOLDER" in done.stderr.decode()


def test_a_folder_in_which_nothing_can_be_read_leaves_the_old_index(seamline, place, indexed):
    before = (place / "shop.index").read_bytes()
    for path in (place / "shop").rglob("*.png"):
        path.write_bytes(b"no picture")

    done = seamline("index", "shop", "--out", "shop.index")

    assert done.returncode == 1
    assert (place / "shop.index").read_bytes() == before


def test_interrupted_it_leaves_the_old_index(place, environment, model_file, indexed):
    """It is given pictures for half a minute, and interrupted at the first of them."""
    before = (place / "shop.index").read_bytes()
    for number in range(30_000):
        os.link(place / "shop/1.png", place / f"shop/deep/x{number}.png")
    command = [sys.executable, "-m", "seamline", "index", "--model", model_file, "shop", "--out", "shop.index"]
    with subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True) as running:
        while "onnxruntime" not in Path(f"/proc/{running.pid}/maps").read_text():
            time.sleep(0.02)
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()

    assert running.returncode == 130, said
    assert said == "\nInterrupted. shop.index is as it was.\n"
    assert (place / "shop.index").read_bytes() == before


def test_the_guide_s_example_works_as_written(tmp_path, environment):
    """The commands and then the program, by the bundle that is in git."""
    shell, python = (re.search(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL).group(1) for kind in ("sh", "python"))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/seamline").write_text(f'#!/bin/sh\nexec {sys.executable} -m seamline "$@"\n')
    (tmp_path / "bin/seamline").chmod(0o755)
    there = environment | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}

    said = subprocess.run(["sh", "-e", "-c", shell], cwd=tmp_path, env=there, capture_output=True, text=True, check=False)  # fmt: skip
    done = subprocess.run([sys.executable, "-c", python], cwd=tmp_path, env=there, capture_output=True, text=True, check=False)  # fmt: skip

    assert (said.returncode, said.stderr) == (0, "")
    assert "   1.000  sneaker.png\n" in said.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"sneaker\.png 1\.00\n(\S+\.png 0\.\d\d\n){2}$", done.stdout)
