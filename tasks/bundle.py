"""Put together what ships: the model, golden vectors, a model card, and a manifest that vouches for every byte.

The version rises by one whenever the content changes; where it stands is in `version.json`, which git keeps. The
folder is exchanged whole, once it has been read back and has answered the golden vectors as a device will.
"""

import base64
import json
import logging
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import seamline
from seamline import bundle as shipped
from seamline import check
from tasks import folders, splits
from tasks.arrays import CLASSES, SIDE, Images, Split
from tasks.errors import ExportError, ParameterError
from tasks.files import digest, digest_json, read_json, write_json, write_text
from tasks.params import Bundle

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("bundle.md.jinja")
KEY = "SEAMLINE_SIGNING_KEY"  # environment: a file with an Ed25519 private key, PEM
DECISION = "decision.json"  # of quantise
LIBRARIES = ("keras", "numpy", "onnx", "onnxruntime", "tf2onnx")


def run(
    params: Bundle,
    normalised: Path,
    model_folder: Path,
    metrics_file: Path,
    export_file: Path,
    exported: Path,
    int8: Path,
    target: Path,
    counter: Path,
    summary: Path,
) -> None:
    """Write the bundle, or refuse; the one published before stays until then."""
    export, metrics = read_json(export_file), read_json(metrics_file)
    model, stats = read_json(model_folder / "model.json"), read_json(normalised / splits.STATS)
    if export["published"] is not True or not export["weights"] == model["weights"] == metrics["weights"]:
        raise ExportError("the exported file is not of this model; nothing published. Run `dvc repro export`.")
    test = splits.read(normalised, "test")
    files = {
        shipped.MODEL: exported.read_bytes(),
        shipped.GOLDEN: golden(exported, test, params.golden_per_class, params.golden_tolerance),
    }
    facts = described(model, metrics, stats["data"], seamline.Classifier(exported).info)
    if "admitted" in stats:
        facts["admitted_images"] = stats["admitted"]
    files |= quantised(int8, model["weights"], test, params)
    decision = read_json(int8 / DECISION)
    if shipped.MODEL_INT8 in files:
        facts["int8"] = decision
    version = next_version(counter, digest_json([facts, {name: digest(data) for name, data in files.items()}]))
    files[shipped.CARD] = card(version["version"], model, metrics, stats, facts, decision).encode()
    manifest = manifest_of(version["version"], facts, files)
    signature = signed(manifest)
    publish(target, files | {shipped.MANIFEST: manifest} | ({shipped.SIGNATURE: signature} if signature else {}))
    write_json(counter, version)
    write_text(summary, _table(version["version"], files, signed=bool(signature)))
    logger.info("bundle: %s, version %d, %s", target, version["version"], "signed" if signature else "not signed")


def quantised(folder: Path, weights: str, test: Split, params: Bundle) -> dict[str, bytes]:
    """The int8 model and its golden vectors, if it was found to be worth shipping."""
    decision = read_json(folder / DECISION)
    if decision["weights"] != weights:
        raise ExportError("int8 was not decided for this model; nothing published. Run `dvc repro quantise`.")
    if not decision["published"]:
        return {}
    model = folder / "model.onnx"
    vectors = golden(model, test, params.golden_per_class, params.golden_tolerance_int8)
    return {shipped.MODEL_INT8: model.read_bytes(), shipped.GOLDEN_INT8: vectors}


