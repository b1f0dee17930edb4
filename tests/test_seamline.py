import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import seamline
from seamline import __main__ as command

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))


@pytest.fixture(scope="session")
def classifier(model_file):
    return seamline.Classifier(model_file)


def band(number):
    image = np.zeros((28, 28), np.uint8)
    image[3 * number : 3 * number + 3] = 200
    return image


def test_classify_names_what_each_picture_shows(classifier):
    answers = classifier.classify(np.stack([band(2), band(7)]))

    assert [answer.name for answer in answers] == ["kind 2", "kind 7"]
    assert all(0.9 < answer.probability <= 1 for answer in answers)


def test_one_picture_is_a_batch_of_one(classifier):
    assert classifier.classify(band(4)) == classifier.classify(band(4)[None])


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513])
def test_probabilities_sum_to_1_whatever_the_number(classifier, count):
    probabilities = classifier.probabilities(np.tile(band(1), (count, 1, 1)))

    assert probabilities.shape == (count, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_threads_change_nothing_but_the_time(classifier, model_file):
    images = np.random.default_rng(2).integers(0, 256, (600, 28, 28), dtype=np.uint8)

    two = seamline.Classifier(model_file, threads=2)

    np.testing.assert_allclose(two.probabilities(images), classifier.probabilities(images), atol=1e-6)


def test_no_threads_are_refused(model_file):
    with pytest.raises(ValueError, match="at least one thread. Received 0"):
        seamline.Classifier(model_file, threads=0)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(np.zeros((2, 28, 28), np.float32), id="floats"),
        pytest.param(np.zeros((2, 28, 27), np.uint8), id="another size"),
        pytest.param(np.zeros((2, 28, 28, 3), np.uint8), id="colour"),
        pytest.param(np.zeros(28, np.uint8), id="a line"),
    ],
)
def test_other_arrays_are_refused(classifier, images):
    with pytest.raises(ValueError, match=r"Expected uint8 \(n, 28, 28\)\. Received"):
        classifier.probabilities(images)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08" * 40], ids=["empty", "text", "garbage"])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)

    with pytest.raises(ValueError, match="is not a model that Seamline exported: ") as refusal:
        seamline.Classifier(tmp_path / "model.onnx")

    assert "ONNXRuntimeError" not in str(refusal.value)


def test_a_model_without_our_metadata_is_refused(tmp_path, model_file):
    model = onnx.load(model_file)
    del model.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(ValueError, match="its metadata names no classes"):
        seamline.Classifier(tmp_path / "foreign.onnx")


def test_a_missing_model_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no model at .*`make run`"):
        seamline.Classifier(tmp_path / "model.onnx")


def test_too_large_a_file_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"x" * 11)
    monkeypatch.setattr("seamline.classifier.LARGEST_BYTES", 10)

    with pytest.raises(ValueError, match="at most 10 bytes. Received 11"):
        seamline.Classifier(tmp_path / "model.onnx")


@pytest.fixture(scope="session")
def doubting(doubting_file):
    return seamline.Classifier(doubting_file)


@pytest.fixture
def with_odds(model_file, tmp_path):
    """(photograph_odds, as a text) → a classifier whose file says so."""

    def load(odds):
        model = onnx.load(model_file)
        model.metadata_props.add(key="photograph_odds", value=odds)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return seamline.Classifier(tmp_path / "model.onnx")

    return load


def test_answer_below_the_limit_is_unknown_and_keeps_its_probability(classifier, doubting):
    both = np.maximum(band(2), band(7))

    assert [answer.name for answer in doubting.classify(np.stack([band(2), both]))] == ["kind 2", "unknown"]
    assert doubting.classify(both)[0].probability == pytest.approx(0.5, abs=1e-4)
    assert classifier.classify(both)[0].name in {"kind 2", "kind 7"}, "a model that says no limit is always sure"
    assert (doubting.unknown_below, classifier.unknown_below) == (0.6, 0.0)


@pytest.mark.parametrize(
    ("row", "name"), [((0.6, 0.4), "kind 0"), ((0.4, 0.6), "kind 1"), ((0.59, 0.41), "unknown")], ids=str
)
def test_best_of_a_row_known_answer(doubting, row, name):
    assert doubting.best([*row, *[0.0] * 8]) == (name, max(row))


