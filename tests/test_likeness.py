"""The nearest pictures of an index, and its file."""

import hashlib
import json
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seamline
from seamline import likeness, lists
from seamline.likeness import Index
from tests.conftest import ROOT

MODEL = "m" * 64


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_rows(count, width=8, seed=3):
    return unit(np.random.default_rng(seed).normal(size=(count, width)))


def names(count):
    return [f"{number}.png" for number in range(count)]


@pytest.fixture
def index():
    return Index(names(50), random_rows(50), MODEL)


@pytest.fixture(scope="session")
def classifier(model_file):
    return seamline.Classifier(model_file)


def bands(*numbers):
    images = np.zeros((len(numbers), 28, 28), np.uint8)
    for image, number in zip(images, numbers, strict=True):
        image[3 * number : 3 * number + 3] = 200
    return images


@given(items=st.integers(1, 60), asked=st.integers(0, 5), k=st.integers(1, 60), seed=st.integers(0, 99))
def test_nearest_agrees_with_sorting_every_cosine(items, asked, k, seed):
    rows, questions, k = random_rows(items, seed=seed), random_rows(asked, seed=seed + 100), min(k, items)

    found, products = likeness.nearest(rows, questions, k)

    every = questions.astype(float) @ rows.astype(float).T
    np.testing.assert_array_equal(found, np.argsort(-every, axis=1, kind="stable")[:, :k])
    np.testing.assert_allclose(products, -np.sort(-every, axis=1)[:, :k], atol=1e-6)


def test_nearest_takes_memory_in_parts(monkeypatch):
    rows, asked = random_rows(50), random_rows(33, seed=9)
    whole = likeness.nearest(rows, asked, 7)

    monkeypatch.setattr(likeness, "LARGEST_PRODUCT", 120)

    np.testing.assert_array_equal(likeness.nearest(rows, asked, 7)[0], whole[0])


def test_of_equally_near_pictures_the_first_comes_first():
    index = Index(names(4), unit([[0, 1], [1, 0], [1, 0], [1, 0]]), MODEL)

    (found,) = index.nearest(unit([[1, 0]]), 3)

    assert found == [("1.png", 1.0), ("2.png", 1.0), ("3.png", 1.0)]


def test_fewer_pictures_than_asked_for_are_all(index):
    assert {one.name for one in index.nearest(index.embeddings[0], 99)[0]} == set(index.names)


@pytest.mark.parametrize(
    ("embeddings", "k", "refusal"),
    [
        pytest.param(random_rows(1, 7), 3, r"Expected embeddings \(m, 8\) and k ≥ 1. Received \(1, 7\)", id="width"),
        pytest.param(random_rows(1), 0, "k = 0", id="no k"),
        pytest.param(np.ones((1, 8), np.float32), 3, "Expected embeddings of length 1", id="another length"),
        pytest.param(np.full((1, 8), np.nan, np.float32), 3, "Expected embeddings of length 1", id="nan"),
        pytest.param(np.ones((1, 8)) / 8**0.5, 3, r"float32 \(n, d\). Received float64", id="type"),
        pytest.param(random_rows(1)[None], 3, r"Received float32 \(1, 1, 8\)", id="shape"),
    ],
)
def test_what_is_no_embedding_is_refused(index, embeddings, k, refusal):
    with pytest.raises(ValueError, match=refusal):
        index.nearest(embeddings, k)


@pytest.mark.parametrize(
    ("called", "count"),
    [(["a"], 2), ([], 0), (["a", "b\0c"], 2)],
    ids=["too few names", "nothing", "NUL in a name"],
)
def test_an_index_has_one_name_for_each_embedding(called, count):
    with pytest.raises(ValueError, match=r"Expected one name \(without NUL\) for each embedding"):
        Index(called, random_rows(count), MODEL)


def test_an_index_does_not_change_with_the_array_it_was_made_of():
    rows = random_rows(3)
    index = Index(names(3), rows, MODEL)

    rows[0] = -rows[0]

    assert index.nearest(-rows[:1], 1)[0][0].name == "0.png"
    with pytest.raises(ValueError, match="read-only"):
        index.embeddings[0] = 0


def test_similar_finds_what_resembles_a_picture(classifier):
    index = Index(names(10), classifier.embed(bands(*range(10))), classifier.digest)

    found = classifier.similar(bands(4, 7), index, 3)

    assert [nearest[0].name for nearest in found] == ["4.png", "7.png"]
    assert [len(nearest) for nearest in found] == [3, 3]
    assert found[0][0].likeness == pytest.approx(1)
    assert classifier.similar(bands(4)[0], index, 3) == found[:1]


def test_similar_refuses_an_index_of_another_model(classifier, index):
    with pytest.raises(ValueError, match="Received one of mmmmmmmmmmmm. Make it again: seamline index FOLDER"):
        classifier.similar(bands(4), index)


def test_digest_is_the_model_files(classifier, model_file):
    assert classifier.digest == hashlib.sha256(model_file.read_bytes()).hexdigest()


