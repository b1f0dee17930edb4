import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import seamline
from tasks import export, probe, splits, trained
from tasks.arrays import CLASSES, Split
from tasks.errors import ExportError, ParameterError
from tasks.files import write_array, write_json

SIZE = {"width": 4, "blocks": 1}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return trained.build("residual", SIZE, mean=0.286, deviation=0.353)


@pytest.fixture(scope="module")
def content(model):
    return export.convert(model, {"classes": json.dumps(CLASSES)})


@pytest.fixture
def images():
    return np.random.default_rng(4).integers(0, 256, (40, 28, 28), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, model, images):
    """What export reads: an untrained model that a gate has passed."""
    provenance = {
        "recipe": "swift",
        "model": "residual",
        "size": SIZE,
        "pixels": {"mean": 0.286, "deviation": 0.353},
        "data": {"test": "t"},
        "parameters": {"train": {}},
        "unknown_below": 0.625,
    }
    weights = trained.save(model, tmp_path / "model", provenance)
    splits.write(tmp_path / "normalised", "test", Split(images, np.zeros(len(images), np.uint8)))
    write_array(tmp_path / "probabilities.npy", trained.probabilities(model, images))
    write_json(tmp_path / "metrics.json", {"accuracy": 0.9})
    write_json(tmp_path / "verdict.json", {"passed": True, "weights": weights})
    return tmp_path


def run(numbers, folder):
    read = ("normalised", "model", "metrics.json", "verdict.json", "probabilities.npy")
    export.run(numbers.export, *(folder / name for name in (*read, "exports/model.onnx", "export.json", "export.md")))
    return json.loads((folder / "export.json").read_text())


def test_the_file_is_the_contract(content):
    proto = onnx.load_from_string(content)
    session = onnxruntime.InferenceSession(content)
    (image,) = session.get_inputs()
    probabilities, embedding = sorted(session.get_outputs(), key=lambda output: output.name, reverse=True)

    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["n", 28, 28])
    assert (probabilities.name, probabilities.type, probabilities.shape) == (
        "probabilities",
        "tensor(float)",
        ["n", 10],
    )
    assert (embedding.name, embedding.type, embedding.shape) == ("embedding", "tensor(float)", ["n", 16])
    assert [(entry.domain, entry.version) for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}] == [
        ("", 17)
    ]
    assert proto.ir_version == 8


def test_kernels_are_folded_so_that_a_device_standardises_nothing(content):
    operators = {node.op_type for node in onnx.load_from_string(content).graph.node}

    assert "ReduceMean" not in operators | {"ReduceSum", "Sqrt", "Reciprocal"} - operators
    assert operators.isdisjoint({"ReduceSum", "Sqrt", "Reciprocal"})


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_images_agrees_with_keras(content, model, images, count):
    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(["probabilities"], {"image": images[:count]})

    np.testing.assert_allclose(found, trained.probabilities(model, images[:count]), atol=1e-5)


def test_export_publishes_what_agrees(numbers, folder, images):
    found = run(numbers, folder)
    classifier = seamline.Classifier(folder / "exports/model.onnx")

    assert found["published"]
    assert found["same_class"] == found["images"] == len(images)
    assert found["largest_difference"] <= 1e-5
    assert found["bytes"] == (folder / "exports/model.onnx").stat().st_size
    assert classifier.classes == CLASSES
    assert classifier.info["accuracy"] == "0.9000"
    assert classifier.unknown_below == 0.625
    assert dict(zip(CLASSES, classifier.photograph_odds.tolist(), strict=True)) == {
        name: numbers.export.photograph_odds.get(name, 1.0) for name in CLASSES
    }
    assert set(classifier.info) == {
        "classes",
        "input",
        "output",
        "accuracy",
        "unknown_below",
        "photograph_odds",
        "data",
        "parameters",
        "weights",
        "version",
    }
    assert [path.name for path in (folder / "exports").iterdir()] == ["model.onnx"]


def test_odds_of_no_class_publish_nothing(numbers, folder):
    odd = numbers.export.model_copy(update={"photograph_odds": {"Hat": 2.0}})

    with pytest.raises(ParameterError, match="export.photograph_odds names Hat, expected T-shirt/top, Trouser, "):
        run(numbers.model_copy(update={"export": odd}), folder)
    assert not (folder / "exports/model.onnx").exists()


