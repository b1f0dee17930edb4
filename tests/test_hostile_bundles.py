"""Bundles that were altered or made to do harm: whole, signed and of our contract, or one line and nothing loaded."""

import json
import os
import pickle
import subprocess
import sys
from itertools import pairwise

import keras
import numpy as np
import onnxruntime
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import seamline
from seamline import bundle as shipped
from seamline import check, ed25519, external, slots
from tasks import bundle, folders
from tests.conftest import KINDS, ROOT

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
RANGES = 40  # of each file
MOST_MIB = 400  # of a process that is offered all of them
bounded = settings(max_examples=100, deadline=5_000)  # ms: what hangs fails
ROWS = np.minimum(np.arange(784) // 28 // 3, 9)
WEIGHTS = (ROWS[:, None] == np.arange(10)).astype(np.float32) / 100  # of the known model: the brightest tenth wins
NAMES = (shipped.MANIFEST, shipped.SIGNATURE, shipped.MODEL, shipped.GOLDEN, shipped.CARD)


def sealed(files, version=1):
    """The files with a manifest that vouches for them, as anybody can make one, and our signature."""
    facts = {"classes": KINDS, "metrics": {"accuracy": 0.9}}
    files = {name: content for name, content in files.items() if name not in {shipped.MANIFEST, shipped.SIGNATURE}}
    manifest = bundle.manifest_of(version, facts, files)
    return files | {shipped.MANIFEST: manifest, shipped.SIGNATURE: KEY.sign(manifest)}


@pytest.fixture(scope="module")
def files(bundle_files):
    return sealed(bundle_files())


@pytest.mark.parametrize("how", ["zeros", "inverted", "absent"])
@pytest.mark.parametrize("name", NAMES)
def test_each_range_of_bytes_of_each_file_is_vouched_for(tmp_path, files, name, how):
    content = files[name]
    edges = np.linspace(0, len(content), RANGES + 1).astype(int).tolist()
    folders.fill(tmp_path / "whole", files)
    assert shipped.read(tmp_path / "whole", PUBLIC).version == 1
    for start, end in pairwise(edges):
        middle = {
            "zeros": bytes(end - start),
            "inverted": bytes(255 - byte for byte in content[start:end]),
            "absent": b"",
        }
        altered = content[:start] + middle[how] + content[end:]
        if altered == content:
            continue
        (tmp_path / "whole" / name).write_bytes(altered)

        with pytest.raises(shipped.BundleError, match=r"is altered|not the signature"):
            shipped.read(tmp_path / "whole", PUBLIC)


# Models that are not ours, in bundles that are otherwise whole


def weights_elsewhere(location):
    """A tensor whose content is in another file."""
    tensor = TensorProto(
        name="weights", data_type=TensorProto.FLOAT, dims=[784, 10], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", str(784 * 10 * 4))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(nodes=None, weights=None, image=("image", TensorProto.UINT8, ["n", 28, 28]), outputs=None, **otherwise):
    """An ONNX file that differs from ours in what is given."""
    nodes = nodes or [
        helper.make_node("Cast", [image[0]], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["cast"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("Identity", ["logits"], ["embedding"]),
    ]
    weights = weights or numpy_helper.from_array(WEIGHTS, "weights")
    outputs = outputs or [("probabilities", TensorProto.FLOAT, ["n", 10])]
    values = [helper.make_tensor_value_info(*one) for one in outputs]
    graph = helper.make_graph(nodes, "hostile", [helper.make_tensor_value_info(*image)], values, [weights])
    opsets = [helper.make_opsetid("", otherwise.get("opset", 17)), *otherwise.get("opsets", [])]
    made = helper.make_model(graph, ir_version=otherwise.get("ir", 8), opset_imports=opsets)
    made.functions.extend(otherwise.get("functions", []))
    helper.set_model_props(made, {"classes": otherwise.get("classes", json.dumps(KINDS)), "version": "0"})
    return made


def constant(tensor):
    return helper.make_node("Constant", [], ["weights"], value=tensor)


def in_a_branch(tensor):
    """If … then a constant that is in another file."""
    value = helper.make_tensor_value_info("weights", TensorProto.FLOAT, [784, 10])
    branch = helper.make_graph([constant(tensor)], "branch", [], [value])
    return helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch)


def in_a_function(tensor):
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_function("local", "F", [], ["weights"], [constant(tensor)], opsets)


def in_a_sparse_tensor(tensor):
    made = model()
    made.graph.sparse_initializer.add(dims=[784, 10]).values.CopyFrom(tensor)
    return made


def in_training(tensor):
    made = model()
    made.training_info.add().initialization.initializer.add().CopyFrom(tensor)
    return made


def reaching_out():
    for what, location in {
        "beside": "weights.bin",
        "above": "../" * 12 + "etc/passwd",
        "absolute": "/etc/passwd",
        "device": "/dev/zero",
        "itself": "model.onnx",
    }.items():
        yield f"data {what}", model(weights=weights_elsewhere(location))
    tensor = weights_elsewhere("weights.bin")
    yield "data of a constant", model([constant(tensor), *model().graph.node])
    yield "data of a branch", model([in_a_branch(tensor), *model().graph.node])
    yield "data of a function", model(functions=[in_a_function(tensor)], opsets=[helper.make_opsetid("local", 1)])
    yield "data of a sparse tensor", in_a_sparse_tensor(tensor)
    yield "data of a training", in_training(tensor)


def foreign():
    shout = helper.make_node("Shout", ["cast"], ["louder"], domain="com.example")
    yield (
        "operator of a foreign domain",
        model([*model().graph.node, shout], opsets=[helper.make_opsetid("com.example", 1)]),
    )
    yield "unknown operator", model([*model().graph.node, helper.make_node("Shout", ["cast"], ["louder"])])
    yield (
        "Python operator",
        model(
            [
                *model().graph.node,
                helper.make_node("PyOp", ["cast"], ["louder"], domain="ai.onnx.contrib", module="os"),
            ],
            opsets=[helper.make_opsetid("ai.onnx.contrib", 1)],
        ),
    )
    yield "opset of the future", model(opset=99)
    yield "IR of the future", model(ir=99)
    yield "fixed batch", model(image=("image", TensorProto.UINT8, [1, 28, 28]))
    yield "flat input", model(image=("image", TensorProto.UINT8, ["n", 784]))
    yield "larger input", model(image=("image", TensorProto.UINT8, ["n", 32, 32]))
    yield "float input", model(image=("image", TensorProto.FLOAT, ["n", 28, 28]))
    yield "input of another name", model(image=("picture", TensorProto.UINT8, ["n", 28, 28]))
    yield "fixed answer", model(outputs=[("probabilities", TensorProto.FLOAT, [1, 10])])
    more = numpy_helper.from_array(np.pad(WEIGHTS, ((0, 0), (0, 1))), "weights")
    yield "more answers", model(weights=more, outputs=[("probabilities", TensorProto.FLOAT, ["n", 11])])
    yield "answer of another name", model(outputs=[("logits", TensorProto.FLOAT, ["n", 10])])
    probabilities = ("probabilities", TensorProto.FLOAT, ["n", 10])
    *others, _ = model().graph.node
    on_its_side = [*others, helper.make_node("Transpose", ["logits"], ["embedding"])]
    yield (
        "embedding on its side",
        model(on_its_side, outputs=[probabilities, ("embedding", TensorProto.FLOAT, [10, "n"])]),
    )
    scalar = [*others, helper.make_node("ReduceMax", ["logits"], ["embedding"], keepdims=0)]
    yield "embedding of no axes", model(scalar, outputs=[probabilities, ("embedding", TensorProto.FLOAT, [])])
    for what, classes in {
        "a number": "5",
        "nothing": "[]",
        "numbers": "[1, 2]",
        "deep": "[" * 9_999,
        "text": "{",
    }.items():
        yield f"classes that are {what}", model(classes=classes)


def no_models(folder):
    """What is no ONNX file at all."""
    keras.utils.set_random_seed(1)
    harmful = keras.Sequential(
        [keras.layers.Input((28, 28)), keras.layers.Flatten(), keras.layers.Lambda(lambda x: x * 2)]
    )
    harmful.save(folder / "lambda.keras")
    harmful.save(folder / "lambda.h5")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model().SerializeToString(), options)
    yield "Keras file with a Lambda layer", (folder / "lambda.keras").read_bytes()
    yield "HDF5 file with a Lambda layer", (folder / "lambda.h5").read_bytes()
    yield "file of onnxruntime's own format", (folder / "model.ort").read_bytes()
    yield "pickle", pickle.dumps({"weights": [1.0] * 999})
    yield "pickle that runs a command", b"cos\nsystem\n(S'touch harmed'\ntR."
    yield "array of objects", b"\x93NUMPY\x01\x00v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"
    yield "nothing", b""
    yield "text", b"not a model"
    yield "two million fields", b"\x10\x01" * 2_000_000
    yield "field of no number", b"\x00\x01"
    yield "number that never ends", b"\xff" * 50
    whole = model().SerializeToString()
    yield "half a model", whole[: len(whole) // 2]


@pytest.fixture(scope="module")
def hostile_models(tmp_path_factory):
    """What it is → the file, none of which Seamline exported."""
    made = {what: one.SerializeToString() for what, one in (*reaching_out(), *foreign())}
    return made | dict(no_models(tmp_path_factory.mktemp("made")))


@pytest.fixture(scope="module")
def offered(tmp_path_factory, files, hostile_models):
    """A folder with a signed bundle around each of these models, and beside them what those reach for."""
    place = tmp_path_factory.mktemp("offered")
    WEIGHTS.tofile(place / "weights.bin")
    for number, content in enumerate(hostile_models.values()):
        folders.fill(place / str(number), sealed(files | {shipped.MODEL: content}, version=2))
    return place


OFFER = """
import json, sys
from pathlib import Path
from seamline import slots
for number in range(int(sys.argv[1])):
    print(json.dumps({"begun": number}), flush=True)
    try:
        slots.install(Path("slots"), Path(str(number)), bytes.fromhex(sys.argv[2]))
        came = "installed"
    except ValueError as error:
        came = f"refused: {error}"
    print(json.dumps({"came": came}), flush=True)
(peak,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(json.dumps({"peak": int(peak) // 1024}))
"""


def test_the_same_model_without_harm_is_installed(tmp_path, files):
    folders.fill(tmp_path / "honest", sealed(files | {shipped.MODEL: model().SerializeToString()}))

    assert slots.install(tmp_path / "slots", tmp_path / "honest", PUBLIC).version == 1


def test_no_hostile_model_is_installed_though_signed(tmp_path, files, offered, hostile_models):
    """One process is offered all of them, one after the other, in a folder where the data that they reach for lies."""
    folders.fill(tmp_path / "honest", files)
    slots.install(offered / "slots", tmp_path / "honest", PUBLIC)
    command = [sys.executable, "-c", OFFER, str(len(hostile_models)), PUBLIC.hex()]

    done = subprocess.run(
        command,
        cwd=offered,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]}: {done.stderr}"
    came = dict(zip(hostile_models, [line["came"] for line in lines if "came" in line], strict=True))
    assert {what: said for what, said in came.items() if not said.startswith("refused: ") or "\n" in said} == {}
    assert done.stderr == "", "onnxruntime says nothing of its own"
    assert lines[-1]["peak"] < MOST_MIB
    assert not (offered / "harmed").exists()
    assert slots.start(offered / "slots", PUBLIC).info["version"] == 1


@pytest.mark.parametrize(("what", "made"), [pytest.param(what, made, id=what) for what, made in reaching_out()])
def test_model_that_reaches_for_data_outside_itself_is_refused(tmp_path, monkeypatch, what, made):
    WEIGHTS.tofile(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())

    with pytest.raises(ValueError, match="is not a model that Seamline exported: it is not one whole ONNX file"):
        seamline.Classifier(tmp_path / "model.onnx")


def test_onnxruntime_itself_would_follow(tmp_path, monkeypatch):
    """Why the file is walked through: what lies in the working directory becomes the model's weights."""
    np.full((784, 10), 3, np.float32).tofile(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)
    content = model(weights=weights_elsewhere("weights.bin")).SerializeToString()

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    assert session.run(None, {"image": np.ones((1, 28, 28), np.uint8)})[0].shape == (1, 10)


def test_contract_is_named_in_the_refusal(tmp_path):
    made = dict(foreign())
    said = {
        "fixed batch": r"expected image uint8 \(n, 28, 28\) as its input. Received image tensor\(uint8\) \[1, 28, 28\]",
        "more answers": r"expected probabilities float \(n, 10\) as its output. Received probabilities",
        "classes that are nothing": "its metadata names no classes",
    }
    for what, message in said.items():
        (tmp_path / "model.onnx").write_bytes(made[what].SerializeToString())

        with pytest.raises(ValueError, match=message):
            seamline.Classifier(tmp_path / "model.onnx")


def test_model_that_fails_at_work_is_said_once(tmp_path, files, capfd):
    """It loads, and then asks for four terabytes."""
    size = numpy_helper.from_array(np.array([10**12], np.int64), "size")
    shape = helper.make_node("Shape", ["flat"], ["shape"])
    nodes = [
        *model().graph.node[:3],
        shape,
        helper.make_node("Cast", ["shape"], ["zero"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("Mul", ["size", "zero"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["vast"]),
        helper.make_node("ReduceMax", ["vast"], ["one"], keepdims=0),
        helper.make_node("Add", ["logits", "one"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["probabilities"]),
    ]
    folders.fill(tmp_path / "vast", sealed(files | {shipped.MODEL: model(nodes).SerializeToString()}))

    with pytest.raises(shipped.BundleError, match="The model fails on this device: "):
        slots.install(tmp_path / "slots", tmp_path / "vast", PUBLIC)

    assert capfd.readouterr() == ("", ""), "onnxruntime says it, too"


def test_files_that_are_too_large_together_are_not_read(tmp_path, files):
    entries = {f"{number}.bin": {"bytes": 200 * 2**20, "sha256": "0" * 64} for number in range(2_000)}
    manifest = json.loads(files[shipped.MANIFEST])
    folders.fill(
        tmp_path / "large",
        files | {shipped.MANIFEST: json.dumps(manifest | {"files": manifest["files"] | entries}).encode()},
    )

    with pytest.raises(shipped.BundleError, match="classes, version or files are not as format 1 has them"):
        shipped.read(tmp_path / "large")


def test_golden_vectors_that_are_too_large_are_not_parsed(files):
    found = shipped.Bundle({"classes": KINDS}, {shipped.GOLDEN: b"[" * (2**20 + 1)}, b"")

    with pytest.raises(shipped.BundleError, match="golden.json: expected at most 1,048,576 bytes"):
        shipped.golden(found)
    with pytest.raises(shipped.BundleError, match="golden.json is not as format 1 has it"):
        shipped.golden(found._replace(files={shipped.GOLDEN: b"[" * 2**20}))


@pytest.mark.parametrize("metrics", [None, [], {}, {"accuracy": "high"}], ids=str)
def test_manifest_that_promises_no_accuracy_proves_none(tmp_path, files, metrics):
    folders.fill(tmp_path / "bundle", files)
    manifest = json.loads(files[shipped.MANIFEST]) | {"metrics": metrics}
    (tmp_path / "bundle" / shipped.MANIFEST).write_text(json.dumps(manifest))
    np.save(tmp_path / "test-images.npy", np.zeros((10, 28, 28), np.uint8))
    np.save(tmp_path / "test-labels.npy", np.zeros(10, np.uint8))

    *_, (_, reasons) = check.proofs(tmp_path / "bundle", None, tmp_path)

    assert reasons == ["the manifest promises none"]


# Decoders, with whatever bytes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def changed(content, changes):
    """JSON with some of its parts, wherever they are, replaced."""
    for path, value in changes:
        at, key = content, None
        for step in path:
            if not isinstance(at, dict | list) or not at:
                break
            parent, key = at, (sorted(at)[step % len(at)] if isinstance(at, dict) else step % len(at))
            at = parent[key]
        if key is not None:
            parent[key] = value
    return content


CHANGES = st.lists(st.tuples(st.lists(st.integers(0, 20), min_size=1, max_size=4), JSON), min_size=1, max_size=4)


def read_or_refused(place, files):
    for name, content in files.items():
        (place / name).write_bytes(content)
    try:
        shipped.golden(shipped.read(place))
    except shipped.BundleError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either is right


@bounded
@given(changes=CHANGES)
def test_any_manifest_is_read_or_refused(place, files, changes):
    altered = changed(json.loads(files[shipped.MANIFEST]), changes)

    read_or_refused(place, files | {shipped.MANIFEST: json.dumps(altered).encode()})


@bounded
@given(changes=CHANGES)
def test_any_golden_vectors_are_read_or_refused(place, files, changes):
    altered = json.dumps(changed(json.loads(files[shipped.GOLDEN]), changes)).encode()

    read_or_refused(place, sealed(files | {shipped.GOLDEN: altered}))


@bounded
@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"-----BEGIN PUBLIC KEY-----\n", b"{", b"["]))
def test_any_bytes_as_key_manifest_state_or_model_are_refused(tmp_path_factory, content, start):
    folder = tmp_path_factory.mktemp("any")
    for name in ("key.pub", shipped.MANIFEST, slots.STATE):
        (folder / name).write_bytes(start + content)

    with pytest.raises(shipped.BundleError):
        shipped.public_key(folder / "key.pub")
    with pytest.raises(shipped.BundleError):
        shipped.read(folder)
    with pytest.raises(shipped.BundleError):
        slots.read(folder)
    assert isinstance(external.reaches_out(start + content), bool)


@bounded
@given(key=st.binary(max_size=40), signature=st.binary(max_size=70), message=st.binary(max_size=40))
def test_any_bytes_are_no_signature(key, signature, message):
    assert not ed25519.verify(key, message, signature)
    assert not ed25519.verify(key[:32].ljust(32, b"k"), message, signature[:64].ljust(64, b"s"))
    assert not ed25519.verify(PUBLIC, message, signature[:64].ljust(64, b"s"))


@bounded
@given(state=st.fixed_dictionaries({}, optional=dict.fromkeys(slots.State._fields, JSON)))
def test_any_state_is_read_or_refused(place, state):
    (place / slots.STATE).write_text(json.dumps(state))

    try:
        found = slots.read(place)
    except shipped.BundleError as error:
        assert "is broken. Remove it" in str(error)  # noqa: PT017  # either is right
        return
    assert {type(value) for value in found} <= {str, int, bool}


@bounded
@given(place_=st.floats(0, 1, exclude_max=True), content=st.binary(min_size=1, max_size=8))
def test_any_altered_model_is_loaded_within_the_contract_or_refused(place, model_file, place_, content):
    honest = model_file.read_bytes()
    start = int(place_ * len(honest))
    (place / "any.onnx").write_bytes(honest[:start] + content + honest[start + len(content) :])

    try:
        classifier = seamline.Classifier(place / "any.onnx")
        answer = classifier.probabilities(np.zeros((2, 28, 28), np.uint8))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either is right
        return
    assert answer.shape == (2, len(classifier.classes))
