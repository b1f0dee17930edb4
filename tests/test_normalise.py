import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks import normalise, splits
from tasks.arrays import Split
from tasks.errors import DataError
from tasks.files import digest

# More than a page of the array does not fit any more when the file may not grow: numpy then says nothing.
DISK_FULL = """
import resource
from pathlib import Path
import numpy as np
from tasks import splits
from tasks.arrays import Split
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
splits.write(Path(), "train", Split(np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.uint8)))
"""


@pytest.fixture
def params(numbers):
    return numbers.normalise.model_copy(update={"validation_per_class": 2})


@pytest.fixture
def raw(tmp_path, garments, write_raw):
    write_raw(tmp_path / "raw", garments(5, 1), garments(2, 2))
    return tmp_path / "raw"


@pytest.fixture
def admitted(tmp_path):
    """Nothing admitted."""
    splits.write(tmp_path / "admitted", "admitted", Split(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)))
    return tmp_path / "admitted"


@given(counts=st.lists(st.integers(3, 12), min_size=10, max_size=10), seed=st.integers(0, 2**31 - 1), data=st.data())
def test_held_out_takes_the_same_number_of_each_class(counts, seed, data):
    labels = np.array(data.draw(st.permutations(np.repeat(np.arange(10), counts).tolist())), np.uint8)

    chosen = normalise.held_out(labels, 2, seed)

    assert chosen.dtype == bool
    assert np.bincount(labels[chosen], minlength=10).tolist() == [2] * 10
    assert np.bincount(labels[~chosen], minlength=10).tolist() == [count - 2 for count in counts]


def test_held_out_is_fixed_by_the_seed_alone():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 50)
    first = normalise.held_out(labels, 10, 7)
    np.random.default_rng().random(5)

    assert np.array_equal(normalise.held_out(labels, 10, 7), first)
    assert not np.array_equal(normalise.held_out(labels, 10, 8), first)


def test_held_out_leaves_one_for_training():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 3)

    assert np.bincount(labels[~normalise.held_out(labels, 2, 7)]).tolist() == [1] * 10


@pytest.mark.parametrize(
    ("dresses", "said"),
    [
        pytest.param(
            2, r"^Dress has 2 images, and normalise\.validation_per_class holds out 2\. Lower it\.$", id="none left"
        ),
        pytest.param(0, "^Dress has 0 images", id="class missing"),
    ],
)
def test_held_out_refuses_a_class_with_too_few(dresses, said):
    counts = [dresses if label == 3 else 5 for label in range(10)]

    with pytest.raises(DataError, match=said):
        normalise.held_out(np.repeat(np.arange(10, dtype=np.uint8), counts), 2, 7)


def test_take_keeps_pictures_with_their_labels(garments):
    split = garments(2, 1)

    taken = normalise.take(split, split.labels == 4)

    assert taken.labels.tolist() == [4, 4]
    assert np.array_equal(taken.images, split.images[8:10])


@pytest.mark.parametrize(
    ("levels", "mean", "deviation"),
    [
        pytest.param([0], 0.0, 0.0, id="black"),
        pytest.param([255], 1.0, 0.0, id="white"),
        pytest.param([0, 255], 0.5, 0.5, id="half"),
        pytest.param([0, 0, 0, 255], 0.25, 0.1875**0.5, id="a quarter"),
    ],
)
def test_pixel_stats_known_answer(levels, mean, deviation):
    images = np.tile(np.array(levels, np.uint8), 784).reshape(-1, 28, 28)

    assert normalise.pixel_stats(images) == pytest.approx((mean, deviation), abs=1e-15)


@given(images=arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(28), st.just(28))))
def test_pixel_stats_agrees_with_numpy(images):
    scaled = images / 255

    assert normalise.pixel_stats(images) == pytest.approx((scaled.mean(), scaled.std()), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("images", "received"),
    [
        pytest.param(np.zeros((0, 28, 28), np.uint8), r"uint8 \(0, 28, 28\)", id="no images"),
        pytest.param(np.zeros((1, 28, 28)), r"float64 \(1, 28, 28\)", id="scaled before"),
    ],
)
def test_pixel_stats_refuses(images, received):
    with pytest.raises(ValueError, match=rf"^Expected uint8 images \(n ≥ 1\)\. Received {received}\.$"):
        normalise.pixel_stats(images)