def golden(model: Path, test: Split, per_class: int, tolerance: float) -> bytes:
    """The first images of each class and two that show nothing, and what the model says of them."""
    chosen = [np.flatnonzero(test.labels == label)[:per_class] for label in range(len(CLASSES))]
    images = np.concatenate([test.images[np.concatenate(chosen)], _blank(0), _blank(255)])
    found = seamline.Classifier(model).probabilities(images)
    content = {
        "images": [base64.b64encode(image.tobytes()).decode() for image in images],
        "probabilities": [[round(value, 6) for value in row] for row in found.tolist()],
        "tolerance": tolerance,
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _blank(grey: int) -> Images:
    return np.full((1, SIDE, SIDE), grey, np.uint8)


def described(
    model: dict[str, Any], metrics: dict[str, Any], data: dict[str, str], told: dict[str, str]
) -> dict[str, Any]:
    """What a manifest says of where its model comes from, and what its file tells; the same for the same model."""
    return {
        "name": "seamline",
        "classes": list(CLASSES),
        "input": "image: uint8 (n, 28, 28), grey, 0 black … 255 white, the garment bright on black",
        "outputs": {
            "probabilities": f"float32 (n, {len(CLASSES)}), in the order of classes",
            "embedding": "float32 (n, k), for likeness: compare by the cosine",
        },
        "unknown_below": float(told["unknown_below"]),  # for those who cannot read the metadata of an ONNX file
        "photograph_odds": json.loads(told["photograph_odds"]),
        "metrics": {name: metrics[name] for name in ("accuracy", "worst_class", "worst_recall", "calibration_error")},
        "recipe": model["recipe"],
        "digests": {
            "weights": model["weights"],
            "data": digest_json(data),
            "parameters": digest_json(model["parameters"]),
            "code": model["code"],
        },
        "versions": {name: metadata.version(name) for name in LIBRARIES},
    }


def next_version(counter: Path, content: str) -> dict[str, Any]:
    """The version of this content: the last one's if nothing has changed, or the one after it."""
    before: dict[str, Any] = read_json(counter) if counter.is_file() else {"version": 0, "content": ""}
    return before if before["content"] == content else {"version": before["version"] + 1, "content": content}


def card(
    version: int,
    model: dict[str, Any],
    metrics: dict[str, Any],
    stats: dict[str, Any],
    facts: dict[str, Any],
    int8: dict[str, Any],
) -> str:
    """The model card, Markdown."""
    environment = Environment(  # noqa: S701  # Markdown, of our own numbers
        loader=FileSystemLoader(TEMPLATE.parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE.name).render(
        version=version,
        images=stats["images"],
        admitted=stats.get("admitted", 0),
        metrics=metrics,
        model=model,
        facts=facts,
        int8=int8,
    )


def manifest_of(version: int, facts: dict[str, Any], files: dict[str, bytes]) -> bytes:
    """manifest.json: format and version first, then what it vouches for."""
    listed = {name: {"bytes": len(content), "sha256": digest(content)} for name, content in sorted(files.items())}
    content = {"format": shipped.FORMAT, "version": version, **facts, "files": listed}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def signed(manifest: bytes) -> bytes | None:
    """The manifest's signature, 64 bytes, with the key that the environment names; none is named: nothing.

    Raises:
        ParameterError: there is no Ed25519 private key in that file.
    """
    name = os.environ.get(KEY)
    if not name:
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(Path(name).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ParameterError(f"{KEY} names {name}, from which no private key can be read ({error}).") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ParameterError(f"{KEY} names {name}: expected an Ed25519 key. `openssl genpkey -algorithm ed25519`")
    return key.sign(manifest)


def publish(target: Path, files: dict[str, bytes]) -> None:
    """Put a folder with these files in the target's place, once a device would take it.

    Raises:
        ExportError: it would not.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folders.fill(Path(scratch), files)
        try:
            failures = _unproved(Path(scratch))
        except ValueError as error:
            raise ExportError(f"nothing published: {error}") from error
    if failures:
        raise ExportError(f"nothing published: {'; '.join(failures)}.")
    folders.replace(target, files)


def _unproved(folder: Path) -> list[str]:
    """What the models say otherwise than their golden vectors: the one that answers here, and the float one."""
    found, classifier = shipped.read(folder), seamline.Classifier(folder)
    failures = check.golden_failures(classifier, check.serving_golden(classifier, found))
    return failures + check.golden_failures(seamline.Classifier(folder / shipped.MODEL), shipped.golden(found))


def _table(version: int, files: dict[str, bytes], *, signed: bool) -> str:
    rows = "".join(f"| {name} | {len(content):,} bytes |\n" for name, content in sorted(files.items()))
    return f"| bundle | version {version}, {'signed' if signed else 'not signed'} |\n|---|---:|\n{rows}"
