"""The examples in other languages, run as their readers will run them."""

import base64
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from seamline import bundle, check
from seamline.classifier import Classifier
from tasks import folders
from tasks.bundle import manifest_of
from tests.browsing import NPM, fetching, needs_node
from tests.conftest import KINDS, ROOT

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
ORT_WEB = "onnxruntime-web@1.30.0"


def signed(files, key=KEY):
    return files | {bundle.SIGNATURE: key.sign(files[bundle.MANIFEST])}


def resealed(files):
    """With a manifest that vouches for what the files are now."""
    files = {name: content for name, content in files.items() if name not in {bundle.MANIFEST, bundle.SIGNATURE}}
    manifest = manifest_of(1, {"classes": KINDS, "metrics": {}}, files)
    return signed(files | {bundle.MANIFEST: manifest})


def run(*command, cwd):
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def files(bundle_files):
    return signed(bundle_files(3))


@pytest.fixture
def place(tmp_path, files):
    """A folder with the examples, a signed bundle and its public key."""
    folders.fill(tmp_path / "bundle", files)
    for name in ("bundle.mjs", "verify.sh"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    (tmp_path / "seamline.pub").write_bytes(
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return tmp_path


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory):
    """onnxruntime-web as npm installs it."""
    folder = tmp_path_factory.mktemp("npm")
    fetching("npm", "install", *NPM, ORT_WEB, cwd=folder)
    return folder / "node_modules"


def on_its_side(files):
    """Golden images that another preprocessing has turned: rows for columns."""
    vectors = json.loads(files[bundle.GOLDEN])
    images = [np.frombuffer(base64.b64decode(text), np.uint8).reshape(28, 28).T for text in vectors["images"]]
    vectors["images"] = [base64.b64encode(image.tobytes()).decode() for image in images]
    return resealed(files | {bundle.GOLDEN: json.dumps(vectors).encode()})


def vectors_with(files, **otherwise):
    return resealed(files | {bundle.GOLDEN: json.dumps(json.loads(files[bundle.GOLDEN]) | otherwise).encode()})


SPOILT = [
    pytest.param(lambda files: files | {bundle.CARD: b"# Another"}, "card.md is altered", id="altered"),
    pytest.param(lambda files: files | {"more.bin": b""}, "the manifest does not name more.bin", id="a file too many"),
    pytest.param(
        lambda files: files | {"toString": b""}, "the manifest does not name toString", id="named as a method"
    ),
    pytest.param(lambda files: {k: v for k, v in files.items() if k != bundle.GOLDEN}, "ENOENT", id="a file too few"),
    pytest.param(lambda files: vectors_with(files, images=["AAAA"] * 12), "image 0 has 3 pixels", id="short images"),
    pytest.param(lambda files: vectors_with(files, probabilities=[]), "not one answer for each", id="no answers"),
    pytest.param(lambda files: vectors_with(files, probabilities=[[0.2] * 10] * 12), "sum to 1.99", id="sums of 2"),
]


@needs_node
def test_javascript_checks_digests_and_golden_vectors(place):
    done = run("node", "bundle.mjs", "bundle", cwd=place)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "ok   size and SHA-256 of 3 files: version 3",
        "ok   12 golden images of 28 × 28, probabilities that sum to 1",
        "--   onnxruntime-web is not installed: the model was not asked",
    ]


@needs_node
@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_javascript_refuses_in_one_line(place, files, spoil, said):
    shutil.rmtree(place / "bundle")
    folders.fill(place / "bundle", spoil(files))

    done = run("node", "bundle.mjs", "bundle", cwd=place)

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@needs_node
@pytest.mark.slow
def test_javascript_gets_the_answers_that_python_gets(place, node_modules):
    """WebAssembly and native kernels, of the known model and of the reference bundle."""
    (place / "node_modules").symlink_to(node_modules)

    for folder in ("bundle", ROOT / "seamline/reference"):
        done = run("node", "bundle.mjs", folder, cwd=place)

        assert done.returncode == 0, done.stderr
        assert "ok   the model's answers differ by " in done.stdout
        assert "0.001 is allowed" in done.stdout


@needs_node
@pytest.mark.slow
def test_javascript_notices_pixels_that_were_prepared_otherwise(place, files, node_modules):
    (place / "node_modules").symlink_to(node_modules)
    shutil.rmtree(place / "bundle")
    folders.fill(place / "bundle", on_its_side(files))

    done = run("node", "bundle.mjs", "bundle", cwd=place)

    assert done.returncode == 1
    assert "the model's answers differ by" in done.stderr


def test_python_notices_pixels_that_were_prepared_otherwise(place, files):
    """X4 of docs/faults.md: turned, negated or scaled, the golden images get other answers."""
    classifier, golden = Classifier(place / "bundle"), bundle.golden(bundle.read(place / "bundle"))
    otherwise = {
        "turned": golden.images.transpose(0, 2, 1),
        "mirrored": golden.images[:, ::-1],
        "negated": 255 - golden.images,
        "scaled": golden.images // 255,
    }

    assert check.golden_failures(classifier, golden) == []
    for images in otherwise.values():
        (said, *_) = check.golden_failures(classifier, golden._replace(images=images))
        assert "from the golden vectors" in said


def test_shell_verifies_signature_and_digests(place):
    done = run("sh", "verify.sh", "bundle", "seamline.pub", cwd=place)

    assert (done.returncode, done.stdout) == (0, "bundle: signed, whole, 3 files\n"), done.stderr


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(
            lambda files: signed(files, Ed25519PrivateKey.generate()), "not signed with this key", id="foreign"
        ),
        pytest.param(
            lambda files: {k: v for k, v in files.items() if k != bundle.SIGNATURE}, "not signed", id="unsigned"
        ),
        pytest.param(
            lambda files: files | {bundle.MANIFEST: files[bundle.MANIFEST] + b"\n"}, "not signed", id="manifest"
        ),
        pytest.param(lambda files: files | {bundle.CARD: b"# Another"}, "bundle: altered", id="altered"),
        pytest.param(
            lambda files: {k: v for k, v in files.items() if k != bundle.CARD}, "bundle: altered", id="missing"
        ),
        pytest.param(
            lambda files: files | {".more": b""}, "bundle: .more is not in the manifest", id="a file too many"
        ),
    ],
)
def test_shell_refuses(place, files, spoil, said):
    shutil.rmtree(place / "bundle")
    folders.fill(place / "bundle", spoil(files))

    done = run("sh", "verify.sh", "bundle", "seamline.pub", cwd=place)

    assert done.returncode == 1
    assert said in done.stderr


def test_examples_say_how_they_are_used(place):
    assert run("sh", "verify.sh", "bundle", cwd=place).returncode == 2
    if shutil.which("node"):
        assert "node bundle.mjs BUNDLE" in run("node", "bundle.mjs", cwd=place).stderr


def test_examples_are_named_where_devices_are_explained():
    guide = (ROOT / "docs/device.md").read_text(encoding="utf-8")

    assert [name for name in ("bundle.mjs", "verify.sh") if f"../examples/{name}" not in guide] == []
    assert os.access(ROOT / "examples/verify.sh", os.R_OK)