def test_several_threads_get_the_same_answers(classifier):
    images = np.random.default_rng(4).integers(0, 256, (64, 28, 28), dtype=np.uint8)
    index = Index(names(64), classifier.embed(images), classifier.digest)
    expected, answers = classifier.similar(images, index, 5), {}

    def ask(number):
        answers[number] = [classifier.similar(images, index, 5) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answers[number] for number in range(8)] == [[expected] * 20] * 8


ODD_NAMES = ["a b.png", "new\nline.png", "\u202ertl.png", "ضوء.png", "caf\udce9.png", "", "\U0001f45f.png"]


def test_a_file_holds_what_was_written(tmp_path):
    index = Index(ODD_NAMES, random_rows(len(ODD_NAMES)), MODEL)

    likeness.write(tmp_path / "shop", index)
    found = likeness.read(tmp_path / "shop")

    assert (found.names, found.model) == (tuple(ODD_NAMES), MODEL)
    np.testing.assert_array_equal(found.embeddings, index.embeddings)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_file_is_the_same_each_time(tmp_path, index):
    likeness.write(tmp_path / "one", index)
    likeness.write(tmp_path / "other", index)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def altered(change):
    """(content of an index) → with another header."""

    def alter(content):
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        header = json.dumps(header).encode()
        return len(header).to_bytes(8, "little") + header + content[8 + length :]

    return alter


def huge(header):
    header["embeddings"]["shape"][0] = 10**12


def negative(header):
    header["embeddings"]["shape"] = [-50, -8]


def half(header):
    header["embeddings"]["shape"] = [50.0, 8]


def elsewhere(header):
    header["names"]["data_offsets"][0] -= 4


def numbered(header):
    header["__metadata__"]["model"] = 5


def later(header):
    header["__metadata__"]["format"] = "seamline likeness 3"


@pytest.mark.parametrize(
    ("alter", "refusal"),
    [
        pytest.param(lambda _: b"", "no index that Seamline wrote", id="empty"),
        pytest.param(lambda _: b"\xff" * 400, "no such header", id="no header"),
        pytest.param(lambda _: (4000).to_bytes(8, "little") + b"[" * 4000, "no index that", id="deep JSON"),
        pytest.param(lambda _: b"\2" + b"\0" * 7 + b"[]", "no index that", id="a list"),
        pytest.param(lambda content: content[:-1], "not as long as its header says", id="torn"),
        pytest.param(lambda content: content + b"x", "not as long as its header says", id="longer"),
        pytest.param(altered(huge), "its header is of another format", id="a header that claims terabytes"),
        pytest.param(altered(negative), "its header is of another format", id="negative sizes"),
        pytest.param(altered(half), "its header is of another format", id="sizes that are no integers"),
        pytest.param(altered(numbered), "its header is of another format", id="a model that is no text"),
        pytest.param(altered(elsewhere), "its header is of another format", id="other places"),
        pytest.param(altered(later), "its header is of another format", id="a later format"),
        pytest.param(lambda content: content[:600] + bytes([content[600] ^ 1]) + content[601:], "SHA-256", id="a bit"),
    ],
)
def test_a_file_that_is_no_index_is_refused(tmp_path, index, alter, refusal):
    likeness.write(tmp_path / "shop", index)
    (tmp_path / "shop").write_bytes(alter((tmp_path / "shop").read_bytes()))

    with pytest.raises(ValueError, match=f"{refusal}.*Make it again: seamline index FOLDER"):
        likeness.read(tmp_path / "shop")


def test_names_that_do_not_match_are_refused_before_they_are_split(tmp_path, index):
    likeness.write(tmp_path / "shop", index)
    content = bytearray((tmp_path / "shop").read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length : 8 + length + 4 * 50 * 8] + b"\0" * header["names"]["shape"][0]
    header["__metadata__"]["sha256"] = hashlib.sha256(data).hexdigest()
    written = json.dumps(header).encode()
    (tmp_path / "shop").write_bytes(len(written).to_bytes(8, "little") + written + data)

    with pytest.raises(ValueError, match="it has not one name for each embedding"):
        likeness.read(tmp_path / "shop")


