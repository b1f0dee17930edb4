import json
import os
import random
import subprocess
import sys

import keras
import numpy as np
import pytest

import models
from models.layers import StandardisedConv
from tasks import splits
from tests.conftest import ROOT

SIZES = {
    "convolutional": {"filters": [8, 8], "pool_after": [1], "units": 16, "dropout": 0.5},
    "dense": {"units": [32, 16], "dropout": 0.2},
    "residual": {"width": 4, "blocks": 2, "dropout": 0.1},
    "strided": {"stem": 4, "middle": 6, "width": 8, "blocks": 2, "dropout": 0.1},
}
SWIFT = {"width": 16, "blocks": 1}


@pytest.mark.parametrize("name", models.MODELS)
def test_a_model_takes_raw_pixels_and_gives_logits(name):
    model = models.build(name, mean=0.286, deviation=0.353, **SIZES[name])
    logits = model(np.zeros((3, 28, 28), np.uint8), training=False)

    assert model.input.dtype == "uint8"
    assert model.input.shape == (None, 28, 28)
    assert logits.shape == (3, 10)
    assert np.asarray(logits).dtype == np.float32


@pytest.mark.parametrize("name", models.MODELS)
def test_pixels_are_scaled_by_the_first_layer(name):
    model = models.build(name, mean=0.25, deviation=0.5, **SIZES[name])
    scaling = next(layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling))

    scaled = np.asarray(scaling(np.array([[[[0.0]], [[255.0]]]], np.float32))).ravel()

    np.testing.assert_allclose(scaled, [-0.5, 1.5], rtol=1e-6)  # (0 - 0.25) / 0.5 and (1 - 0.25) / 0.5


def test_an_unknown_model_is_a_key_error():
    with pytest.raises(KeyError, match="swoft"):
        models.build("swoft", mean=0.286, deviation=0.353)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_seed_alone_decides_what_is_drawn(name):
    def built(seed, drawn):
        random.seed(drawn)  # as other threads of the process leave it
        model = models.build(name, mean=0.286, deviation=0.353, seed=seed, **SIZES[name])
        return [np.asarray(variable).tobytes() for variable in model.variables]

    assert built(seed=7, drawn=1) == built(seed=7, drawn=2)
    assert built(seed=7, drawn=1) != built(seed=8, drawn=1)


def test_swift_is_as_small_as_it_says():
    assert models.build("residual", mean=0.286, deviation=0.353, **SWIFT).count_params() == 116_602


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        pytest.param("dense", {"units": [256]}, 784 * 256 + 256 + 256 * 10 + 10, id="dense 256"),
        pytest.param(
            "convolutional", {"filters": [32, 32], "pool_after": [], "units": 32}, 599_754, id="the published tuned net"
        ),
    ],
)
def test_a_model_has_the_published_number_of_parameters(name, size, expected):
    assert models.build(name, mean=0.286, deviation=0.353, **size).count_params() == expected


def test_standardised_kernels_have_mean_0_and_variance_1_over_fan_in():
    layer = StandardisedConv(8, size=3, gain=1.0)
    layer.build((None, 14, 14, 4))
    layer.kernel.assign(np.random.default_rng(0).normal(3, 5, (36, 8)))

    kernel = np.asarray(layer.standardised_kernel())

    np.testing.assert_allclose(kernel.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(kernel.var(axis=0), 1 / 36, rtol=1e-3)


@pytest.mark.parametrize(("side", "stride", "expected"), [(14, 1, 14), (14, 2, 7), (7, 2, 4)])
def test_standardised_conv_keeps_the_size_up_to_its_stride(side, stride, expected):
    outputs = StandardisedConv(5, stride=stride)(np.ones((2, side, side, 3), np.float32))

    assert outputs.shape == (2, expected, expected, 5)


def test_standardised_conv_survives_its_configuration():
    layer = StandardisedConv(5, size=5, stride=2, gain=0.3, name="stem")

    again = StandardisedConv.from_config(layer.get_config())

    assert again.get_config() == layer.get_config()


ON_JAX = """
import json, sys
import keras, numpy as np
import models

asked, said, losses = np.load("asked.npz"), {}, {}
for name, size in json.loads(sys.argv[1]).items():
    model = models.build(name, mean=0.2, deviation=0.2, **size)
    model.set_weights([asked[f"{name}{number}"] for number in range(len(model.weights))])
    said[name] = np.asarray(model(asked["images"], training=False))
    model.compile(keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses[name] = model.fit(asked["images"], asked["labels"], batch_size=32, epochs=3, verbose=0).history["loss"]
np.savez("said.npz", **said)
print(json.dumps({"backend": keras.backend.backend(), "losses": losses}))
"""


@pytest.mark.slow
def test_every_architecture_says_the_same_and_learns_on_the_jax_backend(tmp_path, normalised):
    train = splits.read(normalised, "train")
    built = {name: models.build(name, mean=0.2, deviation=0.2, **SIZES[name]) for name in models.MODELS}
    weights = {f"{name}{k}": np.asarray(one) for name, model in built.items() for k, one in enumerate(model.weights)}
    np.savez(tmp_path / "asked.npz", **weights, images=train.images, labels=train.labels)
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ON_JAX, json.dumps(SIZES)]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    said = np.load(tmp_path / "said.npz")
    assert found["backend"] == "jax"
    for name, model in built.items():
        expected = np.asarray(model(np.asarray(train.images), training=False))
        np.testing.assert_allclose(said[name], expected, rtol=1e-4, atol=1e-4)
        first, *_, last = found["losses"][name]
        assert last < first, name
