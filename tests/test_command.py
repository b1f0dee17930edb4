"""The command `seamline`, as a shell sees it."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from PIL import Image

from seamline import bundle
from tasks import folders
from tests.conftest import ROOT

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.fixture
def place(tmp_path, bundle_files):
    """A folder with two pictures, a signed bundle of version 2, and the public key."""
    files = bundle_files(2)
    folders.fill(tmp_path / "bundle", files | {bundle.SIGNATURE: KEY.sign(files[bundle.MANIFEST])})
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(pem)
    (tmp_path / "shelf/deep").mkdir(parents=True)
    for name, row in (("shelf/two.png", 2), ("shelf/deep/five.png", 5)):
        image = np.zeros((28, 28), np.uint8)
        image[3 * row : 3 * row + 3] = 200
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "shelf/notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def seamline(place):
    """(arguments) → the command, run to its end in that folder."""

    def run(*arguments, given=None):
        return subprocess.run(
            [sys.executable, "-m", "seamline", *arguments],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT), "SEAMLINE_SLOTS": str(place / "slots")},
            input=given,
            capture_output=True,
            check=False,
        )

    return run


def test_classify_takes_files_folders_and_standard_input(seamline, place):
    done = seamline("classify", "--model", "bundle", "shelf", "-", given=(place / "shelf/two.png").read_bytes())

    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0].split()[:3] for line in lines] == [
        ["shelf/deep/five.png:", "kind", "5"],
        ["shelf/two.png:", "kind", "2"],
        ["-:", "kind", "2"],
    ]


def test_classify_writes_json_lines(seamline):
    done = seamline("classify", "--model", "bundle", "--format", "json", "--top", "2", "shelf")

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["file"], one["kinds"][0]["name"], len(one["kinds"])) for one in found] == [
        ("shelf/deep/five.png", "kind 5", 2),
        ("shelf/two.png", "kind 2", 2),
    ]


def test_folder_of_odd_files_is_answered_picture_by_picture(seamline, place):
    """Pipes, links that lead nowhere and empty files are said, folders are no pictures; names may be any bytes."""
    shelf = place / "shelf"
    os.mkfifo(shelf / "pipe.png")
    (shelf / "folder.png").mkdir()
    (shelf / "nowhere.png").symlink_to("absent.png")
    (shelf / "loop").symlink_to(".")
    (shelf / "link.png").symlink_to("two.png")
    (shelf / "empty.png").write_bytes(b"")
    for name in (b"\xff\xfe.png", "Hemd\n\u202e\U0001f455.png".encode()):
        shutil.copy(shelf / "two.png", os.fsencode(shelf) + b"/" + name)

    done = seamline("classify", "--model", "bundle", "--format", "json", "--top", "1", "shelf")

    found = {json.loads(line)["file"] for line in done.stdout.decode().splitlines()}
    odd = {"shelf/\udcff\udcfe.png", "shelf/Hemd\n\u202e\U0001f455.png"}
    assert found == {"shelf/deep/five.png", "shelf/link.png", "shelf/two.png", *odd}
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "shelf/empty.png: not a picture that can be read: none of JPEG, PNG, WEBP, GIF.",
        "shelf/nowhere.png: a link that leads nowhere",
        "shelf/pipe.png: not a plain file",
    ]


@pytest.mark.parametrize("form", ["table", "csv"])
def test_name_that_is_no_text_stops_nothing(seamline, place, form):
    shutil.copy(place / "shelf/two.png", os.fsencode(place) + b"/shelf/a\xff.png")

    done = seamline("classify", "--model", "bundle", "--format", form, "shelf")

    assert done.returncode == 0, done.stderr
    assert b"shelf/a\\udcff.png" in done.stdout
    assert b"shelf/two.png" in done.stdout


def test_classify_writes_csv(seamline):
    done = seamline("classify", "--model", "bundle", "--format", "csv", "--top", "1", "shelf")

    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [(row["file"], row["rank"], row["name"], row["kind"]) for row in rows] == [
        ("shelf/deep/five.png", "1", "kind 5", "kind 5"),
        ("shelf/two.png", "1", "kind 2", "kind 2"),
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param("table", "two.png: unknown; if anything: kind 2 50.0%, kind 5 50.0%\n", id="table"),
        pytest.param(
            "json",
            '{"file": "two.png", "name": "unknown", "kinds": '
            '[{"name": "kind 2", "probability": 0.5}, {"name": "kind 5", "probability": 0.5}]}\n',
            id="json",
        ),
        pytest.param(
            "csv",
            "file,name,rank,kind,probability\ntwo.png,unknown,1,kind 2,0.500000\ntwo.png,unknown,2,kind 5,0.500000\n",
            id="csv",
        ),
    ],
)
def test_what_is_unknown_is_an_answer(seamline, place, doubting_file, form, expected):
    image = np.zeros((28, 28), np.uint8)
    image[6:9] = image[15:18] = 200
    Image.fromarray(image).save(place / "two.png")

    done = seamline("classify", "--model", str(doubting_file), "--format", form, "--top", "2", "two.png")

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == expected


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_is_known_is_named_however_sure_the_model_must_be(seamline, doubting_file, form):
    done = seamline("classify", "--model", str(doubting_file), "--format", form, "shelf")

    assert done.returncode == 0, done.stderr
    assert "kind 5" in done.stdout.decode()
    assert "unknown" not in done.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("classify", "--model", "bundle", "absent.png"), "absent.png", id="no such file"),
        pytest.param(("classify", "--model", "bundle", "shelf/notes.txt"), "not a picture that can be read", id="text"),
        pytest.param(("classify", "--model", "bundle", "slots"), "slots", id="an absent folder"),
        pytest.param(("classify", "--model", "nowhere", "shelf"), "There is no model at nowhere", id="no bundle"),
        pytest.param(
            ("classify", "--model", "shelf", "shelf"), "manifest.json cannot be read", id="no bundle but a folder"
        ),
        pytest.param(("verify", "bundle", "--key", "shelf/notes.txt"), "expected an Ed25519 public key", id="no key"),
        pytest.param(("update", "shelf"), "manifest.json cannot be read", id="update to no bundle"),
        pytest.param(("rollback",), "no bundle to go back to", id="nothing to go back to"),
    ],
)
def test_refusal_is_one_line_and_exit_status_1(seamline, arguments, said):
    done = seamline(*arguments)

    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1


def test_wrong_command_line_is_exit_status_2(seamline):
    assert seamline("clasify").returncode == 2
    assert seamline("classify", "--top", "11", "shelf").returncode == 2


def test_verify_proves_files_signature_and_golden_vectors(seamline):
    done = seamline("verify", "bundle", "--key", "key.pub")

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [
        "ok   every file's size and SHA-256 and the signature: version 2, 3 files",
        "ok   12 golden vectors on this processor",
    ]


def test_verify_measures_the_accuracy_of_test_images(seamline, place):
    np.save(place / "test-images.npy", np.zeros((10, 28, 28), np.uint8))
    np.save(place / "test-labels.npy", np.arange(10, dtype=np.uint8))

    done = seamline("verify", "bundle", "--data", ".")

    assert done.returncode == 1
    assert "FAIL 10.00% of 10 test images on this processor: the manifest says 90.00%" in done.stdout.decode()


def test_verify_says_what_is_altered(seamline, place):
    (place / "bundle/card.md").write_text("# Another")

    done = seamline("verify", "bundle")

    assert done.returncode == 1
    assert done.stdout.decode() == "FAIL bundle: bundle/card.md is altered: it is not what the manifest describes.\n"


def test_info_shows_the_manifest(seamline):
    said = seamline("info", "--model", "bundle").stdout.decode()

    assert "version                    2" in said
    assert "classes                    kind 0, kind 1," in said
    assert "metrics.accuracy           0.9" in said


def test_update_serves_by_default_and_rollback_takes_it_back(seamline, place, bundle_files):
    files = bundle_files(3)
    folders.fill(place / "newer", files | {bundle.SIGNATURE: KEY.sign(files[bundle.MANIFEST])})

    first = seamline("update", "bundle", "--key", "key.pub")
    second = seamline("update", "newer", "--key", "key.pub")
    shutil.rmtree(place / "newer")

    assert first.stdout.decode().startswith("Version 2 serves from")
    assert "rollback" not in first.stdout.decode(), "there is nothing to go back to"
    assert second.stdout.decode().startswith("Version 3 serves from")
    assert "Take it back: seamline rollback --slots " in second.stdout.decode()
    assert "version                    3" in seamline("info").stdout.decode()
    assert seamline("update", "bundle", "--key", "key.pub").returncode == 1, "older"
    assert seamline("rollback").stdout.decode().startswith("Version 2 serves again")
    assert "version                    2" in seamline("info").stdout.decode()


def test_head_ends_it_quietly(place):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"({sys.executable} -m seamline classify --model bundle {'shelf ' * 300}; echo $? >&2) | head -n 1"

    done = subprocess.run(
        ["sh", "-c", command], cwd=place, env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout.count("\n") == 1
    assert done.stderr == "141\n", "as a shell says of a program that ended so"


def test_what_a_bundle_says_tells_a_terminal_nothing(seamline, place, bundle_files):
    folders.fill(place / "other", bundle_files(3, note="\x1b[2J\x1b]0;title\x07"))

    done = seamline("info", "--model", "other")

    assert done.returncode == 0, done.stderr
    assert rb"\x1b[2J" in done.stdout
    assert b"\x1b" not in done.stdout


def test_empty_test_images_are_one_line(seamline, place):
    for name in ("images", "labels"):
        (place / f"test-{name}.npy").write_bytes(b"")

    done = seamline("verify", "bundle", "--data", ".")

    assert done.returncode == 1
    assert b"test-images.npy or test-labels.npy is empty" in done.stderr
    assert b"Traceback" not in done.stderr
