"""A trained model on disk: `model.weights.h5`, and `model.json` that says what they are the weights of.

Not Keras's own `.keras`: it embeds the date, so that equal weights would have unequal digests in DVC.
"""

import difflib
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import models
from tasks.arrays import Images, Probabilities
from tasks.errors import ParameterError
from tasks.files import digest, read_json, replacing, write_json

WEIGHTS, DESCRIPTION = "model.weights.h5", "model.json"
BATCH = 500  # images at a time


def build(name: str, size: dict[str, Any], mean: float, deviation: float, seed: int = 0) -> keras.Model:
    """A model of the zoo with fresh weights.

    Raises:
        ParameterError: there is none of that name, or it does not build with these numbers.
    """
    if name not in models.MODELS:
        near = difflib.get_close_matches(name, models.MODELS, n=1) or list(models.MODELS)
        raise ParameterError(f"There is no model {name!r} (did you mean {' or '.join(near)}?).")
    precision = keras.config.dtype_policy()
    keras.utils.clear_session()  # layers are numbered through a process, and their names go into the files
    keras.config.set_dtype_policy(precision)  # which is cleared, too
    try:
        return models.build(name, mean, deviation, seed, **size)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"The model {name} does not build with {size}: {' '.join(str(error).split())}") from error


def exact(model: keras.Model, name: str, size: dict[str, Any], mean: float, deviation: float) -> keras.Model:
    """The same model in float32, which is what is measured, saved and exported, whatever it was trained in."""
    keras.config.set_dtype_policy("float32")
    twin = build(name, size, mean, deviation)
    twin.set_weights(model.get_weights())
    return twin


def save(model: keras.Model, folder: Path, provenance: dict[str, Any]) -> str:
    """Write weights and description; the weights' SHA-256, which names this model from here on."""
    weights = digest(b"".join(np.asarray(variable).tobytes() for variable in model.weights))
    with replacing(folder / WEIGHTS) as temporary:
        model.save_weights(temporary)
    write_json(folder / DESCRIPTION, {"weights": weights, **provenance})
    return weights


def load(folder: Path) -> tuple[keras.Model, dict[str, Any]]:
    """The model in float32, and its description."""
    description = read_json(folder / DESCRIPTION)
    keras.config.set_dtype_policy("float32")
    model = build(description["model"], description["size"], **description["pixels"])
    model.load_weights(folder / WEIGHTS)
    return model, description


def logits(model: keras.Model, images: Images) -> NDArray[np.float32]:
    """The model's answers before the softmax: float32 (n, 10)."""
    parts = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(model.predict_on_batch(np.asarray(part)), np.float32) for part in parts])


def probabilities(model: keras.Model, images: Images) -> Probabilities:
    """What the model thinks of each image: float32 (n, 10), rows sum to 1."""
    answers = logits(model, images)
    powers = np.exp(answers - answers.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
