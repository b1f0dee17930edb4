import json

import keras
import numpy as np
import onnx
import pytest

import seamline
from tasks import export, quantise, splits, trained
from tasks.arrays import CLASSES
from tasks.errors import ExportError
from tasks.files import write_json

PUBLISHED = {"published": True, "weights": "w"}
EVEN = quantise.Compared(
    images=10_000,
    float_accuracy=0.93,
    accuracy=0.93,
    same_class=10_000,
    largest_difference=0.0,
    float_bytes=400_000,
    bytes=100_000,
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A real export of an untrained net."""
    keras.utils.set_random_seed(3)
    model = trained.build("residual", {"width": 8, "blocks": 1}, mean=0.2, deviation=0.2)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    path.write_bytes(export.convert(model, {"classes": json.dumps(CLASSES), "weights": "w"}))
    return path


@pytest.fixture
def limits(numbers):
    return numbers.quantise.model_copy(
        update={"max_loss": 0.001, "min_speedup": 1.2, "min_saved_bytes": 1_000_000, "images": 64}
    )


@pytest.fixture
def run(exported, normalised, tmp_path):
    """(params, what export.json says) → the report, after the stage."""

    def run_stage(params, export_report=PUBLISHED):
        write_json(tmp_path / "export.json", export_report)
        written = (tmp_path / name for name in ("int8", "quantise.json", "quantise.md"))
        quantise.run(params, normalised, tmp_path / "export.json", exported, *written)
        return json.loads((tmp_path / "quantise.json").read_text())

    return run_stage


def test_model_that_is_worth_it_is_written_with_the_decision(run, limits, tmp_path):
    found = run(limits.model_copy(update={"max_loss": 1.0, "min_saved_bytes": 1}))

    assert found["published"] is True
    assert found["reasons"] == []
    assert json.loads((tmp_path / "int8/decision.json").read_text())["published"] is True
    assert found["bytes"] == (tmp_path / "int8/model.onnx").stat().st_size < 0.6 * found["float_bytes"]
    assert seamline.Classifier(tmp_path / "int8/model.onnx").classes == CLASSES
    assert "shipped beside the float model" in (tmp_path / "quantise.md").read_text()


def test_model_that_is_not_worth_it_leaves_the_decision_alone(run, limits, tmp_path):
    run(limits.model_copy(update={"max_loss": 1.0, "min_saved_bytes": 1}))

    found = run(limits.model_copy(update={"min_speedup": 1000.0}))

    assert found["published"] is False
    assert [path.name for path in (tmp_path / "int8").iterdir()] == ["decision.json"], "the one before is gone"
    assert "worth it from 1000 times or 1,000,000 bytes on" in found["reasons"][-1]
    assert found["reasons"][-1] in (tmp_path / "quantise.md").read_text()
    assert set(found["latency_us_1"]) == set(found["latency_us_64"]) == {"float", "int8"}


def test_decision_has_no_times_so_that_what_follows_stays_current(run, limits, tmp_path):
    contents = set()
    for _ in range(2):
        run(limits.model_copy(update={"min_speedup": 1000.0}))
        contents.add((tmp_path / "int8/decision.json").read_bytes())

    assert len(contents) == 1
    assert b"latency" not in contents.pop()


def test_accuracy_is_that_of_the_whole_test_set(run, limits, exported, normalised):
    test = splits.read(normalised, "test")
    expected = seamline.Classifier(exported).probabilities(test.images).argmax(axis=1)

    found = run(limits)

    assert found["images"] == 100
    assert found["float_accuracy"] == (expected == test.labels).mean()


def test_nothing_is_quantised_that_was_not_exported(run, limits, tmp_path):
    with pytest.raises(ExportError, match=r"no exported file of this model to quantise\. Run `dvc repro export`"):
        run(limits, {"published": False, "weights": "w"})

    assert not (tmp_path / "int8").exists()


def test_int8_file_keeps_contract_and_metadata_and_has_int8_weights_of_seven_bits(exported, limits):
    images = np.random.default_rng(4).integers(0, 256, (64, 28, 28), dtype=np.uint8)

    content = quantise.quantised(exported, images, limits)

    before, after = onnx.load(exported), onnx.load_from_string(content)
    weights = [
        onnx.numpy_helper.to_array(one) for one in after.graph.initializer if one.data_type == onnx.TensorProto.INT8
    ]
    kernels = [one for one in weights if one.ndim > 1]
    assert {entry.key: entry.value for entry in after.metadata_props} == {
        "classes": json.dumps(CLASSES),
        "weights": "w",
    }
    assert (after.ir_version, after.opset_import) == (8, before.opset_import)
    assert [one.name for one in (*after.graph.input, *after.graph.output)] == [
        one.name for one in (*before.graph.input, *before.graph.output)
    ]
    assert len(kernels) == 8, "seven convolutions and the head"
    shapes = {one.name: list(one.dims) for one in after.graph.initializer}
    scales = [(shapes[node.input[0]], shapes[node.input[1]]) for node in after.graph.node if node.input[0] in shapes]
    assert [scale for kernel, scale in scales if len(kernel) == 4] == [[8], *[[16]] * 3, *[[32]] * 3], "per channel"
    assert max(np.abs(one.astype(int)).max() for one in kernels) == 64
    assert content == quantise.quantised(exported, images, limits), "the same again"


@pytest.mark.parametrize("count", [64, 67, 100])  # one batch, a prime, two batches: histograms take none but equal ones
@pytest.mark.parametrize("method", quantise.METHODS)
def test_every_method_says_almost_what_the_float_model_says(exported, limits, method, count, tmp_path):
    images = np.random.default_rng(4).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    (tmp_path / "int8.onnx").write_bytes(
        quantise.quantised(exported, images, limits.model_copy(update={"method": method}))
    )

    found, expected = (seamline.Classifier(path).probabilities(images) for path in (tmp_path / "int8.onnx", exported))

    assert 0 < np.abs(found - expected).max() < 0.1


def test_calibration_draws_training_images_by_the_seed(limits):
    images = np.arange(100, dtype=np.uint8).repeat(784).reshape(100, 28, 28)

    drawn = quantise.calibration(images, limits)
    other = quantise.calibration(images, limits.model_copy(update={"seed": limits.seed + 1}))

    assert len({image[0, 0] for image in drawn}) == len(drawn) == 64
    assert np.array_equal(drawn, quantise.calibration(images, limits))
    assert not np.array_equal(drawn, other)
    assert len(quantise.calibration(images[:10], limits)) == 10


@pytest.mark.parametrize(
    ("changed", "latency_us", "said"),
    [
        pytest.param({"accuracy": 0.929}, [120, 100], [], id="exactly at the limits on loss and speed"),
        pytest.param({"float_bytes": 1_100_000}, [100, 100], [], id="exactly at the limit on size"),
        pytest.param({"accuracy": 0.9289}, [120, 100], ["it loses 0.11 points of accuracy"], id="loses too much"),
        pytest.param({"accuracy": float("nan")}, [120, 100], ["it loses nan points"], id="nan is a loss"),
        pytest.param({}, [119, 100], ["it is 1.19 times as fast and saves 300,000 bytes"], id="neither"),
        pytest.param({"accuracy": 0.9}, [90, 100], ["it loses 3.00", "it is 0.90 times"], id="both are said"),
    ],
)
def test_objections(limits, changed, latency_us, said):
    found = quantise.objections(EVEN._replace(**changed), latency_us, limits)

    assert len(found) == len(said)
    assert all(reason.startswith(start) for reason, start in zip(found, said, strict=True))


def test_compare_counts_classes_and_measures_the_largest_difference():
    before = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    after = np.array([[0.8, 0.2], [0.2, 0.8], [0.4, 0.6]], np.float32)

    found = quantise.compare([before, after], np.array([0, 1, 0], np.uint8), [40, 10])

    assert found[:4] == (3, 1.0, 2 / 3, 2)
    assert found.largest_difference == pytest.approx(0.2)
    assert found[5:] == (40, 10)


def test_int8_probabilities_sum_to_one(exported, limits, tmp_path):
    """Rounded to 1/255 each they did not, where one class is all but sure."""
    images = np.random.default_rng(4).integers(0, 256, (64, 28, 28), dtype=np.uint8)
    (tmp_path / "model.onnx").write_bytes(quantise.quantised(exported, images, limits))

    rows = seamline.Classifier(tmp_path / "model.onnx").probabilities(images)

    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
