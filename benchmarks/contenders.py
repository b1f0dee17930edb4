"""Time models for one picture under several runtimes, in turn.

    python -m benchmarks.contenders THREADS SECONDS RIVAL MODEL…

RIVAL is a path without suffix: RIVAL.onnx and RIVAL.tflite are the same net. Each MODEL is a bundle's folder or an ONNX
file of ours, timed as users call it, `Classifier.classify`. Runs in an environment of its own, whose runtimes may be
absent; prints one line of JSON: name → runtime → median in microseconds.
"""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import seamline
from seamline import bench, sessions

IMAGE = np.random.default_rng(7).integers(0, 256, (1, 28, 28), dtype=np.uint8)
RIVAL = "rival"
IN_A_ROW = 50  # so that a large net does not leave a small one with cold caches
Call = Callable[[], object]


def main(threads: int, seconds: float, rival: Path, models: list[Path]) -> None:
    """Measure and print."""
    calls: dict[str, Call] = {f"{path}|ONNX Runtime": ours(path, threads) for path in models}
    calls[f"{RIVAL}|ONNX Runtime"] = onnx_runtime(rival.with_suffix(".onnx"), threads)
    if find_spec("openvino"):
        calls[f"{RIVAL}|OpenVINO"] = openvino(rival.with_suffix(".onnx"), threads)
    if find_spec("ai_edge_litert"):
        calls[f"{RIVAL}|LiteRT"] = litert(rival.with_suffix(".tflite"), threads)
    found: dict[str, dict[str, float]] = {}
    for name, latency in bench.in_turn(calls, seconds, IN_A_ROW).items():
        model, _, runtime = name.partition("|")
        found.setdefault(model, {})[runtime] = latency.median_us
    print(json.dumps(found))


def ours(path: Path, threads: int) -> Call:
    classifier = seamline.Classifier(path, threads)
    return lambda: classifier.classify(IMAGE)


def onnx_runtime(path: Path, threads: int) -> Call:
    session = sessions.open_model(path.read_bytes(), threads)
    return lambda: session.run(["probabilities"], {"image": IMAGE})


def openvino(path: Path, threads: int) -> Call:
    """Batch 1 fixed, which is faster there than a free one; float32; one stream."""
    import openvino as ov

    core = ov.Core()
    model: Any = core.read_model(path)
    model.reshape([1, 28, 28])
    numbers = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", numbers).create_infer_request()
    return lambda: request.infer({"image": IMAGE})["probabilities"]


def litert(path: Path, threads: int) -> Call:
    """With XNNPACK, which it takes by itself."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def call() -> object:
        interpreter.set_tensor(given, IMAGE)
        interpreter.invoke()
        return interpreter.get_tensor(answer)

    return call


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), list(map(Path, sys.argv[4:])))
