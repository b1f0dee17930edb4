"""Turn the Keras model into one ONNX file, and prove that the two agree before anything is published.

The proof is against the very probabilities that evaluate measured. The file is the contract: raw pixels in,
probabilities out, and whatever a device must know in its metadata. Publishing is one rename after every check; until
then the file published before stays as it was.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

import seamline
from tasks import lean, probe, splits, trained
from tasks.arrays import CLASSES, SIDE, Images, Probabilities
from tasks.errors import ExportError, ParameterError
from tasks.files import digest_json, read_json, write_bytes, write_json, write_text
from tasks.params import Export

logger = logging.getLogger(__name__)

OPSET, IR = 17, 8  # onnxruntime 1.14 reads no later IR
STANDARD = {"", "ai.onnx"}  # domains of operators that every runtime has
PROBE_IMAGES = 64
PROBE_TIMEOUT_S = 120
LATENCY_RUNS = 300


def run(
    params: Export,
    normalised: Path,
    model_folder: Path,
    metrics_file: Path,
    verdict_file: Path,
    probabilities_file: Path,
    target: Path,
    report: Path,
    summary: Path,
) -> None:
    """Write what was found; then publish the file, or refuse."""
    metrics, verdict = read_json(metrics_file), read_json(verdict_file)
    model, description = trained.load(model_folder)
    _require_passed(verdict, description["weights"])
    test = splits.read(normalised, "test")
    content = convert(model, metadata(description, metrics, params))
    _require_old(content)
    expected = np.load(probabilities_file, allow_pickle=False)
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        candidate = Path(scratch) / "model.onnx"
        candidate.write_bytes(content)
        found = compare(_loaded(candidate, cores).probabilities(test.images), expected)
        reasons = disagreements(found, params.max_difference) or alone(candidate, test.images, expected, params)
        found["latency_us"] = latency_us(seamline.Classifier(candidate), test.images[:1])
    found |= {"bytes": len(content), "weights": description["weights"], "published": not reasons, "reasons": reasons}
    write_json(report, found)
    write_text(summary, _table(found))
    if reasons:
        raise ExportError(f"nothing published: {'; '.join(reasons)}. Report: {report}.")
    write_bytes(target, content)
    logger.info("export: %s, %s bytes, %s images agree", target, f"{len(content):,}", f"{found['images']:,}")


def convert(model: keras.Model, properties: dict[str, str]) -> bytes:
    """The ONNX file of a model that gives logits: softmax and metadata added, weights inside.

    Args:
        model: uint8 (n, 28, 28) → logits (n, 10); its last layer is the one that decides.
        properties: the file's metadata.

    Returns:
        The file: input `image` uint8 (n, 28, 28), outputs `probabilities` float32 (n, 10) and `embedding`
        float32 (n, k), what the last layer decides by; n free.

    Raises:
        ExportError: a layer has no counterpart in ONNX.
    """
    head = model.layers[-1]
    body = keras.Model(model.inputs, head.input)
    signature = [tf.TensorSpec((None, SIDE, SIDE), tf.uint8, name="image")]

    @tf.function(input_signature=signature)
    def classify(image: Any) -> dict[str, Any]:
        features = body(image, training=False)
        return {"probabilities": tf.nn.softmax(head(features)), "embedding": tf.cast(features, tf.float32)}

    proto, _ = tf2onnx.convert.from_function(classify, input_signature=signature, opset=OPSET)
    lean.lean(proto)
    proto.ir_version = IR
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.helper.set_model_props(proto, properties)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"nothing published: {str(error).strip().splitlines()[0]}.") from error
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def metadata(description: dict[str, Any], metrics: dict[str, Any], params: Export) -> dict[str, str]:
    """What the file says of itself; every value is a string, as ONNX wants it.

    Raises:
        ParameterError: the odds name something else than classes.
    """
    others = sorted(params.photograph_odds.keys() - set(CLASSES))
    if others:
        raise ParameterError(
            f"export.photograph_odds names {', '.join(others)}, expected {', '.join(CLASSES)}. Nothing published."
        )
    return {
        "classes": json.dumps(CLASSES),
        "input": "uint8 (n, 28, 28): grey, 0 black … 255 white, the garment bright on black, as in Fashion-MNIST",
        "output": "probabilities float32 (n, 10), of the classes in their order; embedding float32 (n, k)",
        "accuracy": f"{metrics['accuracy']:.4f}",
        "unknown_below": f"{description['unknown_below']:.6f}",
        "photograph_odds": json.dumps(params.photograph_odds),
        "data": digest_json(description["data"]),
        "parameters": digest_json(description["parameters"]),
        "weights": description["weights"],
        "version": seamline.__version__,
    }


def compare(found: Probabilities, expected: Probabilities) -> dict[str, Any]:
    """How far two sets of probabilities (n, 10) lie apart; a NaN anywhere makes the difference NaN."""
    return {
        "images": len(expected),
        "largest_difference": float(np.abs(found - expected).max()),
        "same_class": int((found.argmax(axis=1) == expected.argmax(axis=1)).sum()),
    }


def disagreements(found: dict[str, Any], limit: float) -> list[str]:
    """Why the file must not be published; none means that it says what Keras says."""
    reasons = []
    if not found["largest_difference"] <= limit:  # written so that NaN is a disagreement
        reasons.append(f"Keras and ONNX differ by {found['largest_difference']:.2g}, the limit is {limit:.2g}")
    if found["same_class"] != found["images"]:
        reasons.append(f"{found['images'] - found['same_class']} of {found['images']} images get another class")
    return reasons


def alone(model: Path, images: Images, expected: Probabilities, params: Export) -> list[str]:
    """Why the file does not work where there is nothing but numpy and onnxruntime; none means it does."""
    inputs, outputs = model.with_name("images.npy"), model.with_name("probabilities.npy")
    np.save(inputs, images[:PROBE_IMAGES])
    command = [sys.executable, "-I", str(probe.__file__), str(model), str(inputs), str(outputs)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        return [f"alone with numpy and onnxruntime: {(error.stderr.strip().splitlines() or ['no answer'])[-1]}"]
    except subprocess.TimeoutExpired:
        return [f"alone with numpy and onnxruntime: no answer within {PROBE_TIMEOUT_S} s"]
    found = compare(np.load(outputs, allow_pickle=False), expected[:PROBE_IMAGES])
    return [f"alone with numpy and onnxruntime: {reason}" for reason in disagreements(found, params.max_difference)]


def latency_us(classifier: seamline.Classifier, image: Images) -> float:
    """Median time for one image (1, 28, 28) on one thread, in microseconds."""
    times = []
    for _ in range(LATENCY_RUNS):
        start = time.perf_counter()
        classifier.probabilities(image)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) * 1e6, 1)


def _require_old(content: bytes) -> None:
    """Devices have old runtimes: a file is of the IR and operators that those read, whatever tf2onnx makes one day."""
    proto = onnx.load_from_string(content)
    operators = {node.domain for node in proto.graph.node} - STANDARD
    opsets = {entry.version for entry in proto.opset_import if entry.domain in STANDARD}
    if proto.ir_version > IR or opsets != {OPSET} or operators:
        foreign = f" and operators of {', '.join(sorted(operators))}" if operators else ""
        raise ExportError(
            f"nothing published: expected IR {IR} or less and opset {OPSET}. "
            f"Received IR {proto.ir_version}, opset {sorted(opsets)}{foreign}."
        )


def _loaded(candidate: Path, threads: int) -> seamline.Classifier:
    try:
        return seamline.Classifier(candidate, threads=threads)
    except ValueError as error:
        raise ExportError(f"nothing published: {error}") from error


def _require_passed(verdict: dict[str, Any], weights: str) -> None:
    if verdict.get("passed") is not True or verdict.get("weights") != weights:
        raise ExportError("the gate has not passed this model; nothing published. Run `dvc repro gate`.")


def _table(found: dict[str, Any]) -> str:
    said = "published" if found["published"] else "**not published**: " + "; ".join(found["reasons"])
    return (
        "| Keras against ONNX | |\n|---|---:|\n"
        f"| same class | {found['same_class']:,} of {found['images']:,} |\n"
        f"| largest difference of a probability | {found['largest_difference']:.2g} |\n"
        f"| file | {found['bytes']:,} bytes |\n"
        f"| latency, one image, one thread | {found['latency_us']:.0f} µs |\n\n{said}\n"
    )