def test_neither_a_pipe_nor_a_huge_file_is_read(tmp_path, index, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    likeness.write(tmp_path / "shop", index)
    monkeypatch.setattr(likeness, "LARGEST_BYTES", 100)

    for name in ("pipe", "shop"):
        with pytest.raises(ValueError, match="expected a plain file of at most 100 bytes"):
            likeness.read(tmp_path / name)


def test_more_pictures_than_memory_should_hold_are_refused(tmp_path, index, monkeypatch):
    likeness.write(tmp_path / "shop", index)
    monkeypatch.setattr(likeness, "LARGEST_ITEMS", 49)

    with pytest.raises(ValueError, match="its header is of another format"):
        likeness.read(tmp_path / "shop")


@pytest.mark.parametrize("digits", range(8))
def test_embeddings_stand_where_a_processor_reads_them_at_once(tmp_path, digits):
    likeness.write(tmp_path / "shop", Index(["name"], random_rows(1), "m" * digits))

    assert int.from_bytes((tmp_path / "shop").read_bytes()[:8], "little") % 8 == 0


def test_safetensors_reads_the_file(tmp_path, index):
    safetensors = pytest.importorskip("safetensors.numpy", reason="it is no dependency of ours")
    likeness.write(tmp_path / "shop", index)

    found = safetensors.load_file(tmp_path / "shop")

    np.testing.assert_array_equal(found["embeddings"], index.embeddings)
    assert bytes(found["names"]).decode().split("\0") == list(index.names)


def test_a_disk_that_is_full_leaves_the_old_index(tmp_path, index):
    """A limit on a file's size is what a process meets of a full disk: the write fails half-way."""
    likeness.write(tmp_path / "shop", index)
    before = (tmp_path / "shop").read_bytes()
    code = (
        "import sys, numpy as np; from pathlib import Path; from seamline import likeness;"
        "rows = np.zeros((9000, 64), np.float32); rows[:, 0] = 1;"
        "likeness.write(Path(sys.argv[1]), likeness.Index([str(n) for n in range(9000)], rows, 'x'))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "shop"],
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "File too large" in done.stderr
    assert (tmp_path / "shop").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_kill_leaves_the_old_index_or_the_new_one(tmp_path, index, call):
    """SIGKILL at each system call that writes it; strace does it for real."""
    likeness.write(tmp_path / "shop", index)
    before = (tmp_path / "shop").read_bytes()
    code = (
        "import sys; from pathlib import Path; from seamline import likeness;"
        "shop = Path(sys.argv[1]); old = likeness.read(shop);"
        "likeness.write(shop, likeness.Index(old.names, -old.embeddings, 'new'))"
    )
    kill = f"strace -f -qq -o /dev/null -P {tmp_path}/.tmp.shop -e trace={call} -e inject={call}:signal=SIGKILL"

    killed = subprocess.run([*kill.split(), sys.executable, "-c", code, tmp_path / "shop"], cwd=ROOT, check=False)
    found = likeness.read(tmp_path / "shop")

    assert killed.returncode == -9
    assert (tmp_path / "shop").read_bytes() == before or found.model == "new"
    likeness.write(tmp_path / "shop", found)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"], "what the kill left behind is gone"


def many(count, width=16):
    """Rows in clusters, as embeddings are."""
    generator = np.random.default_rng(6)
    centres = generator.normal(size=(40, width))
    return unit(centres[generator.integers(0, 40, count)] + generator.normal(scale=0.3, size=(count, width)))


def test_beyond_the_exact_ones_a_missing_library_is_said_and_the_answer_exact(monkeypatch):
    index = Index(names(2000), many(2000), MODEL)
    exact = index.nearest(index.embeddings[:20], 5)
    monkeypatch.setattr(likeness, "EXACT_ITEMS", 1999)
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.warns(UserWarning, match=r"2,000 pictures are compared one by one.*pip install \"seamline\[likeness\]"):
        found = index.nearest(index.embeddings[:20], 5)

    assert found == exact


def test_beyond_the_exact_ones_lists_find_nearly_all(monkeypatch):
    pytest.importorskip("faiss", reason="the extra `likeness` is not installed")
    index = Index(names(4000), many(4000), MODEL)
    asked = index.embeddings[::40]
    exact = index.nearest(asked, 10)
    monkeypatch.setattr(likeness, "EXACT_ITEMS", 3999)
    monkeypatch.setattr(lists, "PROBED", 3)

    found = index.nearest(asked, 10)

    shares = [
        len({a.name for a in one} & {b.name for b in other}) / 10 for one, other in zip(found, exact, strict=True)
    ]
    assert index._lists is not None
    assert 0.9 < np.mean(shares) < 1, "they are looked through, but not all of them"
    assert index.nearest(asked, 10, exact=True) == exact


def test_more_lists_find_more(monkeypatch):
    pytest.importorskip("faiss", reason="the extra `likeness` is not installed")
    rows = many(4000)
    exact = likeness.nearest(rows, rows[::40], 10)[0]
    shares = []
    for probed in (1, 3, 63):
        monkeypatch.setattr(lists, "PROBED", probed)
        found = lists.Lists(rows).nearest(rows[::40], 10)[0]
        shares.append(np.mean([np.isin(one, other).mean() for one, other in zip(found, exact, strict=True)]))

    assert shares[0] < shares[1] < shares[2] == 1


def test_lists_that_hold_too_few_fall_back_to_every_picture(monkeypatch):
    pytest.importorskip("faiss", reason="the extra `likeness` is not installed")
    index = Index(names(3000), many(3000), MODEL)
    exact = index.nearest(index.embeddings[:2], 2000)
    monkeypatch.setattr(likeness, "EXACT_ITEMS", 2999)
    monkeypatch.setattr(lists, "PROBED", 1)

    assert index.nearest(index.embeddings[:2], 2000) == exact
