import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import seamline
from seamline import __main__ as command
from seamline import decoding, pictures

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


def test_a_picture_of_fashion_mnist_is_taken_as_it_is(tmp_path):
    Image.fromarray(band(3)).save(tmp_path / "own.png")

    np.testing.assert_array_equal(pictures.read(tmp_path / "own.png"), band(3))


def product(mode, ground, garment):
    picture = Image.new(mode, (300, 200), ground)
    picture.paste(garment, (100, 20, 160, 180))
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(product("RGB", (255, 255, 255), (40, 60, 30)), id="colour"),
        pytest.param(product("L", 255, 50), id="grey"),
        pytest.param(product("RGBA", (0, 0, 0, 0), (40, 60, 30, 255)), id="transparent ground"),
        pytest.param(product("RGB", (255, 255, 255), (40, 60, 30)).quantize(8), id="palette"),
        pytest.param(product("CMYK", (0, 0, 0, 0), (200, 200, 200, 0)), id="CMYK"),
    ],
)
def test_a_product_shot_becomes_bright_on_black_and_fills_the_longest_edge(tmp_path, picture):
    path = tmp_path / ("shot.jpg" if picture.mode == "CMYK" else "shot.png")
    picture.save(path)

    image = pictures.read(path)

    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert image[:, 0].max() <= 10, "the ground is black"
    assert image[14, 14] > 60, "the garment is bright"
    assert (image[[0, -1]] > 60).any(axis=1).all(), "it reaches from top to bottom"


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30], ids=["empty", "text", "torn"]
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "shot.png").write_bytes(content)

    with pytest.raises(ValueError, match=": not a picture that can be read"):
        pictures.read(tmp_path / "shot.png")


def test_one_colour_is_no_garment(tmp_path):
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")

    with pytest.raises(ValueError, match="shows one colour and no garment"):
        pictures.read(tmp_path / "blank.png")


@pytest.mark.parametrize(("limit", "what"), [("LARGEST_BYTES", "bytes"), ("LARGEST_PIXELS", "pixels")])
def test_too_large_a_picture_is_refused(tmp_path, monkeypatch, limit, what):
    Image.new("L", (60, 60), 255).save(tmp_path / "large.png")
    monkeypatch.setattr(decoding, limit, 20)

    with pytest.raises(ValueError, match=f"expected at most 20 {what}"):
        pictures.read(tmp_path / "large.png")


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
