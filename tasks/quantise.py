"""Make an int8 model of the exported one, and decide whether it is worth shipping.

It is if it loses next to nothing on the whole test set and is faster, or smaller by what a device notices. Static, per
channel, calibrated on training images. Weights take seven bits: processors without VNNI add pairs of products in
16 bits, and eight would saturate there. Not to ship it is no failure: the figures are written either way.

What later stages read, the folder, has no times in it; but its decision rests on one, so that another processor may
decide otherwise. The limit lies well away from what this one measures.
"""

import json
import logging
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import seamline
from tasks import folders, splits
from tasks.arrays import Images, Labels, Probabilities
from tasks.errors import ExportError
from tasks.files import read_json, write_json, write_text
from tasks.params import Quantise

logger = logging.getLogger(__name__)

MODEL, DECISION = "model.onnx", "decision.json"
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
LARGEST_BATCH = 64  # of calibration
ROUNDS = {1: 500, 64: 25}  # images in a call → calls of each model, in turn
WARM_UP = 5


class Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Training images, as onnxruntime's calibration asks for them: for its histograms all batches must be as large."""

    def __init__(self, images: Images) -> None:
        batch = max(size for size in range(1, LARGEST_BATCH + 1) if len(images) % size == 0)
        self._parts = iter(np.split(images, len(images) // batch))

    def get_next(self) -> dict[str, Images] | None:
        part = next(self._parts, None)
        return None if part is None else {"image": part}


class Compared(NamedTuple):
    """The int8 model beside the float model, on the same images."""

    images: int
    float_accuracy: float
    accuracy: float
    same_class: int
    largest_difference: float  # of a probability
    float_bytes: int
    bytes: int


def run(
    params: Quantise, normalised: Path, export_file: Path, exported: Path, target: Path, report: Path, summary: Path
) -> None:
    """Write the figures and the decision; the int8 model beside it if it is to ship."""
    export = read_json(export_file)
    if export["published"] is not True:
        raise ExportError("there is no exported file of this model to quantise. Run `dvc repro export`.")
    test, train = splits.read(normalised, "test"), splits.read(normalised, "train")
    with tempfile.TemporaryDirectory() as scratch:
        candidate = Path(scratch) / MODEL
        candidate.write_bytes(quantised(exported, calibration(train.images, params), params))
        models = seamline.Classifier(exported), seamline.Classifier(candidate)
        answers = [np.asarray(model.probabilities(test.images)) for model in models]
        found = compare(answers, test.labels, [path.stat().st_size for path in (exported, candidate)])
        latencies = {count: latencies_us(models, test.images[:count]) for count in ROUNDS}
        content = candidate.read_bytes()
    reasons = objections(found, latencies[1], params)
    decision = {"weights": export["weights"], "published": not reasons, **found._asdict()}
    text = json.dumps(decision, indent=2) + "\n"
    folders.replace(target, {DECISION: text.encode()} | ({} if reasons else {MODEL: content}))
    told = {f"latency_us_{count}": dict(zip(("float", "int8"), pair, strict=True)) for count, pair in latencies.items()}
    write_json(report, decision | told | {"reasons": reasons})
    write_text(summary, table(found, latencies, reasons))
    logger.info("quantise: %s", "; ".join(reasons) or f"{target}, {found.bytes:,} bytes")


def calibration(images: Images, params: Quantise) -> Images:
    """Training images drawn without repetition, (n, 28, 28) → (params.images, 28, 28); all where there are fewer."""
    count = min(params.images, len(images))
    chosen = np.random.default_rng(params.seed).choice(len(images), count, replace=False)
    return np.asarray(images[np.sort(chosen)])


def quantised(exported: Path, images: Images, params: Quantise) -> bytes:
    """The int8 file of a float file, with its input, outputs and metadata; activations uint8, weights int8.

    Args:
        exported: the float model, as export wrote it.
        images: to calibrate on, (n, 28, 28).
        params: the method.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepared, target = Path(scratch) / "prepared.onnx", Path(scratch) / MODEL
        quant_pre_process(exported, prepared, skip_symbolic_shape=True)  # which needs sympy and finds nothing more here
        quantize_static(
            prepared,
            target,
            Batches(images),
            quant_format=QuantFormat.QDQ,
            calibrate_method=METHODS[params.method],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=_last_steps(onnx.load(prepared)),
        )
        proto, original = onnx.load(target), onnx.load(exported)
    onnx.helper.set_model_props(proto, {entry.key: entry.value for entry in original.metadata_props})
    del proto.opset_import[:]  # onnxruntime's own domains, of which nothing is used
    proto.opset_import.extend(original.opset_import)
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _last_steps(proto: onnx.ModelProto) -> list[str]:
    """The nodes that make probabilities: in steps of 1/255 they would not sum to 1."""
    return [node.name for node in proto.graph.node if node.op_type == "Softmax"]


def compare(answers: list[Probabilities], labels: Labels, sizes_bytes: list[int]) -> Compared:
    """The float model and the int8 model, in this order: their answers (n, 10) to images of these labels, and sizes."""
    before, after = answers
    classes = before.argmax(axis=1), after.argmax(axis=1)
    return Compared(
        images=len(labels),
        float_accuracy=float((classes[0] == labels).mean()),
        accuracy=float((classes[1] == labels).mean()),
        same_class=int((classes[0] == classes[1]).sum()),
        largest_difference=float(np.abs(before - after).max()),
        float_bytes=sizes_bytes[0],
        bytes=sizes_bytes[1],
    )


def latencies_us(models: tuple[seamline.Classifier, ...], images: Images) -> list[float]:
    """Median time of a call with these images, one thread, in microseconds: of each model, called in turn."""
    times: list[list[float]] = [[] for _ in models]
    for _ in range(WARM_UP + ROUNDS[len(images)]):
        for model, taken in zip(models, times, strict=True):
            start = time.perf_counter()
            model.probabilities(images)
            taken.append(time.perf_counter() - start)
    return [round(float(np.median(taken[WARM_UP:])) * 1e6, 1) for taken in times]


def objections(found: Compared, latency_us: list[float], params: Quantise) -> list[str]:
    """Why the int8 model does not ship; none means that it does.

    Args:
        found: both models on the test images.
        latency_us: of one image: the float model's, the int8 model's.
        params: the limits.
    """
    lost, saved = found.float_accuracy - found.accuracy, found.float_bytes - found.bytes
    speedup = latency_us[0] / latency_us[1]
    reasons = []
    if not round(lost, 9) <= params.max_loss:  # 0.9302 - 0.9292 is a little more than 0.001
        reasons.append(f"it loses {100 * lost:.2f} points of accuracy, the limit is {100 * params.max_loss:.2f}")
    if not (speedup >= params.min_speedup or saved >= params.min_saved_bytes):
        reasons.append(
            f"it is {speedup:.2f} times as fast and saves {saved:,} bytes, "
            f"worth it from {params.min_speedup:g} times or {params.min_saved_bytes:,} bytes on"
        )
    return reasons


def table(found: Compared, latencies: dict[int, list[float]], reasons: list[str]) -> str:
    """The figures as Markdown."""
    said = "**not shipped**: " + "; ".join(reasons) if reasons else "shipped beside the float model"
    speeds = "".join(
        f"| {count} image{'s' * (count > 1)}, one thread | {pair[0]:,.0f} µs | {pair[1]:,.0f} µs |\n"
        for count, pair in latencies.items()
    )
    return (
        "| on the test set | float | int8 |\n|---|---:|---:|\n"
        f"| accuracy | {found.float_accuracy:.2%} | {found.accuracy:.2%} |\n"
        f"| file | {found.float_bytes:,} bytes | {found.bytes:,} bytes |\n"
        f"{speeds}"
        f"| same class | | {found.same_class:,} of {found.images:,} |\n"
        f"| largest difference of a probability | | {found.largest_difference:.2g} |\n\n{said}\n"
    )
