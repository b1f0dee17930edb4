"""Bundles: what the stage puts together, and that nothing but a whole one is ever loaded."""

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

import seamline
from seamline import bundle as shipped
from seamline import check
from tasks import bundle, export, folders, quantise, splits, trained
from tasks.arrays import CLASSES, Split
from tasks.errors import ExportError, ParameterError
from tasks.files import digest, write_bytes, write_json

SIZE = {"width": 4, "blocks": 1}
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
WRITTEN = ("bundle", "version.json", "bundle.md")
TOLD = {"classes": json.dumps(CLASSES), "unknown_below": "0.5", "photograph_odds": '{"Pullover": 3.0}'}
INT8 = {
    "weights": "w",
    "published": False,
    "images": 10_000,
    "float_accuracy": 0.9302,
    "accuracy": 0.929,
    "same_class": 9_920,
    "largest_difference": 0.2,
    "float_bytes": 1_049_375,
    "bytes": 296_144,
}
METRICS = {
    "accuracy": 0.9302,
    "accuracy_low": 0.925,
    "accuracy_high": 0.935,
    "images": 10_000,
    "worst_class": "Shirt",
    "worst_recall": 0.771,
    "calibration_error": 0.039,
    "classes": {name: {"precision": 0.9, "recall": 0.8, "f1": 0.85} for name in CLASSES},
    "confused": [{"actual": "Shirt", "predicted": "Coat", "images": 58}],
    "unknown": {"below": 0.5, "garments": 0.05, "strangers": {"noise": 0.993, "digits": 0.61}},
    "weights": "w",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What the stage reads, made once: an untrained model's ONNX file and the reports that belong to it."""
    folder = tmp_path_factory.mktemp("exported")
    keras.utils.set_random_seed(3)
    model = trained.build("residual", SIZE, mean=0.286, deviation=0.353)
    write_bytes(folder / "model.onnx", export.convert(model, TOLD))
    images = np.random.default_rng(4).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    splits.write(folder / "normalised", "test", Split(images, np.resize(np.arange(10, dtype=np.uint8), 40)))
    counts = {"train": 54_000, "validation": 6_000, "test": 10_000}
    write_json(folder / "normalised" / splits.STATS, {"data": {"test": "t"}, "images": counts})
    about = {
        "recipe": "swift",
        "model": "residual",
        "parameters_trained": 8_000,
        "precision": "float32",
        "temperature": 0.74,
    }
    write_json(
        folder / "model/model.json",
        about | {"weights": "w", "parameters": {"train": {"strangers": 0.05, "photographed": 0.4}}, "code": "c"},
    )
    write_json(folder / "metrics.json", METRICS)
    write_json(folder / "export.json", {"published": True, "weights": "w"})
    write_json(folder / "int8/decision.json", INT8)
    return folder


@pytest.fixture
def run(numbers, exported, tmp_path):
    """(what export.json says otherwise) → the bundle's folder, after the stage."""

    def run_stage(int8=None, **otherwise):
        write_json(tmp_path / "export.json", {"published": True, "weights": "w"} | otherwise)
        read = (exported / "normalised", exported / "model", exported / "metrics.json", tmp_path / "export.json")
        written = (tmp_path / name for name in WRITTEN)
        bundle.run(numbers.bundle, *read, exported / "model.onnx", int8 or exported / "int8", *written)
        return tmp_path / "bundle"

    return run_stage


@pytest.fixture
def folder(tmp_path, bundle_files):
    """A bundle that is not signed, around a model whose answers are known."""
    folders.fill(tmp_path / "known", bundle_files())
    return tmp_path / "known"


def sign(folder, key=KEY):
    (folder / shipped.SIGNATURE).write_bytes(key.sign((folder / shipped.MANIFEST).read_bytes()))


def pem(path, key):
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def test_bundle_says_how_many_images_were_admitted(run, exported):
    file = exported / "normalised" / splits.STATS
    before = file.read_bytes()
    assert "admitted" not in (run() / "manifest.json").read_text() + (run() / "card.md").read_text()
    write_json(file, json.loads(before) | {"admitted": 7_263})
    try:
        target = run()
    finally:
        write_bytes(file, before)

    assert shipped.read(target).manifest["admitted_images"] == 7_263
    assert "\n7,263 of the training images are of labelled pictures from outside" in (target / "card.md").read_text()


def test_stage_writes_a_bundle_that_classifies_embeds_and_proves_itself(run, exported):
    target = run()

    found = shipped.read(target)
    classifier = seamline.Classifier(target)
    images = np.load(exported / "normalised/test-images.npy")
    embedded = classifier.embed(images)
    assert sorted(path.name for path in target.iterdir()) == ["card.md", "golden.json", "manifest.json", "model.onnx"]
    assert found.classes == classifier.classes == CLASSES
    assert classifier.info["digests"]["weights"] == "w"
    assert classifier.probabilities(images).shape == (40, 10)
    assert embedded.shape == (40, 16)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)
    assert len(shipped.golden(found).images) == 12, "one of each class, one black, one white"
    assert check.golden_failures(classifier, shipped.golden(found)) == []