def test_views_are_averaged_before_the_answer(doubting):
    sure, torn = np.stack([band(2)] * 6), np.stack([band(2), band(7)] * 3)

    assert doubting.classify_views(sure) == doubting.classify(band(2))[0]
    assert doubting.classify_views(torn) == ("unknown", pytest.approx(0.5, abs=1e-4))
    assert doubting.classify_views(torn[[0, 1, 0, 0]]).name == "kind 2"


def test_views_of_a_photograph_are_weighed_and_a_product_shot_is_not(with_odds):
    weighing = with_odds('{"kind 7": 3, "kind 2": 0.5}')
    both = np.maximum(band(2), band(7))

    found = weighing.view_probabilities(np.stack([both, both]))
    before = weighing.probabilities(both)[0]

    assert found.sum() == pytest.approx(1)
    assert found[7] / found[2] == pytest.approx(6 * before[7] / before[2], rel=1e-5)
    assert weighing.classify_views(np.stack([both, both])).name == "kind 7"
    np.testing.assert_array_equal(weighing.view_probabilities(both[None]), before)


@pytest.mark.parametrize(
    "odds",
    [
        "[",
        "3",
        '{"kind 99": 1}',
        '{"kind 1": 0}',
        '{"kind 1": -1}',
        '{"kind 1": NaN}',
        '{"kind 1": "3"}',
        '{"kind 1": 1e9}',
        '{"kind 1": true}',
    ],
    ids=["torn", "number", "class", "zero", "negative", "nan", "text", "large", "bool"],
)
def test_odds_that_are_none_are_refused(with_odds, odds):
    with pytest.raises(ValueError, match="is not a model that Seamline exported: "):
        with_odds(odds)


@pytest.mark.parametrize("limit", ["nan", "1.0", "-0.1", "inf"])
def test_limit_that_is_no_share_is_refused(tmp_path, with_limit, limit):
    (tmp_path / "model.onnx").write_bytes(with_limit(limit))

    with pytest.raises(ValueError, match=rf"its metadata has unknown_below '{limit}', expected 0 … 1"):
        seamline.Classifier(tmp_path / "model.onnx")


def test_limit_that_is_no_number_is_refused(tmp_path, with_limit):
    (tmp_path / "model.onnx").write_bytes(with_limit("half"))

    with pytest.raises(ValueError, match="is not a model that Seamline exported: could not convert .*'half'"):
        seamline.Classifier(tmp_path / "model.onnx")


def test_the_command_answers_for_every_file(capsys, model_file):
    status = command.main(["classify", "--model", str(model_file), "--top", "2", *map(str, EXAMPLES)])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert len(lines) == len(EXAMPLES) == 10
    assert all(line.count("kind") == 2 for line in lines)


def test_the_command_goes_on_after_a_bad_file(capsys, model_file, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")

    status = command.main(["classify", "--model", str(model_file), str(tmp_path / "bad.png"), str(EXAMPLES[0])])

    captured = capsys.readouterr()
    assert status == 1
    assert "bad.png: not a picture" in captured.err
    assert captured.out.startswith(str(EXAMPLES[0]))


def test_the_command_without_a_model_is_one_line(capsys, tmp_path):
    assert command.main(["classify", "--model", str(tmp_path / "none.onnx"), str(EXAMPLES[0])]) == 1

    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "There is no model" in captured.err


def test_a_device_needs_numpy_and_onnxruntime_alone(model_file):
    code = (
        "import sys; from tasks import probe; sys.meta_path.insert(0, probe.Bouncer());"
        f"import numpy, seamline; print(seamline.Classifier({str(model_file)!r}).probabilities("
        "numpy.zeros((1, 28, 28), 'uint8')).shape)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (result.stdout, result.stderr) == ("(1, 10)\n", "")


def test_telemetry_is_off_before_onnxruntime_loads(model_file):
    code = f"import os, seamline; seamline.Classifier({str(model_file)!r}); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert result.stdout == "1\n"


def test_no_views_are_refused(model_file):
    with pytest.raises(ValueError, match="Expected at least one view"):
        seamline.Classifier(model_file).classify_views(np.zeros((0, 28, 28), np.uint8))
