"""What the tests share: small pictures that resemble Fashion-MNIST, IDX files of them, a folder to run stages in."""

import base64
import gc
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import settings
from numpy.typing import NDArray

import seamline
from seamline import bundle as shipped
from tasks import bundle, params, recipes, splits
from tasks.__main__ import ENVIRONMENT
from tasks.arrays import CLASSES, SIDE, Split
from tasks.files import write_json

KINDS = [f"kind {number}" for number in range(10)]
OUTPUTS = ("probabilities", "embedding")
ROOT = Path(__file__).resolve().parent.parent

os.environ.update(ENVIRONMENT)  # before a test imports TensorFlow or Great Expectations
settings.load_profile("ci")  # the same examples at every run, no deadline (a busy machine), no database on disk


@pytest.fixture(scope="session")
def numbers() -> params.Params:
    """The real params.yaml."""
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def recipe() -> recipes.Recipe:
    """The real recipes/swift.yaml, with garments alone, as they are."""
    return recipes.load(ROOT / "recipes/swift.yaml").model_copy(update={"photographed": 0.0, "strangers": 0.0})


@pytest.fixture(scope="session")
def garments() -> Callable[[int, int], Split]:
    """(images per class, seed) → a split, class after class, in which a class can be told by its outline.

    Bright noisy rectangles on black, all different; each holds 0 and 255, and the mean grey level is Fashion-MNIST's.
    """

    def make(per_class: int, seed: int) -> Split:
        generator = np.random.default_rng(seed)
        labels = np.repeat(np.arange(len(CLASSES), dtype=np.uint8), per_class)
        return Split(np.stack([_garment(int(label), generator) for label in labels]), labels)

    return make


def _garment(label: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    image = np.zeros((SIDE, SIDE), np.uint8)
    height = 14 + label
    width = round(266 / height)  # 266 pixels of about 215 are a mean of about 73
    top, left = generator.integers(1, SIDE - height), generator.integers(1, SIDE - width)
    image[top : top + height, left : left + width] = generator.integers(175, 256, (height, width))
    image[top, left] = 255
    return image


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[NDArray[np.uint8]], bytes]:
    """An array as the content of an IDX file."""

    def encode(array: NDArray[np.uint8]) -> bytes:
        return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()

    return encode


@pytest.fixture(scope="session")
def write_raw(idx_bytes: Callable[[NDArray[np.uint8]], bytes]) -> Callable[[Path, Split, Split], None]:
    """(folder, train, test): writes the four IDX files that ingest would have brought."""

    def write(folder: Path, train: Split, test: Split) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, split in (("train", train), ("t10k", test)):
            (folder / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(split.images))
            (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(split.labels))

    return write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a copy of params.yaml, for `run_stage`."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def run_stage(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m tasks ARGUMENTS` in `project`, as a process of its own; `before`: a command that runs it."""

    def run(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, sys.executable, "-m", "tasks", *arguments],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def normalised(tmp_path: Path) -> Path:
    """A tiny folder as the stage normalise writes it: 320 training, 100 validation and 100 test images of stripes."""
    folder = tmp_path / "normalised"
    write_stripes(folder)
    return folder


def write_stripes(folder: Path) -> None:
    """Ten classes that differ by where a bright stripe stands."""
    generator = np.random.default_rng(2)
    for name, count in (("train", 320), ("validation", 100), ("test", 100)):
        labels = np.resize(np.arange(10, dtype=np.uint8), count)
        images = generator.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * label : 4 + 2 * label] = 230
        splits.write(folder, name, Split(images, labels))
    stats = {"mean": 0.2, "deviation": 0.2, "data": {"test": "t"}, "parameters": {"seed": 7}}
    write_json(folder / splits.STATS, stats)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX file with Seamline's contract whose answer is known: the brightest tenth of the rows wins."""
    weights = np.zeros((784, 10), np.float32)
    for pixel in range(784):
        weights[pixel, min(pixel // 28 // 3, 9)] = 0.01
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["cast"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        onnx.helper.make_node("Softmax", ["logits"], ["probabilities"]),
        onnx.helper.make_node("Identity", ["logits"], ["embedding"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "known",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", 28, 28])],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 10]) for name in OUTPUTS],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.helper.set_model_props(model, {"classes": str(KINDS).replace("'", '"'), "version": "0"})
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def with_limit(model_file: Path) -> Callable[[str], bytes]:
    """(probability, as a text) → `model_file`, which says "unknown" below it."""

    def limited(below: str) -> bytes:
        model = onnx.load(model_file)
        model.metadata_props.add(key="unknown_below", value=below)
        return bytes(model.SerializeToString())

    return limited


@pytest.fixture(scope="session")
def doubting_file(with_limit: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model_file`, which says "unknown" below 0.6: of two bands that are as bright, for one."""
    path = tmp_path_factory.mktemp("doubting") / "model.onnx"
    path.write_bytes(with_limit("0.6"))
    return path


@pytest.fixture(scope="session")
def bundle_files(model_file: Path) -> Callable[..., dict[str, bytes]]:
    """(version, and what the manifest is to say otherwise) → the files of a bundle around `model_file`, unsigned."""
    images = np.random.default_rng(5).integers(0, 256, (12, SIDE, SIDE), dtype=np.uint8)
    expected = seamline.Classifier(model_file).probabilities(images)
    vectors = {
        "images": [base64.b64encode(image.tobytes()).decode() for image in images],
        "probabilities": expected.tolist(),
        "tolerance": 0.001,
    }

    def make(version: int = 1, **otherwise: Any) -> dict[str, bytes]:
        files = {
            shipped.MODEL: model_file.read_bytes(),
            shipped.GOLDEN: json.dumps(vectors).encode(),
            shipped.CARD: f"# Seamline, version {version}\n".encode(),
        }
        facts = {"classes": KINDS, "metrics": {"accuracy": 0.9}} | otherwise
        return files | {shipped.MANIFEST: bundle.manifest_of(version, facts, files)}

    return make


@pytest.fixture(scope="module", autouse=True)
def left_open_is_said_here() -> Iterator[None]:
    """What a file of tests leaves open fails that file, not one that comes later and happens to collect garbage."""
    yield
    gc.collect()