def test_version_rises_with_the_content_alone(run, tmp_path, exported):
    assert shipped.read(run()).version == 1
    assert shipped.read(run()).version == 1, "the same again"
    (exported / "metrics.json").write_text(json.dumps(METRICS | {"accuracy": 0.94}))
    try:
        assert shipped.read(run()).version == 2
    finally:
        write_json(exported / "metrics.json", METRICS)
    assert json.loads((tmp_path / "version.json").read_text())["version"] == 2


def test_int8_model_that_is_worth_it_ships_beside_the_float_model(run, exported, numbers, tmp_path):
    images = np.load(exported / "normalised/test-images.npy")
    write_bytes(tmp_path / "int8/model.onnx", quantise.quantised(exported / "model.onnx", images, numbers.quantise))
    write_json(tmp_path / "int8/decision.json", INT8 | {"published": True})

    found = shipped.read(run(tmp_path / "int8"))

    assert sorted(found.files) == ["card.md", "golden-int8.json", "golden.json", "model-int8.onnx", "model.onnx"]
    assert found.manifest["int8"]["accuracy"] == 0.929
    assert shipped.golden(found, shipped.GOLDEN_INT8).tolerance == numbers.bundle.golden_tolerance_int8
    assert seamline.Classifier(tmp_path / "bundle").precision == "int8"
    assert "As int8: 92.90 %, the same kind for 9,920 of 10,000 images" in found.files["card.md"].decode()
    assert "It is in the bundle, and answers where" in found.files["card.md"].decode()


def test_float_model_behind_an_int8_model_is_proved_too(run, exported, numbers, tmp_path):
    images = np.load(exported / "normalised/test-images.npy")
    write_bytes(tmp_path / "int8/model.onnx", quantise.quantised(exported / "model.onnx", images, numbers.quantise))
    write_json(tmp_path / "int8/decision.json", INT8 | {"published": True})
    found = shipped.read(run(tmp_path / "int8"))
    vectors = json.loads(found.files[shipped.GOLDEN])
    files = found.files | {
        shipped.GOLDEN: json.dumps(vectors | {"probabilities": vectors["probabilities"][::-1]}).encode()
    }
    facts = {name: value for name, value in found.manifest.items() if name not in {"format", "version", "files"}}

    with pytest.raises(ExportError, match="nothing published: probabilities differ by"):
        bundle.publish(tmp_path / "target", files | {shipped.MANIFEST: bundle.manifest_of(1, facts, files)})
    assert not (tmp_path / "target").exists()


def test_int8_that_was_decided_for_another_model_is_refused(run, tmp_path):
    write_json(tmp_path / "int8/decision.json", {"published": False, "weights": "of another"})

    with pytest.raises(ExportError, match="int8 was not decided for this model; nothing published"):
        run(tmp_path / "int8")

    assert not (tmp_path / "bundle").exists()


def test_card_has_the_figures_and_the_limits(run):
    card = (run() / "card.md").read_text()

    assert "# Seamline, version 1" in card
    assert "93.02 % of the 10,000 test images (95 %: 92.50 … 93.50 %)" in card
    assert "| noise | 99.3 % |" in card
    assert "| Shirt | 0.900 | 0.800 | 0.850 |" in card
    assert "Shirt taken for Coat (58)." in card
    assert "77.1 % of its images" in card
    assert "Not worth it by the limits of params.yaml, so that it is not in the bundle." in card
    assert "probabilities are multiplied before they are compared: Pullover by 3." in card


def test_manifest_says_what_the_model_says_of_itself(run):
    manifest = shipped.read(run()).manifest

    assert (manifest["unknown_below"], manifest["photograph_odds"]) == (0.5, {"Pullover": 3.0})


@pytest.mark.parametrize("otherwise", [{"published": False}, {"weights": "of another"}], ids=["refused", "another"])
def test_what_was_not_exported_is_not_bundled_and_the_one_before_stays(run, otherwise):
    before = {path.name: path.read_bytes() for path in run().iterdir()}

    with pytest.raises(ExportError, match="not of this model; nothing published"):
        run(**otherwise)

    assert {path.name: path.read_bytes() for path in run().iterdir()} == before


