import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from seamline import Classifier
from seamline.service import corrections
from tasks import admit, candidates, incoming, splits
from tasks.arrays import CLASSES
from tasks.errors import DataError
from tasks.expectations import Table, expect
from tests import hostile
from tests.conftest import ROOT

TRAIN, TEST = 20, 3  # images of each class
KINDS = list(incoming.FOLDERS)


@pytest.fixture(scope="module", autouse=True)
def _great_expectations():
    """Loaded before the first test, because that takes five seconds."""
    expect([])


@pytest.fixture(scope="module")
def params(numbers):
    return numbers.admit


@pytest.fixture(scope="module")
def train(garments):
    return garments(TRAIN, 1)


@pytest.fixture(scope="module")
def test(garments):
    return garments(TEST, 2)


@pytest.fixture
def shop(tmp_path, write_raw, train, test):
    """A folder with raw data, and an empty data/incoming."""
    write_raw(tmp_path / "raw", train, test)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming/README.md").write_text("for people")
    return tmp_path


@pytest.fixture
def look(params, shop):
    """(numbers that are otherwise) → what comes of the shop's pictures: split, rows of pictures.csv and reasons.csv."""

    def run(**otherwise):
        numbers = params.model_copy(update=otherwise)
        admit.run(numbers, shop / "raw", shop / "incoming", *(shop / name for name in OUTPUTS))
        return (
            splits.read(shop / "admitted", admit.ADMITTED),
            rows(shop / "admitted/pictures.csv"),
            rows(shop / "set-aside/reasons.csv"),
        )

    return run


OUTPUTS = ("admitted", "set-aside", "admission.json", "admit.md")


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def like(image, seed):
    """Another garment of that outline: as bright, other pixels."""
    generator = np.random.default_rng(seed)
    return np.where(image > 0, generator.integers(175, 256, image.shape), 0).astype(np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def put(shop, path, content):
    target = shop / "incoming" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else png(content))
    return target


def put_good(shop, train, count, kind=4):
    """So many pictures of a kind that pass; their contents by name."""
    images = {f"{KINDS[kind]}/{n:04d}.png": like(train.images[kind * TRAIN + n % TRAIN], 100 + n) for n in range(count)}
    return {name: put(shop, name, image).read_bytes() for name, image in images.items()}


def photograph(seed):
    """A garment on ground that is not plain."""
    generator = np.random.default_rng(seed)
    colours = generator.integers(90, 220, (120, 90, 3))
    colours[15:105, 22:68] = generator.integers(0, 60, (90, 46, 3))
    return colours.astype(np.uint8)


def test_folders_are_the_kinds_names_made_safe():
    assert KINDS == [
        "t-shirt-top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle-boot",
    ]
    assert list(incoming.FOLDERS.values()) == list(range(10))


def test_nothing_there_is_an_empty_split(shop, look):
    split, pictures, reasons = look()

    assert (split.images.shape, split.images.dtype, split.labels.shape) == ((0, 28, 28), np.uint8, (0,))
    assert (pictures, reasons) == ([], [])
    assert (shop / "admit.md").read_text(encoding="utf-8").startswith("0 of 0 pictures admitted.\n")
    assert "✗" not in (shop / "admit.md").read_text(encoding="utf-8")


def test_pictures_that_pass_are_admitted_under_their_folders_kind(shop, look, train):
    coat, boot = like(train.images[4 * TRAIN], 1), like(train.images[9 * TRAIN], 2)
    put(shop, "coat/one.png", coat)
    put(shop, "ankle-boot/deep/two.png", boot)

    split, pictures, reasons = look()

    assert split.labels.tolist() == [9, 4]
    assert np.array_equal(split.images, [boot, coat])
    assert reasons == []
    assert [(row["file"], row["kind"], row["images"]) for row in pictures] == [
        ("ankle-boot/deep/two.png", "ankle-boot", "1"),
        ("coat/one.png", "coat", "1"),
    ]
    assert pictures[1]["sha256"] == hashlib.sha256((shop / "incoming/coat/one.png").read_bytes()).hexdigest()
    assert "| admitted | coat | 1 |" in (shop / "admit.md").read_text(encoding="utf-8")


