import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx

from tasks import export, lean, trained
from tasks.arrays import CLASSES

IMAGES = np.random.default_rng(4).integers(0, 256, (9, 28, 28), dtype=np.uint8)
SIZES = {
    "residual": {"width": 6, "blocks": 1},
    "strided": {"stem": 6, "middle": 5, "width": 8, "blocks": 1},
    "convolutional": {"filters": [6, 5], "pool_after": [1], "units": 8},
    "dense": {"units": [16]},
}


def converted(model):
    """As tf2onnx writes it."""
    signature = [tf.TensorSpec((None, 28, 28), tf.uint8, name="image")]
    answer = tf.function(lambda image: {"logits": model(image, training=False)}, input_signature=signature)
    return tf2onnx.convert.from_function(answer, input_signature=signature, opset=export.OPSET)[0]


def answers(proto):
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"image": IMAGES})[0]


def operators(proto):
    return [node.op_type for node in proto.graph.node]


def channels(proto):
    """Filters of each convolution, and channels that it reads."""
    shapes = {tensor.name: tuple(tensor.dims[:2]) for tensor in proto.graph.initializer}
    return [shapes[node.input[1]] for node in proto.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("name", SIZES)
def test_a_lean_model_says_the_same(name):
    keras.utils.set_random_seed(3)
    proto = converted(trained.build(name, SIZES[name], mean=0.286, deviation=0.353))
    expected = answers(proto)

    lean.lean(proto)

    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(answers(proto), expected, atol=1e-5)
    assert "Unsqueeze" not in operators(proto)
    assert {name for node in proto.graph.node for name in node.input} >= {one.name for one in proto.graph.initializer}


def test_channels_between_two_convolutions_are_filled_up():
    proto = converted(trained.build("residual", SIZES["residual"], mean=0.286, deviation=0.353))
    before = channels(proto)

    lean.lean(proto)

    assert before[:2] == [(6, 1), (12, 6)]
    assert channels(proto)[:2] == [(8, 1), (12, 8)]
    assert [one for pair in channels(proto)[1:] for one in pair if one % 4] == []


def test_channels_that_an_addition_reads_too_stay():
    proto = converted(trained.build("residual", {"width": 3, "blocks": 1}, mean=0.286, deviation=0.353))

    lean.lean(proto)

    assert channels(proto) == [(4, 1), (6, 4), (8, 6), (6, 8), (12, 6), (12, 12), (12, 12)]


def test_scaling_by_more_than_a_number_keeps_its_shape():
    proto = converted(trained.build("residual", SIZES["residual"], mean=0.286, deviation=0.353))
    scale = next(node for node in proto.graph.node if node.op_type == "Mul").input[1]
    tensor = next(one for one in proto.graph.initializer if one.name == scale)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((28, 1), 0.01, np.float32), scale))
    expected = answers(proto)

    lean.lean(proto)

    np.testing.assert_allclose(answers(proto), expected, atol=1e-5)
    assert "Unsqueeze" in operators(proto)


def test_export_is_lean():
    model = trained.build("residual", SIZES["residual"], mean=0.286, deviation=0.353)

    proto = onnx.load_from_string(export.convert(model, {"classes": json.dumps(CLASSES)}))

    assert "Unsqueeze" not in operators(proto)
    assert channels(proto)[:2] == [(8, 1), (12, 8)]