def test_golden_vectors_that_the_model_fails_publish_nothing(tmp_path, bundle_files):
    files = bundle_files()
    vectors = json.loads(files[shipped.GOLDEN])
    vectors["probabilities"][3].reverse()
    files[shipped.GOLDEN] = json.dumps(vectors).encode()
    facts = {
        name: value for name, value in json.loads(files.pop(shipped.MANIFEST)).items() if name in {"classes", "metrics"}
    }
    files[shipped.MANIFEST] = bundle.manifest_of(1, facts, files)

    with pytest.raises(ExportError, match="nothing published: probabilities differ by .* golden vectors"):
        bundle.publish(tmp_path / "bundle", files)

    assert not (tmp_path / "bundle").exists()


def test_signed_with_the_key_that_the_environment_names(run, monkeypatch, tmp_path):
    monkeypatch.setenv(bundle.KEY, pem(tmp_path / "private.pem", KEY))

    target = run()

    assert shipped.read(target, PUBLIC).version == 1
    assert "signed" in (tmp_path / "bundle.md").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "no private key can be read", id="absent"),
        pytest.param(b"not a key", "no private key can be read", id="no key"),
    ],
)
def test_key_that_cannot_be_used_is_refused_before_anything_is_published(run, monkeypatch, tmp_path, content, said):
    if content is not None:
        (tmp_path / "private.pem").write_bytes(content)
    monkeypatch.setenv(bundle.KEY, str(tmp_path / "private.pem"))

    with pytest.raises(ParameterError, match=said):
        run()

    assert not (tmp_path / "bundle").exists()


def test_public_key_of_openssl_is_read(tmp_path):
    private = pem(tmp_path / "private.pem", KEY)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", tmp_path / "public.pem"], check=True)

    assert shipped.public_key(tmp_path / "public.pem") == PUBLIC


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", b"x" * 5000]
)
def test_what_is_no_public_key_is_refused(tmp_path, content):
    (tmp_path / "public.pem").write_bytes(content)

    with pytest.raises(shipped.BundleError, match=r"public.pem"):
        shipped.public_key(tmp_path / "public.pem")


# Reading: a whole bundle of the right key, or a refusal


def test_signed_bundle_is_loaded_by_who_has_the_key(folder):
    sign(folder)

    assert seamline.Classifier(folder, public_key=PUBLIC).classes[0] == "kind 0"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(Path.exists, "is not signed", id="unsigned"),
        pytest.param(
            lambda folder: sign(folder, Ed25519PrivateKey.generate()), "not the signature", id="of a foreign key"
        ),
        pytest.param(lambda folder: (folder / shipped.SIGNATURE).write_bytes(b""), "not the signature", id="empty"),
    ],
)
def test_bundle_of_no_known_key_is_refused(folder, spoil, said):
    spoil(folder)

    with pytest.raises(shipped.BundleError, match=said):
        seamline.Classifier(folder, public_key=PUBLIC)


def test_signature_is_of_every_byte_of_the_manifest(folder):
    sign(folder)
    path = folder / shipped.MANIFEST
    path.write_bytes(path.read_bytes() + b"\n")

    with pytest.raises(shipped.BundleError, match="not the signature"):
        shipped.read(folder, PUBLIC)


def test_bare_file_is_refused_where_a_key_is_asked_for(folder):
    with pytest.raises(shipped.BundleError, match="a bare file cannot be signed"):
        seamline.Classifier(folder / shipped.MODEL, public_key=PUBLIC)


def test_older_version_is_refused(folder):
    with pytest.raises(shipped.BundleError, match="its version is 1, and 2 is already here"):
        shipped.read(folder, oldest=2)


def link(folder):
    (folder / shipped.CARD).rename(folder.parent / "card.md")
    (folder / shipped.CARD).symlink_to(folder.parent / "card.md")


def pipe(folder):
    (folder / shipped.CARD).unlink()
    os.mkfifo(folder / shipped.CARD)


def grown(folder):
    with (folder / shipped.MODEL).open("ab") as file:
        file.truncate(10**12)  # sparse: a terabyte


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(
            lambda folder: (folder / "more.bin").write_bytes(b""), "does not name: 'more.bin'", id="a file too many"
        ),
        pytest.param(
            lambda folder: (folder / ".hidden").write_bytes(b""), "does not name: '.hidden'", id="a hidden one"
        ),
        pytest.param(lambda folder: (folder / "more").mkdir(), "does not name: 'more'", id="a folder"),
        pytest.param(lambda folder: (folder / shipped.GOLDEN).unlink(), "lacks golden.json", id="a file too few"),
        pytest.param(
            lambda folder: (folder / shipped.MANIFEST).unlink(), "manifest.json cannot be read", id="no manifest"
        ),
        pytest.param(link, "card.md cannot be read", id="a link"),
        pytest.param(pipe, "card.md is not a plain file", id="a pipe"),
        pytest.param(grown, "is larger than", id="a terabyte"),
    ],
)
def test_folder_that_is_not_as_the_manifest_says_is_refused(folder, spoil, said):
    spoil(folder)

    with pytest.raises(shipped.BundleError, match=said):
        seamline.Classifier(folder)


