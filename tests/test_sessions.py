"""An int8 model that proves itself on this very processor, or is passed over."""

import json
import platform

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import QuantType, quantize_static

import seamline
from seamline import bundle as shipped
from seamline import check, sessions, slots
from tasks import bundle, export, folders, processor, quantise, trained
from tasks.arrays import CLASSES, Split
from tests.conftest import ROOT

SIZE = {"width": 8, "blocks": 1}


@pytest.fixture(scope="module")
def files(numbers, tmp_path_factory):
    """The files of a bundle with both models, without its manifest."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(3)
    model = trained.build("residual", SIZE, mean=0.286, deviation=0.353)
    (folder / "model.onnx").write_bytes(export.convert(model, {"classes": json.dumps(CLASSES)}))
    images = np.random.default_rng(4).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    (folder / "int8.onnx").write_bytes(quantise.quantised(folder / "model.onnx", images, numbers.quantise))
    test = Split(images, np.resize(np.arange(10, dtype=np.uint8), 40))
    return {
        shipped.MODEL: (folder / "model.onnx").read_bytes(),
        shipped.GOLDEN: bundle.golden(folder / "model.onnx", test, 1, 0.001),
        shipped.MODEL_INT8: (folder / "int8.onnx").read_bytes(),
        shipped.GOLDEN_INT8: bundle.golden(folder / "int8.onnx", test, 1, 0.001),
        shipped.CARD: b"# Seamline\n",
    }


@pytest.fixture
def written(files, tmp_path):
    """(files that are otherwise) → the bundle's folder, its manifest in order."""

    def write(**otherwise):
        changed = files | {name.replace("_", "-", 1).replace("_", "."): value for name, value in otherwise.items()}
        facts = {"classes": list(CLASSES), "metrics": {"accuracy": 0.0}, "int8": {"accuracy": 0.0}}
        folders.fill(tmp_path / "both", changed | {shipped.MANIFEST: bundle.manifest_of(1, facts, changed)})
        return tmp_path / "both"

    return write


def perturbed(content):
    """The model as another processor's kernels might run it: every kernel a little off."""
    proto = onnx.load_from_string(content)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array((values // 2).astype(np.int8), tensor.name))
    return proto.SerializeToString()


def of_the_future(content):
    """With an operator that onnxruntime does not have."""
    proto = onnx.load_from_string(content)
    proto.graph.node[0].op_type = "Foresee"
    return proto.SerializeToString()


def test_int8_answers_where_it_is_right(written, files, tmp_path):
    classifier = seamline.Classifier(written())
    (tmp_path / "int8.onnx").write_bytes(files[shipped.MODEL_INT8])
    images = np.random.default_rng(9).integers(0, 256, (5, 28, 28), dtype=np.uint8)

    assert (classifier.precision, classifier.int8_failures) == (sessions.INT8, [])
    np.testing.assert_array_equal(
        classifier.probabilities(images), seamline.Classifier(tmp_path / "int8.onnx").probabilities(images)
    )


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param(perturbed, "probabilities differ by", id="another processor's kernels"),
        pytest.param(lambda content: content[:2000], "it is not one whole ONNX file", id="torn"),
        pytest.param(of_the_future, "No Op registered for Foresee", id="not to be loaded here"),
    ],
)
def test_float_answers_where_int8_is_wrong(written, files, tmp_path, broken, said):
    folder = written(model_int8_onnx=broken(files[shipped.MODEL_INT8]))
    (tmp_path / "float.onnx").write_bytes(files[shipped.MODEL])
    images = np.random.default_rng(9).integers(0, 256, (5, 28, 28), dtype=np.uint8)

    classifier = seamline.Classifier(folder)

    assert classifier.precision == sessions.FLOAT
    assert said in classifier.int8_failures[0]
    np.testing.assert_array_equal(
        classifier.probabilities(images), seamline.Classifier(tmp_path / "float.onnx").probabilities(images)
    )
    slots.install(tmp_path / "slots", folder)
    assert slots.start(tmp_path / "slots").precision == sessions.FLOAT


def quantised_in_eight_bits(exported, target, images):
    """As quantise does it, but for the seventh bit."""
    quantize_static(
        exported,
        target,
        quantise.Batches(images),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


@pytest.mark.skipif(
    platform.machine() != "x86_64" or any("vnni" in flag for flag in processor.flags()),
    reason="this processor does not saturate",
)
def test_saturation_on_this_very_processor_is_noticed(written, numbers, tmp_path):
    """Golden vectors as a processor that does not saturate has them: computed without int8 kernels."""
    reference = ROOT / "seamline/reference"
    images = shipped.golden(shipped.read(reference)).images
    quantised_in_eight_bits(reference / shipped.MODEL, tmp_path / "eight.onnx", images)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    exact = onnxruntime.InferenceSession(tmp_path / "eight.onnx", options, providers=["CPUExecutionProvider"])
    vectors = json.loads((reference / shipped.GOLDEN).read_text())
    vectors["probabilities"] = exact.run(["probabilities"], {"image": images})[0].tolist()
    vectors["tolerance"] = numbers.bundle.golden_tolerance_int8

    folder = written(
        model_int8_onnx=(tmp_path / "eight.onnx").read_bytes(), golden_int8_json=json.dumps(vectors).encode()
    )

    assert seamline.Classifier(folder).precision == sessions.FLOAT


def test_verify_says_which_model_answers(written, files):
    lines = [line for line, reasons in check.proofs(written(), None, None) if not reasons]
    passed_over = written(model_int8_onnx=perturbed(files[shipped.MODEL_INT8]))
    others = [line for line, reasons in check.proofs(passed_over, None, None) if not reasons]

    assert lines[1] == "12 golden vectors on this processor, int8 model"
    assert others[1].startswith(
        "12 golden vectors on this processor, float model (the int8 model is passed over: probabilities differ by"
    )


def test_broken_golden_vectors_of_int8_pass_it_over(written):
    classifier = seamline.Classifier(written(golden_int8_json=b"{}"))

    assert classifier.precision == sessions.FLOAT
    assert classifier.int8_failures[0].startswith("golden-int8.json is not as format 1 has it")


def test_int8_model_without_golden_vectors_is_refused(files, tmp_path):
    kept = {name: content for name, content in files.items() if name != shipped.GOLDEN_INT8}
    folders.fill(tmp_path / "one", kept | {shipped.MANIFEST: bundle.manifest_of(1, {"classes": list(CLASSES)}, kept)})

    with pytest.raises(shipped.BundleError, match=r"manifest\.json names no golden-int8\.json"):
        shipped.read(tmp_path / "one")


def test_what_onnxruntime_cannot_load_is_a_value_error(model_file):
    with pytest.raises(ValueError, match="No Op registered for Foresee"):
        sessions.open_model(of_the_future(model_file.read_bytes()), threads=1)


def test_what_is_no_onnx_file_is_a_value_error():
    with pytest.raises(ValueError, match="^it is not one whole ONNX file$"):
        sessions.open_model(b"no model", threads=1)