def test_run_parts_train_and_leaves_test_as_it_is(params, raw, admitted, tmp_path, garments):
    normalise.run(params, raw, admitted, tmp_path / "normalised", tmp_path / "normalise.md")

    parts = {name: splits.read(tmp_path / "normalised", name) for name in ("train", "validation", "test")}
    whole, test = garments(5, 1), garments(2, 2)
    kept, held = ([image.tobytes() for image in parts[name].images] for name in ("train", "validation"))
    pairs = {image.tobytes(): label for image, label in zip(whole.images, whole.labels, strict=True)}
    assert len(pairs) == 50, "the pictures must differ, or nothing is shown"
    assert not set(kept) & set(held)
    assert sorted(kept + held) == sorted(pairs)
    for name, images in (("train", kept), ("validation", held)):
        assert parts[name].labels.tolist() == [pairs[image] for image in images]
    assert np.array_equal(parts["test"].images, test.images)
    assert np.array_equal(parts["test"].labels, test.labels)


def test_run_measures_the_training_images_alone(params, raw, admitted, tmp_path):
    normalise.run(params, raw, admitted, tmp_path / "normalised", tmp_path / "normalise.md")

    stats = json.loads((tmp_path / "normalised/stats.json").read_text(encoding="utf-8"))
    train, test = (splits.read(tmp_path / "normalised", name) for name in ("train", "test"))
    assert (stats["mean"], stats["deviation"]) == normalise.pixel_stats(train.images)
    assert stats["images"] == {"train": 30, "validation": 20, "test": 20}
    assert stats["data"]["test"] == digest(test.images.tobytes() + test.labels.tobytes())
    assert stats["parameters"] == {"validation_per_class": 2, "seed": 7}
    assert f"| test | 20 | {stats['data']['test'][:12]}… |" in (tmp_path / "normalise.md").read_text(encoding="utf-8")


def test_what_was_admitted_joins_train_alone(params, raw, admitted, tmp_path, garments):
    normalise.run(params, raw, admitted, tmp_path / "before", tmp_path / "before.md")
    more = garments(1, 3)
    splits.write(admitted, "admitted", more)

    normalise.run(params, raw, admitted, tmp_path / "after", tmp_path / "after.md")

    before, after = ({file.name: file.read_bytes() for file in (tmp_path / at).iterdir()} for at in ("before", "after"))
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"train-images.npy", "train-labels.npy", "stats.json"}
    train, joined = (splits.read(tmp_path / at, "train") for at in ("before", "after"))
    assert np.array_equal(joined.images, np.concatenate([train.images, more.images]))
    assert np.array_equal(joined.labels, np.concatenate([train.labels, more.labels]))
    stats = json.loads(after["stats.json"])
    assert (stats["admitted"], stats["images"]["train"]) == (10, 40)
    assert (stats["mean"], stats["deviation"]) == normalise.pixel_stats(joined.images)
    assert "10 of the training images are of pictures from data/incoming." in (tmp_path / "after.md").read_text()


def test_with_nothing_admitted_nothing_is_said_of_it(params, raw, admitted, tmp_path):
    """Another byte in stats.json would have every model trained again."""
    normalise.run(params, raw, admitted, tmp_path / "normalised", tmp_path / "md")

    stats = json.loads((tmp_path / "normalised/stats.json").read_text())
    assert list(stats) == ["mean", "deviation", "images", "data", "parameters"]
    assert "incoming" not in (tmp_path / "md").read_text()


def test_run_writes_the_same_bytes_again(params, raw, admitted, tmp_path):
    for folder in ("first", "second"):
        normalise.run(params, raw, admitted, tmp_path / folder, tmp_path / folder / "normalise.md")

    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("first", "second")
    )
    assert len(first) == 8
    assert first == second


def test_run_writes_nothing_of_too_small_a_set(params, raw, admitted, tmp_path):
    with pytest.raises(DataError, match="T-shirt/top has 5 images"):
        normalise.run(
            params.model_copy(update={"validation_per_class": 5}),
            raw,
            admitted,
            tmp_path / "normalised",
            tmp_path / "md",
        )

    assert [file.name for file in tmp_path.iterdir() if file.name != "admitted"] == ["raw"]


def test_split_that_does_not_fit_is_not_written(tmp_path, pytestconfig):
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL],
        cwd=tmp_path,
        env={"PYTHONPATH": str(pytestconfig.rootpath)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
