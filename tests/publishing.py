"""What the tests of challenge and release share: checkouts without training, and real ONNX models whose errors are known.

Each image shows its class as a bright stripe, and in two pixels how hard it is, 0 … 199. A model names all images of
a class right that are easier than its threshold for that class, and takes the others for the next class.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

import seamline
from seamline import bundle as shipped
from tasks import bundle, folders, releases, splits
from tasks.arrays import CLASSES, Split
from tasks.files import digest, digest_json, write_json

ROOT = Path(__file__).resolve().parent.parent
HARDEST = 200
RECALL = 0.92
CHALLENGE = ("exports/releases", "data/normalised", "exports/bundle", "data/reports/metrics.json")
CHALLENGED = ("data/challenge.json", "data/challenge.md")
RELEASE = ("exports/releases", "exports/bundle", "data/challenge.json", "data/release.json")


class Checkout(NamedTuple):
    """A folder with data, numbers and a bundle, as a run leaves them."""

    root: Path

    @property
    def releases(self) -> Path:
        return self.root / "exports/releases"

    @property
    def live(self) -> int | None:
        link = self.releases / "live"
        return int(link.readlink().name) if link.is_symlink() else None

    @property
    def verdict(self) -> dict[str, Any]:
        return json.loads((self.root / "data/challenge.json").read_text())

    def change(self, **numbers: Any) -> None:
        """Change numbers of params.yaml: challenge__margin=0.02."""
        path = self.root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        for name, value in numbers.items():
            section, _, key = name.partition("__")
            content[section][key] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def train(self, version: int, recalls: Sequence[float] | float = RECALL, **otherwise: Any) -> None:
        """Leave a bundle and its metrics as the stages would; see `model_of`."""
        write_bundle(self.root / "exports/bundle", self.root / "data/normalised", version, recalls, **otherwise)
        manifest = json.loads((self.root / "exports/bundle/manifest.json").read_text())
        stats = json.loads((self.root / "data/normalised/stats.json").read_text())
        own = {"weights": manifest["digests"]["weights"], "test_data": stats["data"]["test"]}
        write_json(self.root / "data/reports/metrics.json", manifest["metrics"] | own)

    def run(self, *command: str, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, sys.executable, *command],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def challenge(self) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "tasks", "challenge", *CHALLENGE, *CHALLENGED)

    def release(self, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "tasks", "release", *RELEASE, before=before)

    def quickly(self, what: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """`release`, `promote 1` or `rollback`, without the proof of the bundle, which writes nothing and takes longest."""
        arguments = ["release", *RELEASE] if what == "release" else what.split()
        module = "tasks.__main__" if what == "release" else "flows.release"
        code = (
            "import sys; from pathlib import Path; from flows import stages; stages.ROOT = Path.cwd(); "
            "from tasks import proof; proof.prove = lambda bundle: None; "
            f"from {module} import main; sys.exit(main(sys.argv[1:]))"
        )
        return self.run("-c", code, *arguments, before=before)

    def publish(self, version: int, recalls: Sequence[float] | float = RECALL) -> None:
        """Train, challenge and release, which must succeed."""
        self.train(version, recalls)
        for done in (self.challenge(), self.release()):
            if done.returncode:
                pytest.fail(f"{done.args}: {done.stdout}{done.stderr}")
        assert self.live == version

    def by_hand(self, *arguments: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """`python -m flows.release` of this checkout."""
        code = (
            "import sys; from pathlib import Path; from flows import stages; "
            "stages.ROOT = Path.cwd(); from flows import release; sys.exit(release.main(sys.argv[1:]))"
        )
        return self.run("-c", code, *arguments, before=before, COLUMNS="160")


def is_sound(checkout: Checkout) -> releases.Standing:
    """What is live is whole and what was before, too; nothing half-made counts."""
    now = releases.standing(checkout.releases)
    for version in filter(None, now):
        assert releases.damage(checkout.releases / str(version)) == []
    assert shipped.read(checkout.releases / "live/bundle").version == now.live
    return now


def write_data(folder: Path, per_class: int) -> None:
    """What normalise would leave, with test images alone."""
    generator = np.random.default_rng(3)
    labels = np.repeat(np.arange(10, dtype=np.uint8), per_class)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 4 + 2 * label] = 230
    hardness = np.arange(per_class) * HARDEST // per_class
    for place in (0, 1):  # two that have nothing to do with each other
        images[:, 0, place] = np.concatenate([generator.permutation(hardness) for _ in CLASSES])
    splits.write(folder, "test", Split(images, labels))
    data = {name: digest(images.tobytes() + labels.tobytes()) for name in ("train", "validation", "test")}
    write_json(folder / splits.STATS, {"data": data})


def model_of(recalls: Sequence[float], place: int = 0, sure: float | None = None) -> bytes:
    """A real ONNX file with Seamline's contract.

    Args:
        recalls: of each class.
        place: which of the two pixels says how hard an image is.
        sure: how sure it is of what it says, in place of as sure as it may be; NaN: it says nothing but NaN.
    """
    sure = (float(np.mean(recalls)) - 0.1) / 0.9 if sure is None else sure
    rows = np.zeros((784, 10), np.float32)
    for label in range(10):
        rows[28 * (2 + 2 * label) : 28 * (4 + 2 * label), label] = 0.01
    hard = np.zeros((784, 1), np.float32)
    hard[place] = 1
    constants = {
        "rows": rows,
        "hard": hard,
        "thresholds": np.array([[share * HARDEST - 0.5] for share in recalls], np.float32),
        "next": np.roll(np.eye(10, dtype=np.float32), 1, axis=1),
        "steep": np.float32(20),
        "one": np.float32(1),
        "sure": np.float32(sure),
        "rest": np.float32((1 - sure) / 10),
    }
    steps = [
        ("Flatten", "cast", "flat"),
        ("MatMul", "flat rows", "bright"),
        ("Softmax", "bright", "kind"),
        ("MatMul", "flat hard", "hardness"),
        ("MatMul", "kind thresholds", "threshold"),
        ("Sub", "hardness threshold", "above"),
        ("Mul", "above steep", "steeply"),
        ("Sigmoid", "steeply", "wrong"),
        ("Sub", "one wrong", "right"),
        ("MatMul", "kind next", "other"),
        ("Mul", "kind right", "a"),
        ("Mul", "other wrong", "b"),
        ("Add", "a b", "said"),
        ("Mul", "said sure", "surely"),
        ("Add", "surely rest", "probabilities"),
        ("Identity", "bright", "embedding"),
    ]
    nodes = [helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node(name, inputs.split(), [output]) for name, inputs, output in steps]
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 28, 28])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 10]) for name in ("probabilities", "embedding")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {"classes": json.dumps(CLASSES)})
    return bytes(model.SerializeToString())


def write_bundle(
    folder: Path,
    normalised: Path,
    version: int,
    recalls: Sequence[float] | float = RECALL,
    place: int = 0,
    sure: float | None = None,
    accuracy: float | None = None,
) -> None:
    """A bundle of such a model; `accuracy`: what its manifest says in place of the truth."""
    recalls = [recalls] * 10 if isinstance(recalls, float) else recalls
    model, test = model_of(recalls, place, sure), splits.read(normalised, "test")
    bare = folder.with_name(f"{folder.name}.onnx")
    folder.parent.mkdir(parents=True, exist_ok=True)
    bare.write_bytes(model)
    classifier = seamline.Classifier(bare)
    bare.unlink()
    said = classifier.probabilities(np.asarray(test.images))
    chosen = np.arange(0, len(test.images), len(test.images) // 10)
    golden = {
        "images": [base64.b64encode(test.images[number].tobytes()).decode() for number in chosen],
        "probabilities": said[chosen].tolist(),
        "tolerance": 0.001,
    }
    files = {
        shipped.MODEL: model,
        shipped.GOLDEN: json.dumps(golden).encode(),
        shipped.CARD: f"# Version {version}\n".encode(),
    }
    found = float((said.argmax(axis=1) == test.labels).mean())
    facts = {
        "classes": list(CLASSES),
        "metrics": {
            "accuracy": found if accuracy is None else accuracy,
            "worst_class": "Bag",
            "worst_recall": min(recalls),
        },
        "recipe": "known",
        "digests": {
            "weights": digest(model),
            "data": digest_json(json.loads((normalised / splits.STATS).read_text())["data"]),
        },
    }
    shutil.rmtree(folder, ignore_errors=True)
    folders.fill(folder, files | {shipped.MANIFEST: bundle.manifest_of(version, facts, files)})


def new_checkout(root: Path, per_class: int = 400) -> Checkout:
    """Data and numbers; nothing was trained."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "params.yaml", root)
    write_data(root / "data/normalised", per_class)
    return Checkout(root)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `checkout`."""
    return new_checkout(tmp_path_factory.mktemp("prepared") / "checkout").root


@pytest.fixture
def checkout(prepared: Path, tmp_path: Path) -> Checkout:
    """Data and numbers in a folder without git and DVC; nothing was trained."""
    return Checkout(shutil.copytree(prepared, tmp_path / "checkout", symlinks=True))


@pytest.fixture(scope="session")
def released_once(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `released`."""
    found = Checkout(shutil.copytree(prepared, tmp_path_factory.mktemp("released") / "checkout"))
    for version, recall in ((1, 0.91), (2, 0.92), (3, 0.93)):
        found.publish(version, recall)
    return found.root


@pytest.fixture
def released(released_once: Path, tmp_path: Path) -> Checkout:
    """Likewise, with three releases, each better than the one before."""
    return Checkout(shutil.copytree(released_once, tmp_path / "released", symlinks=True))
