"""Models opened in onnxruntime, and which one of a bundle answers: int8 where it is right on this very processor.

int8 kernels differ between processors (those without VNNI add pairs of products in 16 bits, which saturate), so that an
int8 model has to prove itself wherever it is opened; where it cannot, the float model beside it answers.

onnxruntime is imported only when a model is opened: its telemetry, on by default since 1.29, can only be switched off
before the import.
"""

import os
from typing import Any, NamedTuple

from seamline import bundle
from seamline.bundle import Bundle

FLOAT, INT8 = "float32", "int8"


class Serving(NamedTuple):
    """The model that answers."""

    session: Any  # onnxruntime.InferenceSession
    precision: str  # FLOAT or INT8
    int8_failures: list[str]  # why the bundle's int8 model does not answer here; nothing: it does, or there is none


def choose(found: Bundle, threads: int) -> Serving:
    """The int8 model of a bundle if it has one that answers its golden vectors here, else the float model.

    Raises:
        ValueError: the float model cannot be opened either.
    """
    failures = []
    if bundle.MODEL_INT8 in found.files:
        try:
            session = open_model(found.files[bundle.MODEL_INT8], threads)
            failures = _failures(session, found)
        except ValueError as error:  # of an onnxruntime that is too old for it, for instance
            failures = [str(error)]
        if not failures:
            return Serving(session, INT8, [])
    return Serving(open_model(found.files[bundle.MODEL], threads), FLOAT, failures)


def open_model(content: bytes, threads: int) -> Any:
    """An ONNX file's bytes, ready to run: they are those that were verified, and can point to no others beside them.

    Raises:
        ValueError: onnxruntime cannot load it; with onnxruntime's reason.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it burns an idle kiosk's core
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _refusals() as error:
        raise ValueError(_gist(error)) from error


def _failures(session: Any, found: Bundle) -> list[str]:
    golden = bundle.golden(found, bundle.GOLDEN_INT8)
    try:
        answers = session.run(["probabilities"], {"image": golden.images})[0]
    except _refusals() as error:
        raise ValueError(_gist(error)) from error
    return golden.differences(answers)


def _refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file it cannot load; its own classes derive from Exception alone."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        RuntimeError,
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.InvalidArgument,
        state.Fail,
        state.NotImplemented,
    )


def _gist(error: Exception) -> str:
    return " ".join(str(error).split()).rpartition(" : ")[2][:200]  # behind onnxruntime's codes
