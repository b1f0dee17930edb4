"""Models opened in onnxruntime, and which one of a bundle answers: int8 where it is right on this very processor.

int8 kernels differ between processors (those without VNNI add pairs of products in 16 bits, which saturate), so that an
int8 model has to prove itself wherever it is opened; where it cannot, the float model beside it answers.

onnxruntime is imported only when a model is opened: its telemetry, on by default since 1.29, can only be switched off
before the import.
"""

import os
from hashlib import sha256
from typing import Any, NamedTuple

from seamline import bundle
from seamline.bundle import Bundle
from seamline.external import reaches_out

FLOAT, INT8 = "float32", "int8"
FATAL = 4  # of onnxruntime's severities


class Serving(NamedTuple):
    """The model that answers."""

    session: Any  # onnxruntime.InferenceSession
    digest: str  # SHA-256 of the file
    precision: str  # FLOAT or INT8
    int8_failures: list[str]  # why the bundle's int8 model does not answer here; nothing: it does, or there is none


def choose(found: Bundle, threads: int) -> Serving:
    """The int8 model of a bundle if it has one that answers its golden vectors here, else the float model.

    Raises:
        ValueError: the float model cannot be opened either.
    """
    reasons = []
    if bundle.MODEL_INT8 in found.files:
        try:
            session = open_model(found.files[bundle.MODEL_INT8], threads)
            reasons = _differences(session, found)
        except ValueError as error:  # of an onnxruntime that is too old for it, for instance
            reasons = [str(error)]
        if not reasons:
            return Serving(session, sha256(found.files[bundle.MODEL_INT8]).hexdigest(), INT8, [])
    return serve(found.files[bundle.MODEL], threads, FLOAT, reasons)


def serve(content: bytes, threads: int, precision: str, int8_failures: list[str]) -> Serving:
    """A model by its file's bytes."""
    return Serving(open_model(content, threads), sha256(content).hexdigest(), precision, int8_failures)


def open_model(content: bytes, threads: int) -> Any:
    """An ONNX file's bytes, ready to run: they are those that were verified, and point to no others beside them.

    Raises:
        ValueError: they do, or onnxruntime cannot load them; with onnxruntime's reason.
    """
    if reaches_out(content):  # before onnxruntime follows it
        raise ValueError("it is not one whole ONNX file")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it burns an idle kiosk's core
    options.add_session_config_entry("session.load_model_format", "ONNX")  # no format that was not looked through
    options.log_severity_level = FATAL  # errors are raised, and then said once
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except failures() as error:
        raise ValueError(gist(error)) from error


def _differences(session: Any, found: Bundle) -> list[str]:
    golden = bundle.golden(found, bundle.GOLDEN_INT8)
    try:
        answers = session.run(["probabilities"], {"image": golden.images})[0]
    except failures() as error:
        raise ValueError(gist(error)) from error
    return golden.differences(answers)


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its own classes derive from Exception alone, and newer releases have more of them."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (RuntimeError, *own)


def gist(error: Exception) -> str:
    """What onnxruntime says, in one line, without its codes."""
    return " ".join(str(error).split()).rpartition(" : ")[2][:300]
