"""`seamline bench`, and the page that `make bench-runtime` makes of it."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks import runtime
from seamline import Classifier, bench, bundle, pictures, slots
from tasks import folders
from tests.conftest import ROOT

FOUND = {
    "precision": "float32",
    "classify": {"median_us": 120.0, "p95_us": 130.0},
    "session_run": {"median_us": 110.0, "p95_us": 120.0},
    "beyond_session_run_us": 10.0,
    "picture_file": {"median_us": 4000.0, "p95_us": 5000.0},
    "start": {"import_ms": 100.0, "numpy_ms": 80.0, "first_answer_ms": 450.0, "resident_bytes": 60_000_000},
}
TIMES = [
    {"own": {"ONNX Runtime": 100.0}, "rival": {"ONNX Runtime": 500.0, "LiteRT": 400.0}},
    {"own": {"ONNX Runtime": 90.0}, "rival": {"ONNX Runtime": 300.0, "LiteRT": 350.0}},
]


@pytest.fixture
def folder(tmp_path, bundle_files):
    folders.fill(tmp_path / "bundle", bundle_files(4))
    return tmp_path / "bundle"


@pytest.fixture
def command(tmp_path):
    """(arguments) → `seamline bench`, run to its end."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "seamline", "bench", "--seconds", "0.1", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "SEAMLINE_SLOTS": str(tmp_path / "slots")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_bench_measures_everything_as_json(command, folder):
    done = command("--model", folder, "--format", "json")

    found = json.loads(done.stdout)
    assert (found["version"], found["precision"]) == (4, "float32")
    assert 0 < found["session_run"]["median_us"] < found["classify"]["median_us"] <= found["classify"]["p95_us"]
    assert found["classify"]["median_us"] < found["picture_file"]["median_us"]
    assert set(found["images_per_second"]) == {"64", "512"}
    assert 10 < found["start"]["numpy_ms"] < found["start"]["import_ms"] < found["start"]["first_answer_ms"]
    assert 20e6 < found["start"]["resident_bytes"] < 200e6


def test_bench_shows_a_table_of_what_is_in_service_and_counts_no_start(command, folder, tmp_path):
    slots.install(tmp_path / "slots", folder)

    done = command()

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/slots/a, version 4, float32, one thread\n")
    assert [line[:39].rstrip() for line in done.stdout.splitlines()[3:]] == [
        "one array, classify",
        "  of it, the bare session.run",
        "  beyond it",
        "one picture file, read and classified",
        "64 arrays a call",
        "512 arrays a call",
        "import seamline",
        "start of a process to its first answer",
        "resident memory then",
    ]
    assert slots.read(tmp_path / "slots").starts == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--picture", "absent.png"), "absent.png", id="no such picture"),
        pytest.param(
            ("--picture", "bundle/card.md"), "bundle/card.md: not a picture that can be read", id="no picture"
        ),
        pytest.param(("--model", "nowhere"), "There is no model at nowhere", id="no bundle"),
        pytest.param(("--key", "bundle/card.md"), "expected an Ed25519 public key", id="no key"),
        pytest.param(("--seconds", "0"), "Expected more than 0 seconds. Received 0.0.", id="no time"),
    ],
)
def test_bench_refuses_in_one_line(command, folder, arguments, said):
    done = command("--model", folder, *arguments)

    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_calls_take_turns_until_the_time_is_over():
    order = []

    found = bench.in_turn(
        {"slow": lambda: (order.append("slow"), time.sleep(0.01)), "fast": lambda: order.append("fast")}, 0.2
    )

    assert order == ["slow", "fast"] * (len(order) // 2)
    assert 5 <= len(order) // 2 <= 21
    assert 10_000 <= found["slow"].median_us <= found["slow"].p95_us
    assert found["fast"].median_us < 1000


def test_calls_in_a_row_are_so_many():
    order = []

    bench.in_turn({"one": lambda: order.append(1), "two": lambda: order.append(2)}, 0.001, in_a_row=3)

    assert order[:10] == [1, 2, 1, 1, 1, 2, 2, 2, 1, 1], "after one of each to warm up"


def test_made_png_is_what_pillow_reads(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (30, 41), dtype=np.uint8)
    (tmp_path / "made.png").write_bytes(bench.png(grey))

    with Image.open(tmp_path / "made.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), grey)


def test_made_garment_is_taken_for_a_garment_on_plain_ground(model_file):
    image = pictures.from_picture(bench.png(bench._garment()))[0]

    assert image[14, 14] > 150, "dark on white is shown bright on black"
    assert image[0, 0] == 0
    assert Classifier(model_file).classify(image)


def test_page_states_limits_and_shows_a_miss_as_one():
    own = {"own": runtime.Ours("mine", 0.9402)}
    rows = {row.name: row for row in runtime.judged(FOUND, own, TIMES, "own")}

    assert rows["of it, beyond a bare `session.run`"][1:] == ("10 µs", "20 µs", True)
    assert rows["test accuracy of the bundle's model"][1:] == ("94.02%", "", None)
    one, two = (row for name, row in rows.items() if "three_conv_dropout" in name)
    assert one[1:] == ("0.25 (mine, 94.02%)", "0.25", True), "the best of the runtimes, not the same one"
    assert two[1:] == ("0.30 (mine, 94.02%)", "0.25", False)
    assert rows["start of a process to its first answer"][1:] == ("450 ms", "400 ms", False)
    text = runtime.page(list(rows.values()), TIMES, {"own": "the bundle's", "rival": "the rival"})
    assert "| start of a process to its first answer | 450 ms | 400 ms | **missed** |" in text
    assert "| the rival | LiteRT | 400 µs | 350 µs |" in text


def test_fastest_of_the_accurate_models_is_the_one_that_counts():
    bundles = {name: runtime.Ours(name, accuracy) for name, accuracy in (("own", 0.93), ("a", 0.935), ("b", 0.95))}
    times = [found | {"a": {"ONNX Runtime": 50.0}, "b": {"ONNX Runtime": 40.0}} for found in TIMES]

    rows = [row for row in runtime.judged(FOUND, bundles, times, "own") if "three_conv_dropout" in row.name]
    inaccurate = [row for row in runtime.judged(FOUND, {"own": bundles["own"]}, TIMES, "own") if "dropout" in row.name]

    assert [row.measured.partition(" ")[2] for row in rows] == ["(b, 95.00%)"] * 2
    assert [row[1:] for row in inaccurate] == [("none of 1 is as accurate", "0.25", False)] * 2


def test_published_page_is_of_a_commit_and_has_every_row():
    text = runtime.RESULTS.read_text(encoding="utf-8")
    expected = runtime.judged(FOUND, {"own": runtime.Ours("any", 0.9)}, TIMES, "own")

    assert "commit " in text
    assert [row.name for row in expected if f"| {row.name} |" not in text and row.name != "wheel"] == []


def test_bundle_that_came_with_the_package_is_measured_where_nothing_is_installed(command):
    done = command("--format", "json")

    assert json.loads(done.stdout)["model"] == str(bundle.own())


def test_start_runs_no_code_of_the_working_folder(folder, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path)

    assert bench.start(folder).first_answer_ms > 0