def test_correction_that_the_service_kept_is_admitted_under_its_kind_whatever_the_class(shop, look, train):
    images = [like(train.images[label * TRAIN], label) for label in range(len(CLASSES))]
    for name, image in zip(CLASSES, images, strict=True):
        assert corrections.keep(shop / "incoming", png(image), name)

    split, pictures, reasons = look()

    assert reasons == []
    assert {row["kind"] for row in pictures} == set(KINDS)
    assert {label: image.tobytes() for label, image in zip(split.labels.tolist(), split.images, strict=True)} == {
        label: image.tobytes() for label, image in enumerate(images)
    }
    assert Classifier(ROOT / "seamline/reference").classes == CLASSES  # of them one was tapped


@pytest.mark.parametrize("views", [1, 3])
def test_photograph_becomes_an_image_for_each_width(shop, look, views):
    put(shop, "dress/one.png", photograph(1))

    split, pictures, reasons = look(views=views, min_likeness=0.0)

    assert reasons == []
    assert pictures[0]["images"] == str(views)
    assert split.labels.tolist() == [3] * views
    assert len({image.tobytes() for image in split.images}) == views
    widths = [int((image > 0).any(axis=0).sum()) for image in split.images]
    assert len(set(widths)) == views, "the garment in so many widths, not mirrored"


BAR = np.pad(np.full((2, 24), 255, np.uint8), ((13, 13), (2, 2)))
CORNER = np.pad(np.full((10, 10), 200, np.uint8), ((17, 1), (1, 17)))
BLANK = np.full((40, 40), 255, np.uint8)
WHITE = np.pad(np.full((27, 27), 255, np.uint8), (1, 0))
NO_PICTURE = "not a picture that can be read: none of JPEG, PNG, WEBP, GIF."
TWO_KINDS = "the same picture lies in 2 kinds' folders: leave it in one"
SET_ASIDE = {  # what it is → file, the reason in a word, how the sentence begins
    "text": ("coat/notes.txt", "unreadable", "not a picture that can be read: none of JPEG, "),
    "empty": ("coat/empty.png", "unreadable", "empty"),
    "cut short": ("coat/cut.png", "unreadable", ""),
    "blank": ("coat/blank.png", "unreadable", "The picture shows one colour and no garment."),
    "nearly a kind": ("coats/one.png", "unknown-kind", "coats is no kind (did you mean coat?)"),
    "no kind": ("hat/one.png", "unknown-kind", "hat is no kind (known: t-shirt-top, trouser, "),
    "no folder": ("one.png", "unknown-kind", "it lies in no kind's folder (known: t-shirt-top, "),
    "twice": ("coat/twice-2.png", "copy", "a copy of coat/twice-1.png"),
    "other bytes, the same pixels": ("coat/twice-3.png", "copy", "a copy of coat/twice-1.png"),
    "one kind of two": ("dress/two.png", "contradicted", TWO_KINDS),
    "the other kind": ("shirt/two.png", "contradicted", TWO_KINDS),
    "a training image": ("coat/train-1.png", "copy", "a copy of a training image"),
    "a training image, mirrored": ("coat/train-2.png", "copy", "a copy of a training image"),
    "a test image": ("bag/test-1.png", "like-a-test-image", "grey levels from a test image is 0, "),
    "a test image, mirrored": ("bag/test-2.png", "like-a-test-image", "grey levels from a test image is 0, "),
    "a test image, retouched": ("bag/test-3.png", "like-a-test-image", "grey levels from a test image is "),
    "dark": ("coat/dark.png", "brightness", "brightness is 5"),
    "bright": ("coat/bright.png", "brightness", "brightness is 237, expected 10.0 … 200.0"),
    "a bar": ("bag/bar.png", "outline", "share lit is 0.0612, expected 0.1 … 0.95"),
    "unlike all of its kind": ("coat/corner.png", "unlike-its-kind", "likeness to its kind is 0."),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory, write_raw, params, train, test):
    """A shop with all of these at once: its folder, what was put there, and what came of it."""
    shop = tmp_path_factory.mktemp("judged")
    write_raw(shop / "raw", train, test)
    coat, bag = train.images[4 * TRAIN :], test.images[8 * TEST :]
    twice, two = like(coat[0], 1), like(train.images[3 * TRAIN], 2)
    pictures = {
        "coat/notes.txt": b"no picture",
        "coat/empty.png": b"",
        "coat/cut.png": png(coat[1])[:100],
        "coat/blank.png": BLANK,
        "coats/one.png": like(coat[2], 3),
        "hat/one.png": like(coat[3], 4),
        "one.png": like(coat[4], 5),
        "coat/twice-1.png": twice,
        "coat/twice-2.png": twice,
        "coat/twice-3.png": png(twice) + b"other bytes",
        "dress/two.png": two,
        "shirt/two.png": two,
        "coat/train-1.png": coat[5],
        "coat/train-2.png": coat[6, :, ::-1],
        "bag/test-1.png": bag[0],
        "bag/test-2.png": bag[1, :, ::-1],
        "bag/test-3.png": np.where(bag[2] > 200, bag[2] - 12, bag[2]),
        "coat/dark.png": (coat[7] > 0).astype(np.uint8) * 15,
        "coat/bright.png": WHITE,
        "bag/bar.png": BAR,
        "coat/corner.png": CORNER,
        "ankle-boot/good.png": like(train.images[9 * TRAIN], 6),
    }
    contents = {name: put(shop, name, content).read_bytes() for name, content in pictures.items()}
    admit.run(
        params.model_copy(update={"max_set_aside": 1.0}),
        *(shop / name for name in ("raw", "incoming", *OUTPUTS)),
    )
    return shop, contents


