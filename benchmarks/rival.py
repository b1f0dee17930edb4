"""A recipe's net, untrained, as RIVAL.onnx and RIVAL.tflite: `python -m benchmarks.rival RECIPE RIVAL`."""

import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tasks import export, recipes, trained
from tasks.arrays import SIDE


def main(name: str, target: Path) -> None:
    """Write both files."""
    recipe = recipes.load(Path(f"recipes/{name}.yaml"))
    keras.utils.set_random_seed(7)
    model = trained.build(recipe.model, recipe.size, mean=0.286, deviation=0.353)
    target.with_suffix(".onnx").write_bytes(export.convert(model, {}))
    target.with_suffix(".tflite").write_bytes(litert(model))


def litert(model: keras.Model) -> bytes:
    """For one picture at a time: uint8 (1, 28, 28) → probabilities, weights inside."""

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE), tf.uint8, name="image")])
    def classify(image: Any) -> Any:
        return tf.nn.softmax(model(image, training=False))

    frozen = convert_variables_to_constants_v2(classify.get_concrete_function())
    content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([frozen], model).convert()
    return content


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