def test_one_perturbed_weight_publishes_nothing(numbers, folder, monkeypatch):
    honest = export.convert

    def perturbed(model, properties):
        proto = onnx.load_from_string(honest(model, properties))
        tensor = max(proto.graph.initializer, key=lambda one: len(one.raw_data))
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] += 1.0
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return proto.SerializeToString()

    (folder / "exports").mkdir()
    (folder / "exports/model.onnx").write_bytes(b"the one before")
    monkeypatch.setattr(export, "convert", perturbed)

    with pytest.raises(ExportError, match=r"nothing published: Keras and ONNX differ by .*, the limit is 1e-05"):
        run(numbers, folder)

    assert (folder / "exports/model.onnx").read_bytes() == b"the one before"
    assert json.loads((folder / "export.json").read_text())["published"] is False
    assert "not published" in (folder / "export.md").read_text()


def of_opset(proto):
    proto.opset_import[0].version = 23


def of_ir(proto):
    proto.ir_version = 10


def of_one_image(proto):
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1


def with_a_foreign_operator(proto):
    proto.graph.node.add(op_type="Shout", domain="com.example", input=["image"], output=["louder"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(of_opset, r"expected IR 8 or less and opset 17. Received IR 8, opset \[.*23\]", id="opset"),
        pytest.param(of_ir, "Received IR 10, opset", id="IR"),
        pytest.param(with_a_foreign_operator, r"and operators of com.example\.", id="foreign operator"),
        pytest.param(
            of_one_image, r"expected image uint8 \(n, 28, 28\) as its input. Received image", id="fixed batch"
        ),
    ],
)
def test_file_that_devices_could_not_use_is_not_published(numbers, folder, content, monkeypatch, spoil, said):
    proto = onnx.load_from_string(content)
    spoil(proto)
    monkeypatch.setattr(export, "convert", lambda *_: proto.SerializeToString())

    with pytest.raises(ExportError, match=f"nothing published: .*{said}"):
        run(numbers, folder)

    assert not (folder / "exports").exists()


def test_layer_that_onnx_does_not_have_is_one_line():
    image = keras.layers.Input((28, 28), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    odd = keras.layers.Lambda(tf.math.bessel_i0)(flat)

    with pytest.raises(ExportError, match=r"^nothing published: No Op registered for BesselI0 .*17\.$"):
        export.convert(keras.Model(image, keras.layers.Dense(10)(odd)), {"classes": json.dumps(CLASSES)})


def test_what_evaluate_measured_is_what_the_file_must_say(numbers, folder, model, images):
    write_array(folder / "probabilities.npy", trained.probabilities(model, images[::-1]))  # of other images

    with pytest.raises(ExportError, match="nothing published: Keras and ONNX differ by"):
        run(numbers, folder)

    assert not (folder / "exports").exists()


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        pytest.param({"passed": False}, "refused", id="refused"),
        pytest.param({"passed": "yes"}, "not true", id="not a verdict"),
        pytest.param({"weights": "of another"}, "another model", id="of another model"),
    ],
)
def test_what_the_gate_has_not_passed_is_not_exported(numbers, folder, verdict, why):
    path = folder / "verdict.json"
    write_json(path, {**json.loads(path.read_text()), **verdict})

    with pytest.raises(ExportError, match="the gate has not passed this model"):
        run(numbers, folder)

    assert not (folder / "exports").exists(), why


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        pytest.param({"largest_difference": 1e-5, "same_class": 9, "images": 9}, 0, id="exactly at the limit"),
        pytest.param({"largest_difference": 2e-5, "same_class": 9, "images": 9}, 1, id="too far apart"),
        pytest.param({"largest_difference": float("nan"), "same_class": 9, "images": 9}, 1, id="nan is a disagreement"),
        pytest.param({"largest_difference": 0.0, "same_class": 8, "images": 9}, 1, id="another class"),
    ],
)
def test_disagreements(found, reasons):
    assert len(export.disagreements(found, 1e-5)) == reasons


def test_the_probe_knows_nothing_but_numpy_and_onnxruntime(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(export.Path(probe.__file__).parent)!r}); import probe;"
        "sys.meta_path.insert(0, probe.Bouncer()); import numpy, json;"
        "import onnx"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert "No module named 'onnx' on a device" in result.stderr


def test_a_file_that_fails_alone_is_not_published(numbers, folder, monkeypatch):
    monkeypatch.setattr(probe, "__file__", str(folder / "absent.py"))

    with pytest.raises(ExportError, match="nothing published: alone with numpy and onnxruntime"):
        run(numbers, folder)