@pytest.mark.parametrize("what", SET_ASIDE)
def test_what_fails_is_set_aside_with_its_reason(judged, what):
    shop, contents = judged
    name, word, sentence = SET_ASIDE[what]

    (row,) = (row for row in rows(shop / "set-aside/reasons.csv") if row["file"] == name)

    assert row["reason"] == word
    assert row["why"].startswith(sentence)
    assert row["copy"].startswith(f"{word}/")
    assert (shop / "set-aside" / row["copy"]).read_bytes() == contents[name]


def test_nothing_is_dropped_and_nothing_taken_away(judged):
    shop, contents = judged

    admitted = [row["file"] for row in rows(shop / "admitted/pictures.csv")]
    aside = [row["file"] for row in rows(shop / "set-aside/reasons.csv")]
    assert admitted == ["ankle-boot/good.png", "coat/twice-1.png"]
    assert sorted(admitted + aside) == sorted(contents)
    assert {name: (shop / "incoming" / name).read_bytes() for name in contents} == contents


def test_odd_files_are_set_aside_and_nothing_is_waited_for(shop, look, train):
    coat = shop / "incoming/coat"
    good = put_good(shop, train, 1)
    os.mkfifo(coat / "pipe.png")
    (coat / "nowhere.png").symlink_to("gone.png")
    (coat / "link.png").symlink_to("0000.png")
    (coat / "endless.png").symlink_to("/dev/zero")
    (coat / "loop").symlink_to(coat)
    (coat / ".half-written.png").write_bytes(b"half")
    for number, name in enumerate((b"caf\xe9.png", b"new\nline.png", "\u202ertl.png".encode())):
        image = like(train.images[80 + number], number)
        (shop / os.fsdecode(b"incoming/coat/" + name)).write_bytes(png(image))
    odd = os.fsdecode(b"incoming/co\xff|at")
    (shop / odd).mkdir()
    (shop / odd / ("x" * 251 + ".png")).write_bytes(b"x")

    _, pictures, reasons = look()

    link = ("unreadable", "a link; put the picture itself there", "")
    assert [row["file"] for row in pictures] == [
        *good, r"coat/caf\udce9.png", r"coat/new\nline.png", r"coat/\u202ertl.png"
    ]  # fmt: skip
    assert {row["file"].rpartition("/")[2][:12]: (row["reason"], row["why"], row["copy"][:28]) for row in reasons} == {
        "pipe.png": ("unreadable", "not a plain file", ""),
        "nowhere.png": link,
        "link.png": link,
        "endless.png": link,
        "loop": link,
        "x" * 12: ("unreadable", NO_PICTURE, r"unreadable/co\udcff|at/2d711"),
    }