@pytest.mark.parametrize("name", [shipped.MODEL, shipped.GOLDEN, shipped.CARD, shipped.MANIFEST])
@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), content=st.binary(min_size=1, max_size=40))
def test_any_altered_bytes_are_refused_or_mean_the_same(tmp_path_factory, bundle_files, name, place, content):
    files = bundle_files()
    start = int(place * len(files[name]))
    altered = files[name][:start] + content + files[name][start + len(content) :]
    spoiled = tmp_path_factory.mktemp("spoiled")
    folders.fill(spoiled, files | {name: altered})

    try:
        found = shipped.read(spoiled)
    except shipped.BundleError:
        return
    honest = json.loads(files[shipped.MANIFEST])
    assert {key: digest(value) for key, value in found.files.items()} == {
        key: facts["sha256"] for key, facts in honest["files"].items()
    }, "whatever else the manifest says now, unsigned as it is, these are the files that it vouches for"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"format": 2}, id="another format"),
        pytest.param({"version": 0}, id="version 0"),
        pytest.param({"version": True}, id="a version that is no number"),
        pytest.param({"classes": []}, id="no classes"),
        pytest.param({"classes": [1]}, id="classes that are no names"),
        pytest.param({"files": []}, id="files that are no object"),
        pytest.param({"files": {"../model.onnx": {"bytes": 1, "sha256": ""}}}, id="a path outwards"),
        pytest.param({"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}}, id="an absolute path"),
        pytest.param({"files": {"model.onnx": {"bytes": -1, "sha256": ""}}}, id="a negative size"),
        pytest.param({"files": {"model.onnx": {"bytes": 2**40, "sha256": ""}}}, id="a terabyte"),
        pytest.param({"files": {}}, id="no files"),
    ],
)
def test_manifest_that_is_not_of_this_format_is_refused(folder, change):
    path = folder / shipped.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(shipped.BundleError, match="manifest"):
        shipped.read(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff\xfe", b"7" * 100_000])
def test_manifest_that_is_no_object_is_refused(folder, content):
    (folder / shipped.MANIFEST).write_bytes(content)

    with pytest.raises(shipped.BundleError, match="manifest"):
        shipped.read(folder)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"images": ["!"]}, id="not base64"),
        pytest.param({"images": []}, id="none"),
        pytest.param({"probabilities": [[1.0]]}, id="another shape"),
        pytest.param({"tolerance": float("nan")}, id="nan"),
        pytest.param({"tolerance": 2.0}, id="a tolerance that tolerates everything"),
        pytest.param({"tolerance": 10**400}, id="a tolerance beyond all floats"),
        pytest.param({"probabilities": [[10**400] * 10] * 12}, id="probabilities beyond all floats"),
    ],
)
def test_golden_vectors_that_are_none_are_refused(folder, change):
    found = shipped.read(folder)
    content = json.dumps(json.loads(found.files[shipped.GOLDEN]) | change).encode()

    with pytest.raises(shipped.BundleError, match="golden.json is not as format 1 has it"):
        shipped.golden(found._replace(files=found.files | {shipped.GOLDEN: content}))


def test_classes_of_manifest_and_model_must_agree(tmp_path, bundle_files):
    folders.fill(tmp_path / "other", bundle_files(classes=["one", "two"]))

    with pytest.raises(shipped.BundleError, match="other classes than its model"):
        seamline.Classifier(tmp_path / "other")


def test_folder_is_exchanged_whole(tmp_path):
    target = tmp_path / "bundle"
    folders.replace(target, {"one": b"1", "two": b"2"})

    folders.replace(target, {"three": b"3"})

    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"three": b"3"}
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_clone_serves_is_live_else_the_newest_export_else_the_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "seamline/bundle.py"))
    (tmp_path / "dvc.yaml").touch()
    found = []
    for path in ("seamline/reference", "exports/bundle", "exports/releases/7/bundle"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / shipped.MANIFEST).touch()
        found.append(shipped.own())
    (tmp_path / "exports/releases/live").symlink_to("7")

    names = [str(path.relative_to(tmp_path)) for path in [*found, shipped.own()]]
    assert names == ["seamline/reference", "exports/bundle", "exports/bundle", "exports/releases/live/bundle"]