def test_file_that_may_not_be_read_is_set_aside(shop, train):
    put(shop, "coat/locked.png", like(train.images[80], 1)).chmod(0)
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    code = "from pathlib import Path; from tasks import candidates; print(candidates.read(Path('incoming'), 1)[0][:4])"

    done = subprocess.run(
        [*powerless, sys.executable, "-c", code],
        cwd=shop,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "('coat/locked.png', 'coat', 'Permission denied', '')\n", done.stderr


def test_hostile_pictures_are_set_aside_or_read(shop, look):
    names = []
    for number, (name, content) in enumerate(hostile.pictures()):
        if name.startswith("refused-") or number % 12 == 0:
            put(shop, f"coat/{name}", content)
            names.append(name)
    assert len(names) > 80

    _, pictures, reasons = look(max_set_aside=1.0)

    unreadable = {row["file"] for row in reasons if row["reason"] == "unreadable"}
    assert {row["file"] for row in pictures} | {row["file"] for row in reasons} == {f"coat/{name}" for name in names}
    assert unreadable >= {f"coat/{name}" for name in names if name.startswith("refused-")}
    assert unreadable.isdisjoint(f"coat/{name}" for name in names if name.startswith("read-"))
    assert all(row["why"] and "\n" not in row["why"] for row in reasons)


def test_two_thousand_pictures(shop, look, train):
    good = put_good(shop, train, 2000)

    split, pictures, reasons = look(max_share=1.0)

    assert {row["file"] for row in pictures} | {row["file"] for row in reasons} == set(good)
    assert len(split.labels) == TRAIN
    assert {row["reason"] for row in reasons} == {"swamped"}, "thousands beyond the share are no reason to refuse all"


def test_kind_is_not_swamped_and_who_stays_is_nobodys_choice(shop, look, train):
    good = put_good(shop, train, 9)
    put_good(shop, train, 1, kind=6)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in good.items()}
    first = sorted(good, key=digests.get)[:4]

    split, pictures, reasons = look(max_share=0.2)

    assert np.bincount(split.labels, minlength=10).tolist() == [0, 0, 0, 0, 4, 0, 1, 0, 0, 0]
    assert [row["file"] for row in pictures if row["kind"] == "coat"] == sorted(first)
    assert {row["file"] for row in reasons} == set(good) - set(first)
    assert {(row["reason"], row["why"]) for row in reasons} == {
        ("swamped", "coat has its 4 training images already")
    }  # fmt: skip


def test_too_many_failures_refuse_all_and_the_report_stands(shop, look, train):
    put_good(shop, train, 9)
    for number in range(11):
        put(shop, f"coat/{number}.txt", b"no picture")

    with pytest.raises(DataError, match=r"^refused: pictures: “share set aside” sum to be between: observed 0\.55, expected 0 … 0\.5\. Reasons: .*reasons\.csv\. Mend or remove those pictures in .*incoming\.$"):  # fmt: skip
        look()

    assert json.loads((shop / "admission.json").read_text(encoding="utf-8"))["pictures"]["success"] is False
    assert "| ✗ | pictures: “share set aside”" in (shop / "admit.md").read_text(encoding="utf-8")
    assert len(rows(shop / "set-aside/reasons.csv")) == 11


def test_half_may_fail_and_of_a_few_all(shop, look, train):
    for number in range(19):
        put(shop, f"coat/{number}.txt", b"no picture")
    assert len(look()[2]) == 19, "fewer than min_pictures are judged one by one"

    put_good(shop, train, 19)
    assert len(look(max_share=1.0)[1]) == 19, "exactly half"


def test_rule_that_raises_has_failed(shop, look, train):
    put_good(shop, train, 2)

    with pytest.raises(
        DataError, match="^refused: incoming: “likeness to its kind” values to be between: observed .*not supported"
    ):
        look(min_likeness=datetime(2026, 1, 1, tzinfo=UTC))  # which the schema would not let pass


def test_rule_that_raises_names_no_picture(params):
    facts = pd.DataFrame({"fault": [candidates.NOTHING], "kind": ["coat"]})
    judged = expect([Table("incoming", facts, list(admit.rules(params).values()))], "COMPLETE")["incoming"]

    assert [sentence.partition(":")[0] for sentence in admit.silent(judged)] == ["incoming"] * 6


def test_report_names_each_rule_and_holds_no_list_of_rows(shop, look, train, params):
    put_good(shop, train, 2)
    put(shop, "coat/1.txt", b"no picture")

    look()

    report = json.loads((shop / "admission.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert list(report) == ["incoming", "pictures", "admitted kinds", "admitted images"]
    assert len(report["incoming"]["results"]) == 1 + len(admit.rules(params))
    assert [result["results"][0]["expectation_config"]["type"] for result in report.values()] == [
        "expect_table_row_count_to_equal"
    ] * 4
    assert "unexpected_index_list" not in (shop / "admission.json").read_text(encoding="utf-8")


def test_outputs_are_the_same_at_every_run_and_leave_nothing_of_the_one_before(shop, look, train):
    put_good(shop, train, 3)
    bad = put(shop, "coat/1.txt", b"no picture")
    look()
    before = {path.relative_to(shop): path.read_bytes() for name in OUTPUTS for path in _files(shop / name)}

    look()
    assert {path.relative_to(shop): path.read_bytes() for name in OUTPUTS for path in _files(shop / name)} == before

    bad.unlink()
    look()
    assert [path.name for path in _files(shop / "set-aside")] == ["reasons.csv"]


def _files(path):
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@pytest.mark.slow
def test_kill_while_it_writes_leaves_no_half_of_anything(shop, look, train, run_stage):
    put_good(shop, train, 3)
    put(shop, "coat/1.txt", b"no picture")
    look()
    whole = {path.relative_to(shop): path.read_bytes() for output in OUTPUTS for path in _files(shop / output)}
    for output in OUTPUTS:  # as DVC does before it runs a stage
        shutil.rmtree(shop / output, ignore_errors=True)
        (shop / output).unlink(missing_ok=True)
    injected = ("-e", "trace=rename", "-e", "inject=rename:signal=SIGKILL")
    strace = (
        shutil.which("strace"),
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        "set-aside/.tmp.reasons.csv",
        *injected,
    )

    killed = run_stage("admit", "raw", "incoming", *OUTPUTS, before=strace)

    assert killed.returncode in (-9, 137)
    left = {
        path.relative_to(shop): path for output in OUTPUTS if (shop / output).exists() for path in _files(shop / output)
    }
    assert {
        str(path): file.read_bytes() for path, file in left.items() if not path.name.startswith(".tmp.")
    }.items() <= {str(path): content for path, content in whole.items()}.items()
    assert {path.name for path in whole} - {path.name for path in left} == {"reasons.csv", "admission.json", "admit.md"}
    look()
    assert {path.relative_to(shop): path.read_bytes() for output in OUTPUTS for path in _files(shop / output)} == whole


def test_distance_is_that_of_the_nearest_image_or_its_mirror_image():
    generator = np.random.default_rng(3)
    images, others = (generator.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (5, 7))

    found = candidates.distance(images, others)

    away = [images[:, None].astype(float) - others, images[:, None, :, ::-1].astype(float) - others]
    assert found == pytest.approx(np.sqrt(np.square(away).mean((3, 4))).min(axis=(0, 2)), rel=1e-4)
    assert candidates.distance(others[:1, :, ::-1], others).tolist() == [0.0]


def test_likeness_is_the_cosine_with_the_most_similar_image():
    generator = np.random.default_rng(4)
    images, others = (generator.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (600, 7))

    found = candidates.likeness(images, others)

    flat, rest = (many.reshape(len(many), -1).astype(float) for many in (images, others))
    norms = np.linalg.norm(flat, axis=1)[:, None] * np.linalg.norm(rest, axis=1)
    assert found == pytest.approx((flat @ rest.T / norms).max(axis=1), rel=1e-5)
    assert candidates.likeness(others, others) == pytest.approx(1)
